"""A crash costs its own caller one typed answer, and nobody else anything."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.calls import Calls
from tests.support.server import Reply, Serve, Server, is_sleep, lives
from tests.waiting import wait_until

DEATHS = [
    pytest.param("exit 0", "exit", None, 0, id="exits politely"),
    pytest.param("exit 7", "exit", None, 7, id="exits with a code"),
    pytest.param("exit text", "exit", None, 1, id="exits with a text"),
    pytest.param("_exit 0", "exit", None, 0, id="exits at once"),
    pytest.param("_exit 3", "exit", None, 3, id="exits at once with a code"),
    pytest.param("_exit 255", "exit", None, 255, id="exits at once with 255"),
    pytest.param("libc 0", "exit", None, 0, id="exits in C"),
    pytest.param("thread 5", "exit", None, 5, id="exits in a thread"),
    pytest.param("signal SIGKILL", "signal", "SIGKILL", None, id="is killed"),
    pytest.param("signal SIGTERM", "signal", "SIGTERM", None, id="is terminated"),
    pytest.param("signal SIGABRT", "signal", "SIGABRT", None, id="aborts"),
    pytest.param("signal SIGSEGV", "signal", "SIGSEGV", None, id="is sent a segfault"),
    pytest.param("segfault", "signal", "SIGSEGV", None, id="reads where nothing is"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("ways_to_die.handler", "--max-workers", "4") as started:
        yield started


@pytest.fixture(scope="module")
def http_server() -> Iterator[Server]:
    with Server("ways_to_die.handler", "--errors", "http") as started:
        yield started


def neighbour_of(server: Server, gate: Path) -> Calls:
    """Return an invocation that is in flight until the gate exists."""
    calls = Calls(server)
    since = server.stdout.size()
    calls.start(1, f"until {gate}")
    server.wait_for_line(f"waiting for {gate}", since)
    return calls


def check_death(
    reply: Reply, status: int, cause: str, signal_name: str | None, code: int | None
) -> None:
    """Check every part of the answer that interface.md section 3 names."""
    assert reply.status == status
    assert reply.headers["x-fc-status"] == "404"
    assert reply.headers["Content-Type"] == "application/json"
    failure: dict[str, Any] = reply.json()
    assert failure.keys() == {"details", "errorMessage", "errorType"}
    assert failure["errorType"] == "ProcessExitedError"
    details = failure["details"]
    assert details.keys() == {
        "cause",
        "signal",
        "exitCode",
        "durationMs",
        "maxMemoryMB",
        "memoryLimitMB",
        "timeoutSeconds",
    }
    assert (details["cause"], details["signal"], details["exitCode"]) == (
        cause,
        signal_name,
        code,
    )
    assert failure["errorMessage"] == (
        "Process exited unexpectedly before completing request "
        f"(duration: {details['durationMs']}ms, "
        f"maxMemoryUsage: {details['maxMemoryMB']:.2f}MB)"
    )
    assert details["maxMemoryMB"] > 1
    assert details["timeoutSeconds"] == 60


@pytest.mark.parametrize(("event", "cause", "signal_name", "code"), DEATHS)
def test_a_death_is_answered_while_the_neighbour_goes_on(
    server: Server,
    gate: Path,
    event: str,
    cause: str,
    signal_name: str | None,
    code: int | None,
) -> None:
    neighbour = neighbour_of(server, gate)
    check_death(server.invoke(event), 404, cause, signal_name, code)
    assert server.invoke("hello").body == b"still here"
    assert not neighbour.replies
    gate.touch()
    (reply,) = neighbour.finish()
    assert (reply.status, reply.body) == (200, b"done")


@pytest.mark.parametrize(("event", "cause", "signal_name", "code"), DEATHS)
def test_a_death_is_a_bad_gateway_to_http(
    http_server: Server,
    event: str,
    cause: str,
    signal_name: str | None,
    code: int | None,
) -> None:
    check_death(http_server.invoke(event), 502, cause, signal_name, code)
    assert http_server.invoke("hello").body == b"still here"


def test_the_text_of_an_exit_is_in_the_log(server: Server) -> None:
    server.invoke("exit farewell", request_id="farewell")
    assert "farewell" in server.log_of("farewell")


def test_an_exception_no_except_clause_catches_keeps_the_worker(serve: Serve) -> None:
    server = serve("ways_to_die.handler", "--max-workers", "1")
    pid = server.invoke("pid").body
    reply = server.invoke("raise NotAnException")
    assert (reply.status, reply.error_type) == (404, "NotAnException")
    assert server.invoke("pid").body == pid


def test_endless_recursion_is_an_exception(server: Server) -> None:
    assert server.invoke("recurse").error_type == "RecursionError"
    assert server.invoke("hello").body == b"still here"


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        ("none", None),
        ("full", {"logTail", "traceback"}),
    ],
)
def test_the_details_are_as_wanted(
    serve: Serve, level: str, keys: set[str] | None
) -> None:
    server = serve("ways_to_die.handler", "--error-details", level)
    failure = server.invoke("segfault").json()
    if keys is None:
        assert "details" not in failure
        return
    assert keys <= failure["details"].keys()
    assert "ways_to_die.py" in failure["details"]["traceback"]
    assert len(failure["details"]["logTail"].encode()) <= 4096


def test_fifty_crashes_leave_nothing(serve: Serve) -> None:
    server = serve("ways_to_die.handler", "--max-workers", "2")
    deaths = ["_exit 3", "signal SIGKILL", "exit 1", "segfault", "_exit 0"]
    for event in deaths:
        server.invoke(event)
    front_end, zygote = server.front_end, server.zygote
    wait_until(lambda: not server.strays(), 10)
    before = front_end.num_fds(), zygote.num_fds()
    statuses = [server.invoke(event).status for event in deaths * 10]
    assert statuses == [404] * 50
    assert server.invoke("hello").body == b"still here"
    wait_until(lambda: not server.strays(), 10, "an end of zombies")

    # A worker or two more than before may stand ready: a few descriptors each.
    def settled() -> bool:
        return front_end.num_fds() <= before[0] + 8 and (
            zygote.num_fds() <= before[1] + 8
        )

    wait_until(settled, 10, f"{before} descriptors again")
    assert len(server.pids) <= 3


def test_a_death_between_invocations_is_nobody_s_error(serve: Serve) -> None:
    server = serve("ways_to_die.handler", "--max-workers", "2")
    assert server.invoke("hello").body == b"still here"
    for _ in range(3):
        # The newest may still be starting, which makes it nobody's error all the more.
        for pid in server.pids[-1:]:
            os.kill(pid, signal.SIGKILL)
        assert server.invoke("hello").body == b"still here"


def test_the_death_of_all_between_invocations_is_nobody_s_error(serve: Serve) -> None:
    server = serve("ways_to_die.handler", "--max-workers", "2")
    for _ in range(2):
        assert server.invoke("hello").body == b"still here"
        for pid in server.pids:
            os.kill(pid, signal.SIGKILL)
    assert server.invoke("hello").body == b"still here"


def test_a_death_after_the_answer_is_nobody_s_error(server: Server) -> None:
    for code in (0, 1, 9):
        assert server.invoke(f"later {code}").body == b"still here"
    # Some of these meet the moment of death; none may be told of it as its own.
    replies = [server.invoke("hello") for _ in range(50)]
    assert {reply.body for reply in replies} == {b"still here"}


def end_zygote(server: Server) -> None:
    """Kill the zygote and wait until its workers, who follow it, have ended too."""
    dying = [server.zygote, *server.zygote.children()]
    dying[0].kill()
    wait_until(lambda: not any(lives(process) for process in dying), 5, "their end")


def test_the_zygote_s_death_costs_its_callers_alone(serve: Serve, gate: Path) -> None:
    server = serve("ways_to_die.handler")
    neighbour = neighbour_of(server, gate)
    end_zygote(server)
    reply = server.invoke("hello")
    assert (reply.status, reply.body) == (200, b"still here")
    assert neighbour.statuses() == [404]


def test_the_zygote_may_die_again_and_again(serve: Serve) -> None:
    server = serve("ways_to_die.handler")
    # Three deaths are bad luck; many in a second may well be taken for a crash loop.
    for _ in range(3):
        assert server.invoke("hello").body == b"still here"
        end_zygote(server)
    assert server.invoke("hello").body == b"still here"


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_nothing_outlives_a_killed_front_end(serve: Serve, busy: bool) -> None:
    server = serve("slow.handler")
    assert server.invoke("fine").body == b"in time"
    if busy:
        with server.raw() as connection:
            connection.send(
                b"POST /invoke HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\ngrandchild"
            )
            wait_until(lambda: any(is_sleep(p) for p in _below(server)), 5)
            assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    else:
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL


def _below(server: Server) -> list[psutil.Process]:
    return server.front_end.children(recursive=True)
