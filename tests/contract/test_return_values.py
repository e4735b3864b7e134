"""What a handler returns and what the caller gets: fc-contract.md 4.4, row by row.

The bytes are written out by hand, so that a change of the encoder cannot change them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.server import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("returns.handler") as started:
        yield started


@pytest.mark.parametrize(
    ("returned", "body"),
    [
        ("text", b"caf\xc3\xa9 \xe2\x9d\x84"),
        ("empty text", b""),
        ("bytes", bytes(range(256))),
        ("empty bytes", b""),
        ("bytearray", b"\x00array"),
        ("memoryview", b"\x00view"),
        (
            "dict",
            b"{\n"
            b'    "a": [\n'
            b"        1,\n"
            b"        2,\n"
            b'        "\\u00e9"\n'
            b"    ],\n"
            b'    "b": 1\n'
            b"}",
        ),
        ("list", b'[\n    1,\n    {\n        "x": null\n    }\n]'),
        (
            "list of dicts",
            b'[\n    {\n        "a": 1\n    },\n    {\n        "a": 2\n    }\n]',
        ),
        ("empty list", b"[]"),
        ("empty dict", b"{}"),
        ("tuple", b'[\n    200,\n    "body"\n]'),
        ("none", b"null"),
        ("true", b"true"),
        ("false", b"false"),
        ("integer", b"3"),
        ("float", b"1.5"),
        ("nan", b"NaN"),
        ("infinity", b"Infinity"),
        ("decimal", b"1.5"),
        ("datetime", b'"2026-01-02T03:04:05"'),
        ("date", b'"2026-01-02"'),
        (
            "nested",
            b"{\n"
            b'    "price": 1.5,\n'
            b'    "when": "2026-01-02",\n'
            b'    "who": {\n'
            b'        "a": 1,\n'
            b'        "b": 2\n'
            b"    }\n"
            b"}",
        ),
        ("to_json", b'{\n    "a": 1,\n    "b": 2\n}'),
    ],
)
def test_a_value_becomes_these_bytes(
    server: Server, returned: str, body: bytes
) -> None:
    reply = server.invoke(returned)
    assert reply.body == body
    assert reply.status == 200
    assert reply.headers["x-fc-status"] == "200"
    assert reply.headers["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("returned", "error_type", "message"),
    [
        ("set", "TypeError", "{1} is not JSON serializable"),
        ("object", "TypeError", "<named> is not JSON serializable"),
        ("nested object", "TypeError", "<named> is not JSON serializable"),
        ("nested bytes", "TypeError", "b'x' is not JSON serializable"),
        (
            "mixed keys",
            "TypeError",
            "'<' not supported between instances of 'str' and 'int'",
        ),
        ("circular", "ValueError", "Circular reference detected"),
        (
            "lone surrogate",
            "UnicodeEncodeError",
            "'utf-8' codec can't encode character '\\ud800' in position 0: "
            "surrogates not allowed",
        ),
    ],
)
def test_what_cannot_be_encoded_is_a_function_error(
    server: Server, returned: str, error_type: str, message: str
) -> None:
    reply = server.invoke(returned)
    assert reply.status == 404
    assert reply.headers["x-fc-status"] == "404"
    assert reply.headers["Content-Type"] == "application/json"
    assert (reply.error_type, reply.json()["errorMessage"]) == (error_type, message)


@pytest.mark.parametrize(
    ("returned", "beginning"),
    [("generator", "<generator object "), ("lock", "<unlocked _thread.lock object ")],
)
def test_an_object_with_an_address_is_named_in_the_error(
    server: Server, returned: str, beginning: str
) -> None:
    reply = server.invoke(returned)
    assert (reply.status, reply.error_type) == (404, "TypeError")
    message = reply.json()["errorMessage"]
    assert message.startswith(beginning)
    assert message.endswith("> is not JSON serializable")


def test_an_object_that_cannot_even_be_named_is_a_function_error(
    server: Server,
) -> None:
    reply = server.invoke("unprintable")
    assert reply.status == 404
    assert reply.error_type in ("TypeError", "RuntimeError")
    assert server.invoke("true").body == b"true"


def test_a_failure_to_encode_keeps_the_worker_and_logs_one_end(server: Server) -> None:
    server.invoke("lone surrogate", request_id="one-end")
    log = server.log_of("one-end")
    assert (
        log[-1] == "FC Invoke End RequestId: one-end, Error: Unhandled function error"
    )
    assert server.invoke("true").body == b"true"


def test_an_async_handler_is_awaited() -> None:
    with Server("awaited.handler") as server:
        for event in ("once", "again"):
            assert server.invoke(event).json() == {"awaited": event}
