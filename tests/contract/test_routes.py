"""Which request reaches what, and what every answer carries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.server import Server

EVERY_REQUEST = [
    pytest.param("POST", "/invoke", id="an event"),
    pytest.param("POST", "/initialize", id="the initializer"),
    pytest.param("GET", "/pre-stop", id="pre-stop"),
    pytest.param("POST", "/pre-stop", id="pre-stop posted"),
    pytest.param("GET", "/pre-freeze", id="pre-freeze"),
    pytest.param("POST", "/pre-freeze", id="pre-freeze posted"),
    pytest.param("GET", "/health", id="health"),
    pytest.param("GET", "/live", id="live"),
    pytest.param("GET", "/invoke", id="a wrong method"),
    pytest.param("GET", "/", id="an unknown path"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("echo.handler") as started:
        yield started


@pytest.mark.parametrize(("method", "path"), EVERY_REQUEST)
def test_every_answer_says_whose_it_is_and_how_long(
    server: Server, method: str, path: str
) -> None:
    reply = server.request(method, path, headers={"x-fc-request-id": "rid-1"})
    assert reply.headers.get_all("x-fc-request-id") == ["rid-1"]
    assert reply.headers.get_all("Content-Length") == [str(len(reply.body))]
    assert reply.headers["x-fc-status"] == ("200" if reply.status == 200 else "404")
    assert "Transfer-Encoding" not in reply.headers
    assert (reply.headers["Connection"] or "keep-alive").lower() == "keep-alive"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="absent"),
        pytest.param({"x-fc-request-id": ""}, id="empty"),
    ],
)
def test_a_request_without_an_id_gets_a_new_one(
    server: Server, headers: dict[str, str]
) -> None:
    ids = {server.invoke(b"x", headers).request_id for _ in range(3)}
    assert len(ids) == 3
    assert all(len(made) >= 16 for made in ids)


@pytest.mark.parametrize("control_path", [None, "", "/invoke"])
def test_an_event_reaches_the_handler(server: Server, control_path: str | None) -> None:
    headers = {} if control_path is None else {"x-fc-control-path": control_path}
    reply = server.invoke(b'{"k": 1}', headers)
    assert (reply.status, reply.body) == (200, b'{"k": 1}')
    assert reply.headers["Content-Type"] == "application/octet-stream"
    assert reply.headers["x-fc-status"] == "200"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/invoke"), ("POST", "/initialize"), ("GET", "/anything?x=1")],
)
def test_an_http_call_is_never_taken_for_an_event(
    server: Server, method: str, path: str
) -> None:
    reply = server.request(
        method, path, b"client data", {"X-Fc-Control-Path": "/http-invoke"}
    )
    assert reply.status == 404
    assert b"client data" not in reply.body
    assert b"event function" in reply.body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/initialize"),
        ("GET", "/pre-stop"),
        ("POST", "/pre-stop"),
        ("GET", "/pre-freeze"),
        ("POST", "/pre-freeze"),
    ],
)
def test_a_hook_that_is_not_configured_succeeds_with_nothing(
    server: Server, method: str, path: str
) -> None:
    reply = server.request(method, path)
    assert (reply.status, reply.body) == (200, b"")


def test_health_and_live_answer_while_it_serves(server: Server) -> None:
    health, live = server.request("GET", "/health"), server.request("GET", "/live")
    assert health.status == live.status == 200
    assert isinstance(health.json(), dict)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("POST", "/"),
        ("GET", "/favicon.ico"),
        ("POST", "/invoke/"),
        ("POST", "/2016-08-15/proxy/svc/fn/path"),
        ("POST", "//invoke"),
    ],
)
def test_an_unknown_path_explains_how_to_call(
    server: Server, method: str, path: str
) -> None:
    reply = server.request(method, path)
    assert reply.status == 404
    assert reply.headers["Content-Type"] == "application/json"
    assert isinstance(reply.json(), dict)
    text = reply.body.decode().lower()
    for wanted in ("event function", "post /invoke", "browser", "curl", "fcapp.run"):
        assert wanted in text, wanted


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/invoke", {"POST"}),
        ("HEAD", "/invoke", {"POST"}),
        ("PUT", "/invoke", {"POST"}),
        ("DELETE", "/invoke", {"POST"}),
        ("OPTIONS", "/invoke", {"POST"}),
        ("BREW", "/invoke", {"POST"}),
        ("GET", "/initialize", {"POST"}),
        ("PUT", "/pre-stop", {"GET", "POST"}),
        ("DELETE", "/pre-freeze", {"GET", "POST"}),
        ("POST", "/health", {"GET"}),
        ("POST", "/live", {"GET"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    server: Server, method: str, path: str, allowed: set[str]
) -> None:
    reply = server.request(method, path, b"" if method in ("PUT", "POST") else None)
    assert reply.status == 405
    assert allowed <= {word.strip() for word in reply.headers["Allow"].split(",")}
    assert method not in reply.headers["Allow"].split(", ")
    assert server.invoke(b"next").body == b"next"


@pytest.mark.parametrize("path", ["/health", "/live", "/", "/invoke"])
def test_an_answer_to_head_has_no_body(server: Server, path: str) -> None:
    with server.raw() as connection:
        connection.send(
            f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n"
            "POST /invoke HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nnext".encode()
        )
        head = connection.answer("HEAD")
        assert head.status == {"/": 404, "/invoke": 405}.get(path, 200)
        assert connection.answer().body == b"next"


def test_a_query_does_not_hide_a_path(server: Server) -> None:
    assert server.request("POST", "/invoke?a=1", b"event").body == b"event"


def test_no_answer_shows_the_inside(server: Server) -> None:
    for reply in (
        server.request("GET", "/nowhere"),
        server.request("PUT", "/invoke", b""),
        server.invoke(b"x"),
    ):
        assert "waitress" not in (reply.headers["Server"] or "").lower()
        assert b"Traceback" not in reply.body
        assert b"waitress" not in reply.body.lower()
