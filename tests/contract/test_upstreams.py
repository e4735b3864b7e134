"""HTTP servers of the user's, started beside each worker and left as they are."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.calls import Calls
from tests.support.server import HANDLERS, Serve, Server, is_sleep, lives
from tests.waiting import wait_until

SERVER = str(HANDLERS / "upstreams" / "server.py")


def upstream(*options: str, argv: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the options that run our server, or `argv`."""
    return (*options, "--upstream", "--", *(argv or (sys.executable, SERVER)))


def start(serve: Serve, *options: str, env: dict[str, str] | None = None) -> Server:
    """Start a runtime around the server, with variables for it."""
    passed = [word for name in env or () for word in ("--env", name)]
    return serve(None, *upstream(*options, *passed), env=env, belongs=SERVER)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(None, *upstream("--max-workers", "3"), belongs=SERVER) as started:
        assert started.invoke(b"first").status == 200
        yield started


# Events.


@pytest.mark.parametrize(
    "event",
    [b"", b"hello", bytes(range(256)), os.urandom(5 << 20)],
    ids=["nothing", "a word", "every byte", "five megabytes"],
)
def test_an_event_is_answered_by_the_server(server: Server, event: bytes) -> None:
    reply = server.invoke(event)
    assert (reply.status, reply.body) == (200, event)
    assert reply.headers["x-fc-status"] == "200"
    assert reply.headers["Content-Type"] == "text/x-mine"
    assert reply.headers["Author"] == "me"


def test_the_server_gets_the_headers_the_platform_sends(server: Server) -> None:
    told = server.invoke(
        b"tell",
        {
            "x-fc-request-id": "id-1",
            "x-fc-function-name": "fn",
            "x-fc-access-key-id": "AKID",
            "X-Mine": "yes",
        },
    ).json()["headers"]
    assert told["x-fc-request-id"] == "id-1"
    assert told["x-fc-function-name"] == "fn"
    assert told["x-fc-access-key-id"] == "AKID"
    assert told["x-mine"] == "yes"
    assert told["content-type"] == "application/octet-stream"
    assert told["x-fc-control-path"] == "/invoke"
    # Where nobody has given one.
    assert server.invoke(b"tell").json()["headers"]["x-fc-request-id"].startswith("1-")


def test_each_worker_has_a_server_on_a_port_of_its_own(
    serve: Serve, tmp_path: Path
) -> None:
    server = start(serve, "--min-workers", "3")
    wait_until(lambda: len(server.beside_workers()) == 3, 20, "three servers")
    calls = Calls(server)
    gate = tmp_path / "go"
    calls.start(2, f"wait {gate}")
    wait_until(lambda: server.stdout.count(b"waiting") == 2, 10, "two at once")
    told = server.invoke(b"tell").json()
    assert told["variables"] == [str(told["port"])] * 2
    gate.touch()
    assert calls.statuses() == [200, 200]


def test_what_it_prints_belongs_to_the_invocation(server: Server) -> None:
    # Without a flush: a pipe is no terminal to it.
    server.invoke(b"echo", request_id="printed-1")
    assert server.log_of("printed-1")[1:-1] == ["handling printed-1"]


def test_a_chunked_answer_has_a_length_where_the_platform_wants_one(
    server: Server,
) -> None:
    reply = server.invoke(b"chunked")
    assert reply.body == b"one two three"
    assert reply.headers["Content-Length"] == "13"


def test_a_server_that_closes_after_each_answer_is_fine(serve: Serve) -> None:
    server = start(serve, env={"SERVER_PROTOCOL": "HTTP/1.0"})
    for number in range(10):
        body = b"number %d" % number
        assert server.invoke(body).body == body


def test_a_server_that_closes_without_saying_so_fails_nobody(serve: Serve) -> None:
    # As uWSGI's --http-socket does: HTTP/1.1, no word of closing, and closed.
    server = start(serve, "--max-workers", "2", env={"CLOSES_AFTER_S": "0.002"})
    calls = Calls(server)
    calls.start(60, "word")
    replies = calls.finish()
    assert [reply.body for reply in replies] == [b"word"] * 60


def test_a_server_that_keeps_its_connections_is_asked_on_one(serve: Serve) -> None:
    server = start(serve, "--max-workers", "1")
    ports = {server.invoke(b"tell").json()["client_port"] for _ in range(10)}
    assert len(ports) == 1


def test_what_is_left_of_a_refused_request_is_not_taken_for_the_next(
    serve: Serve,
) -> None:
    server = start(serve, "--max-workers", "1", env={"MAX_BODY": "1000"})
    for _ in range(3):
        refused = server.invoke(bytes(20 << 20))
        assert (refused.status, refused.body) == (413, b"too large")
        reply = server.invoke(b"word")
        assert (reply.status, reply.body) == (200, b"word")


@pytest.mark.parametrize(
    ("event", "status", "fc_status"),
    [
        (b"fail 404", 404, "404"),
        (b"fail 500", 500, "404"),
        (b"failfc 404", 200, "404"),
        (b"failfc 200", 200, "200"),
    ],
)
def test_its_own_failures_are_passed_on_and_told(
    server: Server, event: bytes, status: int, fc_status: str
) -> None:
    name = event.decode().replace(" ", "-")
    reply = server.invoke(event, request_id=name)
    assert (reply.status, reply.headers["x-fc-status"]) == (status, fc_status)
    assert reply.json() == {"errorMessage": "no"}
    is_told = server.log_of(name)[-1].endswith("Error: Unhandled function error")
    assert is_told == (fc_status == "404")


# What it lacks by itself.


@pytest.mark.parametrize("name", ["SEGV", "KILL", "TERM"])
def test_a_crash_is_a_typed_answer_and_a_new_server(
    server: Server, gate: Path, name: str
) -> None:
    neighbour = Calls(server)
    since = server.stdout.size()
    neighbour.start(1, f"wait {gate}")
    server.wait_for_line("waiting", since)
    reply = server.invoke(b"die " + name.encode(), request_id=f"died-{name}")
    assert (reply.status, reply.error_type) == (404, "ProcessExitedError")
    assert reply.json()["details"]["signal"] == f"SIG{name}"
    assert "last words" in server.log_of(f"died-{name}")
    assert server.invoke(b"next").body == b"next"
    gate.touch()
    assert neighbour.statuses() == [200]


def test_an_exit_tells_its_code(server: Server) -> None:
    details = server.invoke(b"exit 3").json()["details"]
    assert (details["cause"], details["exitCode"]) == ("exit", 3)
    assert server.invoke(b"next").body == b"next"


def test_an_end_between_calls_costs_nobody_anything(serve: Serve) -> None:
    server = start(serve, "--max-workers", "2", "--min-workers", "2")
    for _ in range(5):
        wait_until(lambda: len(server.beside_workers()) == 2, 5, "both servers")
        servers = server.beside_workers()
        assert server.invoke(b"later").body == b"answered"
        # One that still runs would be asked, and nobody could tell what came of it.
        wait_until(lambda: not all(map(lives, servers)), 5, "its end")  # noqa: B023
        assert server.invoke(b"next").body == b"next"


def test_a_server_that_is_killed_from_outside_is_replaced(serve: Serve) -> None:
    server = start(serve)
    server.invoke(b"once")
    (before,) = server.beside_workers()[:1]
    before.send_signal(signal.SIGKILL)
    wait_until(
        lambda: server.beside_workers() and before not in server.beside_workers(),
        10,
        "another",
    )
    assert server.invoke(b"next").body == b"next"


def test_a_timeout_ends_the_server_with_all_it_started(serve: Serve) -> None:
    server = start(serve, "--timeout", "0.5")
    assert server.invoke(b"hang").error_type == "FunctionTimeoutError"
    wait_until(
        lambda: not [*filter(is_sleep, server.strays())],
        5,
        "an end of its child",
    )
    assert server.invoke(b"next").body == b"next"


def test_too_much_memory_is_told_as_such(serve: Serve) -> None:
    server = start(serve, "--memory", "150")
    assert server.invoke(b"eat 300").error_type == "FunctionOOMError"
    assert server.invoke(b"next").body == b"next"


def test_an_answer_over_the_limit_is_refused_and_the_server_stays(
    serve: Serve,
) -> None:
    server = start(serve, "--max-response", "1", "--max-workers", "1")
    before = server.invoke(b"tell").json()["pid"]
    assert server.invoke(b"large 3000000").error_type == "ResponseTooLarge"
    assert server.invoke(b"tell").json()["pid"] == before


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (b"drop", "it closed the connection unanswered"),
        (b"garbage", "it does not speak HTTP"),
    ],
)
def test_no_answer_is_told_as_none(server: Server, event: bytes, reason: str) -> None:
    failure = server.invoke(event).json()
    assert failure["errorType"] == "UpstreamError"
    assert failure["errorMessage"].startswith("The server failed to answer: ")
    assert reason in failure["errorMessage"]
    assert server.invoke(b"next").body == b"next"


def test_what_it_leaves_as_a_daemon_is_ended_with_its_worker(serve: Serve) -> None:
    server = start(serve)
    server.invoke(b"leave")
    wait_until(
        lambda: not [*filter(is_sleep, server.strays())],
        5,
        "an end of the daemon",
    )
    assert server.invoke(b"next").body == b"next"


def test_a_drain_lets_it_finish(serve: Serve, tmp_path: Path) -> None:
    server = start(serve)
    gate = tmp_path / "go"
    calls = Calls(server)
    calls.start(1, f"wait {gate}")
    server.wait_for_line("waiting")
    server.signal(signal.SIGTERM)
    gate.touch()
    assert calls.statuses() == [200]
    assert server.wait() == 0


def test_fresh_mode_has_a_server_for_each_call(serve: Serve) -> None:
    server = start(serve, "--fresh")
    pids = {server.invoke(b"tell").json()["pid"] for _ in range(3)}
    assert len(pids) == 3


@pytest.mark.parametrize("sandbox", ["off", "strict"])
def test_it_runs_under_every_wall(serve: Serve, sandbox: str) -> None:
    server = start(serve, "--sandbox", sandbox)
    assert server.invoke(b"inside").body == b"inside"


# Hooks.


def test_the_initializer_runs_once_in_each_server_that_the_platform_asks_for(
    serve: Serve,
) -> None:
    server = start(serve, "--max-workers", "1")
    # Nobody has asked yet.
    assert server.invoke(b"tell").json()["initialized"] == 0
    reply = server.request("POST", "/initialize")
    assert (reply.status, reply.body) == (200, b"ready")
    assert server.invoke(b"tell").json()["initialized"] == 1
    server.invoke(b"exit 1")
    assert server.invoke(b"tell").json()["initialized"] == 1
    assert server.stdout.count(b"initializing") == 2


def test_a_failing_initializer_is_passed_on_and_does_not_stop_calls(
    serve: Serve,
) -> None:
    server = start(serve, env={"INITIALIZE_STATUS": "404"})
    reply = server.request("POST", "/initialize", headers={"x-fc-request-id": "init"})
    assert (reply.status, reply.headers["x-fc-status"]) == (404, "404")
    assert server.log_of("init", "Initialize")[-1].endswith("Unhandled function error")
    assert server.invoke(b"next").body == b"next"


def test_hooks_reach_every_server_that_has_worked(server: Server) -> None:
    server.invoke(b"once")
    since = server.stdout.size()
    assert server.request("GET", "/pre-stop").status == 200
    server.wait_for_line("/pre-stop in", since)


def test_a_server_without_hooks_says_so(serve: Serve) -> None:
    server = start(serve, env={"NO_HOOKS": "1"})
    server.invoke(b"once")
    assert server.request("GET", "/pre-freeze").status == 404
    assert server.invoke(b"next").body == b"next"


# HTTP requests.


@pytest.mark.parametrize("headers", [{}, {"x-fc-control-path": "/http-invoke"}])
def test_http_requests_pass_through(server: Server, headers: dict[str, str]) -> None:
    reply = server.request(
        "PUT", "/a%20b?x=1", b"body", {**headers, "X-Mine": "1", "Connection": "x"}
    )
    assert (reply.status, reply.headers["Set-Cookie"]) == (201, "a=1")
    assert reply.json() == {
        "method": "PUT",
        "path": "/a%20b?x=1",
        "body": "body",
        "mine": "1",
        "connection": None,
    }
    assert server.request("HEAD", "/page").body == b""
    assert server.request("GET", "/empty").status == 204


def test_a_streamed_answer_is_passed_on_as_it_comes(
    server: Server, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    Path(f"{gate}0").touch()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", f"/stream?{gate}")
    response = connection.getresponse()
    assert response.read1() == b"piece 0\n"
    for number in (1, 2):
        Path(f"{gate}{number}").touch()
    assert response.read() == b"piece 1\npiece 2\n"
    connection.close()


def test_a_death_in_the_middle_is_seen(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/dies")
    with pytest.raises(http.client.IncompleteRead):
        connection.getresponse().read()
    connection.close()
    assert server.invoke(b"next").body == b"next"


# Where it listens, and how it starts.


def test_a_server_that_ignores_its_port_is_found(serve: Serve) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start(serve, "--max-workers", "1", env={"SERVER_PORT_FIXED": str(port)})
    assert server.invoke(b"tell").json()["port"] == port
    assert server.invoke(b"exit 1").error_type == "ProcessExitedError"
    assert server.invoke(b"next").body == b"next"


def test_with_a_network_of_their_own_all_have_the_same_port(serve: Serve) -> None:
    server = start(
        serve,
        "--sandbox",
        "strict",
        "--min-workers",
        "2",
        env={"SERVER_PORT_FIXED": "9000"},
    )
    wait_until(lambda: len(server.beside_workers()) == 2, 20, "two servers")
    assert server.invoke(b"tell").json()["port"] == 9000


def test_a_placeholder_says_where_to_listen(serve: Serve) -> None:
    script = (
        "import os, sys, runpy; os.environ['SERVER_PORT_FIXED'] = sys.argv[1];"
        f"sys.argv[:] = [{SERVER!r}]; runpy.run_path({SERVER!r}, run_name='__main__')"
    )
    argv = (sys.executable, "-c", script, "{port}")
    server = serve(None, *upstream(argv=argv), belongs=SERVER)
    told = server.invoke(b"tell").json()
    assert str(told["port"]) == told["variables"][0]


def test_a_failing_start_is_told_in_the_server_s_own_words(serve: Serve) -> None:
    server = start(serve, env={"BEFORE": "ModuleNotFoundError: No module named 'x'"})
    failure = server.invoke(b"hello").json()
    assert failure["errorType"] == "UserCodeError"
    assert "exited with code 7 before it listened on port" in failure["errorMessage"]
    assert failure["stackTrace"] == ["ModuleNotFoundError: No module named 'x'"]
    assert server.request("GET", "/health").status == 503


def test_a_server_that_goes_to_the_background_is_told_to_stay(serve: Serve) -> None:
    server = serve(None, *upstream(argv=("true",)))
    message = server.invoke().json()["errorMessage"]
    assert message.endswith("it has to stay in the foreground")


def test_a_server_that_never_listens_is_given_up(serve: Serve) -> None:
    server = serve(None, *upstream("--init-timeout", "0.5", argv=("sleep", "60")))
    began = time.monotonic()
    assert server.invoke().error_type == "FunctionTimeoutError"
    assert time.monotonic() - began < 10
    wait_until(lambda: server.once("GET", "/health").status == 503, 5, "the verdict")


def test_a_missing_server_is_a_missing_handler(serve: Serve) -> None:
    server = serve(None, *upstream(argv=("no-such-server",)))
    assert server.invoke().error_type == "HandlerNotFound"


def test_without_a_network_it_is_told_what_to_do(serve: Serve) -> None:
    server = start(serve, "--network", "none")
    failure = server.invoke(b"hello").json()
    assert "{socket}" in failure["errorMessage"]
