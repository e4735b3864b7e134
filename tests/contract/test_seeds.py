"""The samples of the two documents this project implements, served as they stand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.mini_oss import MiniOss
from tests.support.server import EXAMPLES, PROJECT, Serve, Server


def test_bootstrap_serves_the_json_sample_by_default(serve: Serve) -> None:
    server = serve(code_dir=EXAMPLES, command=[str(PROJECT / "bootstrap")])
    reply = server.invoke(b'{\n  "key": "value"\n}')
    assert (reply.status, reply.body) == (200, b"value")


def test_bootstrap_gives_way_to_the_front_end(serve: Serve) -> None:
    server = serve(code_dir=EXAMPLES, command=[str(PROJECT / "bootstrap")])
    assert "python" in server.front_end.name()
    assert server.stop() == 0


def test_the_hello_sample_prints_between_its_lines(serve: Serve) -> None:
    server = serve("hello.handler", code_dir=EXAMPLES)
    assert server.invoke(b"event", request_id="rid").body == b"Hello, World!"
    assert server.log_of("rid") == [
        "FC Invoke Start RequestId: rid",
        "b'event'",
        "FC Invoke End RequestId: rid",
    ]


def test_the_command_sample_lists_the_code_directory(serve: Serve) -> None:
    listing = serve("shell.handler", code_dir=EXAMPLES).invoke().body.decode()
    assert listing.startswith("total ")
    assert "index.py" in listing


@pytest.mark.parametrize(
    ("way", "cause", "signal", "code"),
    [
        ("exit", "exit", None, 7),
        ("kill", "signal", "SIGKILL", None),
        ("segfault", "signal", "SIGSEGV", None),
    ],
)
def test_the_crash_example_is_answered(
    serve: Serve, way: str, cause: str, signal: str | None, code: int | None
) -> None:
    server = serve("crash.handler", code_dir=EXAMPLES)
    details = server.invoke(way).json()["details"]
    assert (details["cause"], details["signal"], details["exitCode"]) == (
        cause,
        signal,
        code,
    )
    assert server.invoke("raise").error_type == "ValueError"


@pytest.fixture(scope="module")
def oss_sample() -> Iterator[Server]:
    pytest.importorskip("oss2", reason="the OSS sample needs the oss2 package")
    with Server("oss.handler", code_dir=EXAMPLES) as server:
        yield server


@pytest.fixture
def oss() -> Iterator[MiniOss]:
    with MiniOss().serving() as service:
        yield service


def credentials(oss: MiniOss, **other: str) -> dict[str, str]:
    return {
        "x-fc-access-key-id": oss.access_key_id,
        "x-fc-access-key-secret": oss.access_key_secret,
        "x-fc-security-token": oss.security_token,
        **{"x-fc-" + name.replace("_", "-"): value for name, value in other.items()},
    }


def event(oss: MiniOss) -> bytes:
    names = {
        "endpoint": oss.endpoint,
        "bucket": "my-bucket",
        "objectName": "oss-test-object",
        "message": "oss-test-content",
    }
    return json.dumps(names).encode()


def test_the_oss_sample_stores_its_object(oss_sample: Server, oss: MiniOss) -> None:
    reply = oss_sample.invoke(event(oss), credentials(oss))
    assert (reply.status, reply.body) == (200, b"success")
    assert oss.objects == {("my-bucket", "oss-test-object"): b"oss-test-content"}


@pytest.mark.parametrize(
    ("other", "refusal"),
    [
        ({"access_key_secret": "wrong"}, "SignatureDoesNotMatch"),
        ({"security_token": "wrong"}, "InvalidSecurityToken"),
        ({"access_key_id": "STS.other"}, "InvalidAccessKeyId"),
    ],
    ids=["a wrong secret", "a wrong token", "an unknown key"],
)
def test_the_oss_sample_fails_with_wrong_credentials(
    oss_sample: Server, oss: MiniOss, other: dict[str, str], refusal: str
) -> None:
    reply = oss_sample.invoke(event(oss), credentials(oss, **other))
    failure: dict[str, Any] = reply.json()
    assert reply.status == 404
    assert refusal in failure["errorMessage"]
    assert failure["stackTrace"][0][2] == "in handler"
    assert oss.refusals == [refusal]
    assert oss.objects == {}


@pytest.mark.parametrize("empty", [True, False], ids=["empty", "absent"])
def test_the_oss_sample_fails_without_a_token(
    oss_sample: Server, oss: MiniOss, empty: bool
) -> None:
    headers = credentials(oss)
    del headers["x-fc-security-token"]
    if empty:
        headers["x-fc-security-token"] = ""
    reply = oss_sample.invoke(event(oss), headers)
    assert reply.status == 404
    assert reply.json()["stackTrace"]
    assert oss.objects == {}
