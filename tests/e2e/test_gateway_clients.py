"""The platform's own clients, pointed at a runtime with `--gateway` and nothing else changed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.admin import Admin
from tests.support.server import PROJECT, Server
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KEY = ("LTAIlocal", "sesame-open")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
CLIENTS = PROJECT / "tests" / "support" / "clients"
NODE_PACKAGES = ("@alicloud/fc20230330@4.7.6", "@alicloud/fc2@2.6.6")
#: They raise what others hand back: an error of the function.
RAISING = {"python fc2"}

#: A client by name; from calls to what came of them.
Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def python() -> Path:
    """Return an interpreter that has the Python clients, in an environment of theirs."""
    folder = PROJECT / f".venv-clients-{VERSION}"
    base = str(Path(sys.executable).resolve())
    make = [str(PROJECT / "tools" / "make-venv"), str(folder), base, "clients"]
    subprocess.run(make, check=True, timeout=500)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that has the Node clients, and the script that uses them."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not here")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text("{}")
    words = ["npm", "install", "--no-audit", "--no-fund", "--silent", *NODE_PACKAGES]
    installed = subprocess.run(words, cwd=folder, check=False, timeout=500)
    if installed.returncode:
        pytest.skip("npm cannot install the clients")
    shutil.copy(CLIENTS / "call.js", folder)
    return folder


@pytest.fixture(
    params=["python fc3", "python fc_open", "python fc2", "node fc3", "node fc2"]
)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ask(request: pytest.FixtureRequest, client: str, server: Server) -> Ask:
    language, _, name = client.partition(" ")
    if language == "python":
        command = [str(request.getfixturevalue("python")), str(CLIENTS / "call.py")]
    else:
        folder = request.getfixturevalue("node_folder")
        command = ["node", str(folder / "call.js")]

    def run(
        *calls: dict[str, Any], key: tuple[str, str] = KEY, port: int = 0
    ) -> list[dict[str, Any]]:
        made = [{"function": "fn", "service": "svc", **call} for call in calls]
        words = [*command, name, str(port or server.port), *key, json.dumps(made)]
        done = subprocess.run(
            words,
            capture_output=True,
            check=False,
            timeout=60,
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
        )
        assert done.returncode == 0, done.stderr.decode()
        outcomes: list[dict[str, Any]] = json.loads(done.stdout)
        return outcomes

    return run


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    options = ("--gateway", "--key", ":".join(KEY), "--admin", "127.0.0.1:0")
    with Server("called.handler", *options, "--timeout", "1") as started:
        started.wait_for_line("runtime inited")
        yield started


@pytest.fixture(scope="module")
def site() -> Iterator[Server]:
    options = ("--gateway", "--key", ":".join(KEY), "--http", "called.app")
    with Server(None, *options) as started:
        started.wait_for_line("runtime inited")
        yield started


def test_an_event_is_invoked_and_its_log_shown(ask: Ask) -> None:
    (plain, tailed) = ask(
        {"event": "hello"}, {"event": "print it", "headers": {"x-fc-log-type": "Tail"}}
    )
    assert (plain["status"], plain["body"]) == (200, "hello")
    headers = tailed["headers"]
    log = base64.b64decode(headers["x-fc-log-result"]).decode().splitlines()
    assert log[0] == f"FC Invoke Start RequestId: {headers['x-fc-request-id']}"
    assert log[1] == "printed it"
    assert int(headers["x-fc-invocation-duration"]) < 1000
    assert float(headers["x-fc-max-memory-usage"]) > 1
    assert headers["x-fc-instance-id"].startswith("worker-")


def test_a_qualifier_reaches_the_function(ask: Ask, client: str) -> None:
    (answered,) = ask({"event": "context", "qualifier": "prod"})
    seen = json.loads(answered["body"])
    assert (seen["name"], seen["qualifier"]) == ("fn", "prod")
    assert seen["service"] == ("" if client.endswith("fc3") else "svc")
    assert not seen["accessKeySecret"]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("raise oh", "oh"),
        ("exit", "Process exited unexpectedly before completing request"),
        ("hang", "Function timed out after 1 seconds"),
    ],
    ids=["an exception", "a crash", "a timeout"],
)
def test_an_error_of_the_function_is_told_as_one(
    ask: Ask, client: str, event: str, said: str
) -> None:
    (outcome,) = ask({"event": event})
    if client in RAISING:
        assert said in outcome["error"]["message"]
        return
    assert outcome["status"] == 200
    assert outcome["headers"]["x-fc-error-type"] == "UnhandledInvocationError"
    assert said in json.loads(outcome["body"])["errorMessage"]


def test_a_task_is_accepted_and_runs(ask: Ask, client: str, server: Server) -> None:
    asynchronous = {"x-fc-invocation-type": "Async"}
    (accepted,) = ask({"event": f"for {client}", "headers": asynchronous})
    assert accepted["body"] == ""
    if "fc2" not in client:
        assert accepted["status"] == 202
    rid = accepted["headers"]["x-fc-request-id"]
    admin = Admin(server)
    path = f"/async-invocations/{rid}"
    wait_until(lambda: admin.get(path).json()["status"] == "Succeeded", 10, "its end")
    assert admin.get(path).json()["result"] == f"for {client}"


def test_an_id_that_was_used_before_is_an_error(ask: Ask, client: str) -> None:
    task_id = client.replace(" ", "-")
    name = "x-fc-async-task-id"
    if client.endswith("fc2"):
        name = "x-fc-stateful-async-invocation-id"
    headers = {"x-fc-invocation-type": "Async", name: task_id}
    first, second = ask({"headers": headers}, {"headers": headers})
    assert "error" not in first
    assert "StatefulAsyncInvocationAlreadyExists" in str(second["error"])


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ((KEY[0], "wrong"), "SignatureNotMatch"),
        (("LTAIother", KEY[1]), "InvalidAccessKeyID"),
    ],
    ids=["a wrong secret", "an unknown id"],
)
def test_a_wrong_key_is_an_error_with_its_code(
    ask: Ask, key: tuple[str, str], code: str
) -> None:
    (refused,) = ask({"event": "hello"}, key=key)
    assert refused["error"]["code"] == code


def test_an_unknown_function_is_an_error_that_names_those_there_are(
    ask: Ask,
) -> None:
    env = {"FC_FUNCTION_NAME": "real"}
    options = ("--gateway", "--key", ":".join(KEY))
    with Server("called.handler", *options, env=env) as named:
        (refused,) = ask({"event": "hello"}, port=named.port)
    assert refused["error"]["code"] == "FunctionNotFound"
    assert "Served here: real" in refused["error"]["message"]


@pytest.mark.parametrize("client", ["python fc2", "node fc2"], indirect=True)
def test_an_http_function_is_asked_by_its_path(ask: Ask, site: Server) -> None:
    plain, queried = ask(
        {"path": "/hello/world"},
        {"path": "/a", "query": {"x": "1", "b": "two words"}},
        port=site.port,
    )
    seen = json.loads(plain["body"])
    assert seen["PATH_INFO"] == "/hello/world"
    assert "HTTP_AUTHORIZATION" not in seen
    seen = json.loads(queried["body"])
    assert set(seen["QUERY_STRING"].replace("%20", "+").split("&")) == {
        "x=1",
        "b=two+words",
    }
