"""Requests of every shape that HTTP allows, and connections that outlive errors."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from tests.support.server import Reply, Serve, Server, exchange

MB = 1024 * 1024
LIMIT = 32 * MB


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("echo.handler") as started:
        yield started


def ask(event: bytes, *headers: str, version: str = "1.1") -> bytes:
    """Return the bytes of a request to /invoke."""
    head = [
        f"POST /invoke HTTP/{version}",
        "Host: x",
        f"Content-Length: {len(event)}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(head).encode() + event


def test_an_empty_event_is_an_event(server: Server) -> None:
    assert server.invoke(b"").body == b""
    with server.raw() as connection:
        connection.send(b"POST /invoke HTTP/1.1\r\nHost: x\r\n\r\n")
        reply = connection.answer()
    assert (reply.status, reply.body) == (200, b"")


def test_all_byte_values_pass_unchanged(server: Server) -> None:
    event = bytes(range(256)) * 3
    assert server.invoke(event).body == event


@pytest.mark.parametrize(
    "content_type",
    ["application/octet-stream", "application/json", "multipart/form-data", "?", ""],
)
def test_the_content_type_does_not_matter(server: Server, content_type: str) -> None:
    reply = server.invoke(b"a=1&b", {"Content-Type": content_type})
    assert (reply.status, reply.body) == (200, b"a=1&b")


def test_a_chunked_event_arrives_whole(server: Server) -> None:
    reply = server.request(
        "POST",
        "/invoke",
        iter([b"in ", b"three ", b"chunks"]),
        {"Transfer-Encoding": "chunked"},
    )
    assert (reply.status, reply.body) == (200, b"in three chunks")


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 1_048_561, 5 * MB])
def test_events_around_every_buffer_size_come_back(server: Server, size: int) -> None:
    event = bytes(size - 1) + b"!"
    assert server.invoke(event).body == event


def test_the_largest_event_and_answer_pass(server: Server) -> None:
    event = b"0123456789abcdef" * (LIMIT // 16)
    reply = server.invoke(event)
    assert reply.status == 200
    assert reply.body == event


def test_a_larger_event_is_refused_and_the_connection_lives_on(server: Server) -> None:
    reply = server.invoke(b"x" * (LIMIT + 1))
    assert reply.status == 413
    assert reply.error_type == "EventTooLarge"
    assert reply.headers["x-fc-status"] == "404"
    assert reply.headers["Content-Type"] == "application/json"
    assert server.invoke(b"next").body == b"next"


def test_a_larger_chunked_event_is_refused_likewise(server: Server) -> None:
    chunks = (b"x" * MB for _ in range(33))
    reply = server.request("POST", "/invoke", chunks, {"Transfer-Encoding": "chunked"})
    assert (reply.status, reply.error_type) == (413, "EventTooLarge")
    assert server.once("POST", "/invoke", b"next").body == b"next"


def test_a_connection_outlives_errors(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.connect()
    first = connection.sock
    replies: list[Reply] = []
    for method, path in [
        ("GET", "/nowhere"),
        ("PUT", "/invoke"),
        ("POST", "/invoke"),
        ("POST", "/nowhere"),
        ("POST", "/invoke"),
    ]:
        replies.append(exchange(connection, method, path, b"event"))
    assert [reply.status for reply in replies] == [404, 405, 200, 404, 200]
    assert connection.sock is first
    connection.close()


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    events = [b"first", b"", b"third" * 1000, b"fourth", b"fifth"]
    with server.raw() as connection:
        connection.send(b"".join(ask(event) for event in events))
        assert [connection.answer().body for _ in events] == events


def test_a_request_may_come_byte_by_byte(server: Server) -> None:
    with server.raw() as connection:
        for byte in ask(b"slow"):
            connection.send(bytes([byte]))
        assert connection.answer().body == b"slow"


def test_an_old_client_is_answered_and_let_go(server: Server) -> None:
    with server.raw() as connection:
        connection.send(ask(b"old", version="1.0"))
        reply = connection.answer()
        assert (reply.status, reply.body) == (200, b"old")
        assert connection.is_closed_by_peer()


def test_an_old_client_may_ask_to_stay(server: Server) -> None:
    with server.raw() as connection:
        for event in (b"one", b"two"):
            connection.send(ask(event, "Connection: keep-alive", version="1.0"))
            assert connection.answer().body == event


def test_a_client_that_wants_to_leave_is_let_go(server: Server) -> None:
    with server.raw() as connection:
        connection.send(ask(b"bye", "Connection: close"))
        assert connection.answer().body == b"bye"
        assert connection.is_closed_by_peer()


def test_a_client_that_expects_to_be_told_to_go_on_is_told(server: Server) -> None:
    request = ask(b"after 100", "Expect: 100-continue")
    head, _, event = request.partition(b"\r\n\r\n")
    with server.raw() as connection:
        connection.send(head + b"\r\n\r\n")
        assert connection.answer().status == 100
        connection.send(event)
        reply = connection.answer()
    assert (reply.status, reply.body) == (200, b"after 100")


def test_header_names_have_no_case(server: Server) -> None:
    for name in ("x-fc-request-id", "X-Fc-Request-Id", "X-FC-REQUEST-ID"):
        assert server.invoke(b"", {name: "same"}).request_id == "same"


@pytest.mark.parametrize("value", ["", "abc", "-1", "1e9", "0x10", "9" * 400, "٣"])
@pytest.mark.parametrize(
    "name",
    [
        "x-fc-function-memory",
        "x-fc-function-timeout",
        "x-fc-initialization-timeout",
        "x-fc-retry-count",
    ],
)
def test_a_number_that_is_none_costs_nothing(
    server: Server, name: str, value: str
) -> None:
    with server.raw() as connection:
        head = ask(b"event").replace(
            b"Host: x", b"Host: x\r\n" + f"{name}: {value}".encode()
        )
        connection.send(head)
        reply = connection.answer()
    assert (reply.status, reply.body) == (200, b"event")


def test_headers_that_are_no_utf8_harm_nobody(server: Server) -> None:
    with server.raw() as connection:
        connection.send(
            ask(b"one").replace(b"Host: x", b"Host: x\r\nx-fc-function-name: \xff\xfe")
        )
        assert connection.answer().body == b"one"
        connection.send(ask(b"two"))
        assert connection.answer().body == b"two"


@pytest.mark.parametrize(
    "request_head",
    [
        "NONSENSE",
        "POST /invoke HTTP/1.1\r\nContent-Length: -1",
        "POST /invoke HTTP/1.1\r\nContent-Length: many",
        "POST /invoke HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: gzip",
        "POST /invoke HTTP/1.1\r\nno colon",
        "POST /invoke HTTP/1.1\r\nX: " + "x" * 300_000,
    ],
    ids=[
        "no HTTP at all",
        "a negative length",
        "a length that is none",
        "an unknown encoding",
        "a header without a colon",
        "endless headers",
    ],
)
def test_a_malformed_request_is_refused_and_the_next_client_served(
    serve: Serve, request_head: str
) -> None:
    server = serve("echo.handler")
    with server.raw() as connection:
        connection.send(f"{request_head}\r\n\r\n".encode())
        reply = connection.answer()
        assert reply.status in (400, 413, 431, 501)
        assert reply.request_id
        assert isinstance(reply.json(), dict)
        assert connection.is_closed_by_peer()
    assert server.once("POST", "/invoke", b"next").body == b"next"


def test_a_client_that_leaves_early_costs_nobody_anything(server: Server) -> None:
    with server.raw() as connection:
        connection.send(ask(b"x" * 100)[:-50])
    with server.raw() as connection:
        connection.send(ask(b"never read"))
    assert server.once("POST", "/invoke", b"next").body == b"next"


def test_a_response_over_its_limit_is_a_typed_error() -> None:
    with Server("echo.handler", "--max-response", "1") as server:
        assert server.invoke(b"x" * MB).status == 200
        reply = server.invoke(b"x" * (MB + 1))
        assert (reply.status, reply.error_type) == (404, "ResponseTooLarge")
        assert server.invoke(b"next").body == b"next"
