"""HTTP functions: WSGI and ASGI applications behind any method and path."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Reply, Serve, Server
from tests.waiting import wait_until

PLATFORM = {"x-fc-control-path": "/http-invoke"}
MB = 1 << 20


@pytest.fixture(scope="module")
def wsgi() -> Iterator[Server]:
    with Server(
        None, "--http", "served.wsgi.application", "--max-response", "4"
    ) as server:
        yield server


@pytest.fixture(scope="module")
def asgi() -> Iterator[Server]:
    with Server(None, "--http", "served.asgi.application") as server:
        yield server


@pytest.fixture(scope="module", params=["wsgi", "asgi"])
def either(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


def get(server: Server, path: str, **headers: str) -> Reply:
    return server.request("GET", path, headers=headers)


class Streamed:
    """An answer that is read piece by piece, on a connection of its own."""

    def __init__(self, server: Server, path: str, version: str = "1.1") -> None:
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", server.port, timeout=20
        )
        if version == "1.0":
            self._connection._http_vsn = 10  # type: ignore[attr-defined]
            self._connection._http_vsn_str = "HTTP/1.0"  # type: ignore[attr-defined]
        self._connection.request("GET", path)
        self.response = self._connection.getresponse()

    def __enter__(self) -> Streamed:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


# What an application is asked.


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]
)
def test_any_method_and_path_is_the_application_s(wsgi: Server, method: str) -> None:
    body = b"the body" if method in ("POST", "PUT", "PATCH") else None
    reply = wsgi.request(method, "/a%20b/%C3%A9?x=1&y=%20", body)
    told = reply.json()
    assert reply.status == 200
    assert told["REQUEST_METHOD"] == method
    # As PEP 3333 has it: the bytes, decoded as latin-1.
    assert told["PATH_INFO"].encode("latin-1").decode() == "/a b/é"
    assert told["QUERY_STRING"] == "x=1&y=%20"
    assert told["fc.request_uri"] == "/a%20b/%C3%A9?x=1&y=%20"
    assert told["body"] == ("the body" if body else "")


def test_headers_and_context_reach_a_wsgi_application(wsgi: Server) -> None:
    told = wsgi.request(
        "POST",
        "/",
        b"abc",
        {
            **PLATFORM,
            "Host": "example.org:8443",
            "Content-Type": "text/x",
            "X-Mine": "yes",
            "Proxy": "http://evil",
            "X-Forwarded-Proto": "https",
            "x-fc-request-id": "id-1",
            "x-fc-function-name": "pages",
            "x-fc-client-ip": "203.0.113.9",
        },
    ).json()
    assert told["HTTP_X_MINE"] == "yes"
    assert (told["CONTENT_TYPE"], told["CONTENT_LENGTH"]) == ("text/x", "3")
    assert (told["SERVER_NAME"], told["SERVER_PORT"]) == ("example.org", "8443")
    assert told["wsgi.url_scheme"] == "https"
    assert told["REMOTE_ADDR"] == "203.0.113.9"
    assert (told["request_id"], told["function"]) == ("id-1", "pages")
    assert "HTTP_PROXY" not in told
    assert "HTTP_CONTENT_LENGTH" not in told


def test_a_path_to_the_function_is_not_the_application_s(wsgi: Server) -> None:
    base = "/2016-08-15/proxy/svc/fn"
    told = wsgi.request(
        "GET", f"{base}/page", headers={**PLATFORM, "x-fc-base-path": f"{base}/"}
    ).json()
    assert (told["SCRIPT_NAME"], told["PATH_INFO"]) == (base, "/page")


def test_the_control_path_wins_over_the_runtime_s_own_paths(wsgi: Server) -> None:
    for path in ("/invoke", "/health", "/initialize"):
        told = wsgi.request("GET", path, headers=PLATFORM).json()
        assert told["PATH_INFO"] == path
    assert get(wsgi, "/health").json() == {"status": "ok"}


def test_an_application_alone_takes_no_events(wsgi: Server) -> None:
    reply = wsgi.invoke(b"event")
    assert reply.status == 404
    assert "HTTP function" in reply.json()["errorMessage"]


def test_an_application_may_stand_beside_a_handler(serve: Serve) -> None:
    server = serve("served.wsgi.event_handler", "--http", "served.wsgi.application")
    assert server.invoke(b"event").body == b"event"
    assert get(server, "/page").json()["PATH_INFO"] == "/page"


def test_a_handler_may_be_the_application_as_on_the_built_in_runtime(
    serve: Serve,
) -> None:
    server = serve("served.wsgi.handler")
    told = server.request("GET", "/page", headers=PLATFORM).json()
    assert told["PATH_INFO"] == "/page"
    # Off the platform paths are the runtime's, until --http says otherwise.
    assert get(server, "/page").status == 404


def test_a_handler_for_events_is_none(serve: Serve) -> None:
    server = serve("served.wsgi.event_handler")
    reply = server.request("GET", "/page", headers=PLATFORM)
    assert reply.status == 404
    assert "This is an event function" in reply.json()["errorMessage"]
    assert server.invoke(b"event").body == b"event"


def test_what_is_no_application_does_not_load(serve: Serve) -> None:
    server = serve(None, "--http", "served.wsgi.not_an_application")
    failure = get(server, "/").json()
    assert failure["errorType"] == "HandlerNotFound"
    assert "'int' object is no WSGI or ASGI application" in failure["errorMessage"]


def test_the_scope_of_an_asgi_application_is_all_there(asgi: Server) -> None:
    reply = asgi.request(
        "PUT",
        "/a%20b/%C3%A9?x=1",
        b"the body",
        {**PLATFORM, "X-Kept": "yes", "x-fc-request-id": "id-2"},
    )
    assert (reply.status, reply.headers["x-told"]) == (201, "yes")
    assert reply.body.decode() == repr(
        (
            "PUT",
            "/a b/é",
            b"/a%20b/%C3%A9",
            b"x=1",
            "",
            b"yes",
            b"the body",
            "id-2",
            ["lifespan.startup"],
        )
    )


@pytest.mark.parametrize("size", [0, 1, 65536, 3 * MB], ids=str)
def test_bodies_of_any_size_arrive_and_leave(wsgi: Server, size: int) -> None:
    body = os.urandom(size)
    told = wsgi.request("POST", "/", body).json()
    assert told["digest"] == hashlib.sha256(body).hexdigest()
    reply = get(wsgi, f"/large?{size}")
    assert reply.headers["Content-Length"] == str(size)
    assert reply.body == b"y" * size


# What it answers.


def test_status_and_headers_pass_through_but_for_those_not_its_to_set(
    wsgi: Server,
) -> None:
    reply = get(wsgi, "/headers")
    assert (reply.status, reply.body) == (201, b"made")
    names = [name.lower() for name in reply.headers]
    assert reply.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert reply.headers["X-Kept"] == "yes"
    assert reply.headers["Server"] == "mine"
    assert reply.headers["Content-Disposition"] == "attachment; filename=a"
    assert "x-fc-secret" not in names
    assert names.count("x-fc-request-id") == names.count("date") == 1
    assert reply.request_id != "forged"
    assert "yesterday" not in str(reply.headers)
    assert not {"connection", "keep-alive"} & set(names)


def test_the_platform_s_forbidden_headers_are_dropped_where_it_asks(
    wsgi: Server,
) -> None:
    reply = wsgi.request("GET", "/headers", headers=PLATFORM)
    assert reply.headers["X-Kept"] == "yes"
    assert "Server" not in reply.headers
    assert "Content-Disposition" not in reply.headers


def test_the_phrase_of_a_status_is_its_own(wsgi: Server) -> None:
    with wsgi.raw() as connection:
        connection.send(b"GET /headers HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection._incoming.readline() == b"HTTP/1.1 201 Made It\r\n"


def test_a_failure_of_its_own_is_its_answer_and_no_failure_of_ours(
    wsgi: Server,
) -> None:
    reply = wsgi.request("GET", "/fails", headers={"x-fc-request-id": "own-1"})
    assert (reply.status, reply.body) == (503, b"my own failure")
    assert wsgi.log_of("own-1")[-1] == "FC Invoke End RequestId: own-1"


def test_an_answer_to_head_has_the_length_and_not_the_body(wsgi: Server) -> None:
    reply = wsgi.request("HEAD", "/large?1000")
    assert (reply.headers["Content-Length"], reply.body) == ("1000", b"")
    assert get(wsgi, "/writes").body == b"written, returned"


@pytest.mark.parametrize(("path", "status"), [("/empty", 204), ("/not-modified", 304)])
def test_an_answer_without_a_body_has_no_length_either(
    wsgi: Server, path: str, status: int
) -> None:
    reply = get(wsgi, path)
    assert (reply.status, reply.body) == (status, b"")
    assert "Content-Length" not in reply.headers
    assert get(wsgi, path).status == status


def test_a_start_may_be_taken_back_before_anything_was_sent(wsgi: Server) -> None:
    reply = get(wsgi, "/starts-over")
    assert (reply.status, reply.body) == (500, b"sorry")
    assert "X-First" not in reply.headers
    assert reply.headers["X-Second"] == "2"


def test_output_belongs_to_its_request(wsgi: Server) -> None:
    get(wsgi, "/", **{"x-fc-request-id": "told-1"})
    assert wsgi.log_of("told-1")[1] == "telling"


# Failures.


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("/raises", "ValueError", "a secret of the house"),
        ("/silent", "AssertionError", "did not call start_response"),
        ("/text", "TypeError", "a body is made of bytes, not of str objects"),
        ("/splits-header", "ValueError", "header X-Evil has a value"),
        ("/bad-status", "ValueError", "does not begin with a number"),
    ],
)
def test_what_it_raises_is_a_500_without_its_stack(
    wsgi: Server, path: str, kind: str, message: str
) -> None:
    reply = wsgi.request("GET", path, headers={"x-fc-request-id": f"raised{path}"})
    failure = reply.json()
    assert (reply.status, reply.headers["x-fc-status"]) == (500, "404")
    assert failure.keys() == {"errorType", "errorMessage"}
    assert failure["errorType"] == kind
    assert message in failure["errorMessage"]
    log = "\n".join(wsgi.log_of(f"raised{path}"))
    assert kind in log
    assert ("in raises" in log) == (path == "/raises")
    assert get(wsgi, "/").status == 200


@pytest.mark.parametrize(
    ("details", "keys", "told"),
    [
        ("none", {"errorType", "errorMessage"}, "The application failed"),
        ("full", {"errorType", "errorMessage", "stackTrace"}, "a secret"),
    ],
)
def test_how_much_a_stranger_is_told_is_a_setting(
    serve: Serve, details: str, keys: set[str], told: str
) -> None:
    server = serve(
        None, "--http", "served.wsgi.application", "--error-details", details
    )
    failure = get(server, "/raises").json()
    assert failure.keys() == keys
    assert failure["errorMessage"].startswith(told)


def test_a_death_is_a_bad_gateway_whatever_events_are_answered(wsgi: Server) -> None:
    reply = get(wsgi, "/exits")
    assert (reply.status, reply.error_type) == (502, "ProcessExitedError")
    assert reply.json()["details"]["exitCode"] == 4
    assert get(wsgi, "/").status == 200


def test_a_deadline_is_a_gateway_timeout(serve: Serve) -> None:
    server = serve(None, "--http", "served.asgi.application", "--timeout", "0.5")
    since = server.stdout.size()
    reply = get(server, "/hangs")
    assert (reply.status, reply.error_type) == (504, "FunctionTimeoutError")
    server.wait_for_line("cleaned up", since)
    assert get(server, "/").status == 201


# Answers that come in pieces.


def test_a_streamed_body_is_sent_as_it_comes(either: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    Path(f"{gate}0").touch()
    with Streamed(either, f"/stream?{gate}") as streamed:
        response = streamed.response
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert response.read1() == b"piece 0\n"
        Path(f"{gate}1").touch()
        assert response.read1() == b"piece 1\n"
        Path(f"{gate}2").touch()
        assert response.read() == b"piece 2\n"
    assert get(either, "/").status in (200, 201)


def test_a_client_of_http_1_0_is_sent_it_up_to_the_connection_s_end(
    wsgi: Server, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    for number in range(3):
        Path(f"{gate}{number}").touch()
    with Streamed(wsgi, f"/stream?{gate}", "1.0") as streamed:
        assert "Transfer-Encoding" not in streamed.response.headers
        assert streamed.response.read() == b"piece 0\npiece 1\npiece 2\n"


@pytest.mark.parametrize("path", ["/dies", "/raises-late"])
def test_an_end_in_the_middle_is_seen_by_the_client(wsgi: Server, path: str) -> None:
    with Streamed(wsgi, path) as streamed:
        with pytest.raises(http.client.IncompleteRead) as cut:
            streamed.response.read()
        assert cut.value.partial == b"first\n"
    assert get(wsgi, "/").status == 200


def test_so_it_is_where_a_length_was_announced(wsgi: Server) -> None:
    with Streamed(wsgi, "/dies-with-length") as streamed:
        assert streamed.response.headers["Content-Length"] == "100"
        with pytest.raises(http.client.IncompleteRead) as cut:
            streamed.response.read()
        assert cut.value.partial == b"first\n"


def test_so_it_is_for_a_client_of_http_1_0(wsgi: Server) -> None:
    with (
        Streamed(wsgi, "/dies", "1.0") as streamed,
        pytest.raises(ConnectionResetError),
    ):
        streamed.response.read()


def test_a_deadline_in_the_middle_is_seen_too(serve: Serve) -> None:
    server = serve(None, "--http", "served.wsgi.application", "--timeout", "0.5")
    headers = {"x-fc-request-id": "late-1"}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/hangs-late", headers=headers)
    with pytest.raises(http.client.IncompleteRead):
        connection.getresponse().read()
    connection.close()
    assert "FunctionTimeoutError" in "\n".join(server.log_of("late-1"))
    assert get(server, "/").status == 200
    assert not server.strays()


def test_the_limit_of_size_holds_for_what_is_streamed(wsgi: Server) -> None:
    received = 0
    with Streamed(wsgi, "/endless") as streamed:
        with pytest.raises(http.client.IncompleteRead) as cut:
            streamed.response.read()
        received = len(cut.value.partial)
    assert received <= 4 * MB
    assert get(wsgi, "/").status == 200


def test_a_client_that_goes_ends_an_answer_without_end(serve: Serve) -> None:
    server = serve(
        None,
        "--http",
        "served.wsgi.application",
        "--max-workers",
        "1",
        "--max-response",
        "1000",
    )
    since = server.stdout.size()
    with Streamed(server, "/endless") as streamed:
        assert streamed.response.read(100_000)
    server.wait_for_line("closed", since)
    assert get(server, "/").status == 200


def test_an_asgi_application_is_told_that_its_client_has_gone(asgi: Server) -> None:
    since = asgi.stdout.size()
    with Streamed(asgi, "/watches") as streamed:
        assert streamed.response.read(1000)
    asgi.wait_for_line("http.disconnect", since)


def test_a_slow_reader_has_the_worker_wait_and_gets_all(serve: Serve) -> None:
    server = serve(None, "--http", "served.wsgi.application")
    size = 24 * MB
    with Streamed(server, f"/large?{size}") as streamed:
        resting = server.front_end.memory_info().rss
        time_to_fill = time.monotonic() + 0.5
        wait_until(lambda: time.monotonic() > time_to_fill, 5, "time to fill buffers")
        # It is not the front end that keeps what nobody reads.
        assert server.front_end.memory_info().rss - resting < 8 * MB
        assert get(server, "/").status == 200
        assert len(streamed.response.read()) == size


def test_an_answer_may_be_complete_before_its_application(
    asgi: Server, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    since = asgi.stdout.size()
    with Streamed(asgi, f"/afterwards?{gate}") as streamed:
        assert streamed.response.headers["Content-Length"] == "8"
        assert streamed.response.read() == b"answered"
        assert not asgi.stdout.contains(b"done afterwards", since)
        gate.touch()
        asgi.wait_for_line("done afterwards", since)


# ASGI's own ways.


def test_the_lifespan_begins_with_the_worker_and_ends_with_it(serve: Serve) -> None:
    server = serve(None, "--http", "served.asgi.application")
    get(server, "/")
    get(server, "/")
    assert server.stdout.count(b"lifespan.startup") == 1
    assert server.stop() == 0
    assert server.stdout.count(b"lifespan.shutdown") == 1


def test_an_application_may_know_no_lifespan(serve: Serve) -> None:
    server = serve(None, "--http", "served.asgi.without_lifespan")
    assert get(server, "/").status == 201


def test_a_lifespan_that_fails_is_told(serve: Serve) -> None:
    server = serve(None, "--http", "served.asgi.does_not_start")
    reply = get(server, "/")
    assert reply.status == 500
    assert "no database" in reply.json()["errorMessage"]


def test_a_page_for_an_error_is_sent_and_the_error_logged(asgi: Server) -> None:
    reply = asgi.request(
        "GET", "/raises-after-its-answer", headers={"x-fc-request-id": "page-1"}
    )
    assert (reply.status, reply.body) == (500, b"a page of my own")
    assert "ValueError: for the log" in asgi.log_of("page-1")


def test_an_incomplete_answer_is_seen_by_the_client(asgi: Server) -> None:
    with (
        Streamed(asgi, "/incomplete") as streamed,
        pytest.raises(http.client.IncompleteRead),
    ):
        streamed.response.read()


def test_threads_of_an_application_do_not_wear_its_worker_out(asgi: Server) -> None:
    first, second = (get(asgi, "/in-a-thread").body.split()[0] for _ in range(2))
    assert first == second


# Frameworks.


@pytest.mark.parametrize("name", ["flask", "django", "starlette", "fastapi"])
def test_a_framework_s_application_runs_as_it_is(serve: Serve, name: str) -> None:
    server = serve(None, "--http", f"served.frameworks.{name}")
    reply = server.request(
        "POST", "/hello/w%C3%B6rld?q=1", b"body", {"Content-Type": "text/plain"}
    )
    assert reply.status == 200, reply.body
    told: Any = json.loads(reply.body)
    assert told == {"name": "wörld", "q": "1", "body": "body"}
    assert reply.headers["Content-Type"].startswith("application/json")
    assert get(server, "/nothing").status == 404


@pytest.mark.parametrize("name", ["flask", "starlette"])
def test_a_framework_streams_and_answers_its_own_failures(
    serve: Serve, name: str
) -> None:
    server = serve(None, "--http", f"served.frameworks.{name}")
    assert get(server, "/stream").body == b"0\n1\n2\n"
    reply = get(server, "/raises")
    assert reply.status == 500
    assert b"Internal Server Error" in reply.body
    wait_until(lambda: server.stdout.contains(b"in a view"), 5, "the error in the log")


def test_what_starlette_does_in_threads_and_afterwards_keeps_its_worker(
    serve: Serve,
) -> None:
    server = serve(None, "--http", "served.frameworks.starlette")
    since = server.stdout.size()
    assert get(server, "/hello/x").status == 200
    server.wait_for_line("in the background", since)
    assert get(server, "/thread").body == get(server, "/thread").body
