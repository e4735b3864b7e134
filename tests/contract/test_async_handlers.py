"""`async def` handlers: awaited on one loop per worker, cancelled at the deadline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.calls import Calls
from tests.support.server import Serve, Server
from tests.waiting import wait_until

DEADLINE = ("--timeout", "0.5")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("awaited.told", "--max-workers", "2", *DEADLINE) as started:
        yield started


def test_one_loop_serves_all_invocations_of_a_worker(serve: Serve) -> None:
    server = serve("awaited.told", "--max-workers", "1")
    assert len({server.invoke("where").body for _ in range(5)}) == 1


def test_what_it_left_on_the_loop_goes_on_with_the_next_one(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve("awaited.told", "--max-workers", "1")
    assert server.invoke("leave").body == b"left"
    since = server.stdout.size()
    gate = tmp_path / "gate"
    calls = Calls(server)
    calls.start(1, f"wait {gate}")
    server.wait_for_line("the task went on", since)
    gate.touch()
    assert calls.statuses() == [200]


def test_at_its_deadline_it_is_cancelled_and_cleans_up(server: Server) -> None:
    reply = server.invoke("clean", request_id="cleans-1")
    assert (reply.status, reply.error_type) == (404, "FunctionTimeoutError")
    assert reply.json()["details"]["cause"] == "timeout"
    # Its output is its own, and comes before its end.
    lines = server.log_of("cleans-1")
    assert any("cleaned up" in line for line in lines[1:-1]), lines


@pytest.mark.parametrize("what", ["take_time", "go_on", "return", "block"])
def test_who_does_not_end_when_cancelled_is_ended(server: Server, what: str) -> None:
    since = server.stdout.size()
    reply = server.invoke(what)
    assert (reply.status, reply.error_type) == (404, "FunctionTimeoutError")
    if what == "go_on":
        server.wait_for_line("not now", since)
    assert server.invoke("where").status == 200
    assert b"cleaned up at last" not in server.stdout.read(since)


def test_a_deadline_costs_its_own_worker_and_no_neighbour(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve("awaited.told", "--max-workers", "2", "--timeout", "3")
    gate = tmp_path / "gate"
    calls = Calls(server)
    since = server.stdout.size()
    calls.start(1, "clean")
    server.wait_for_line("cleaned up", since)
    calls.start(1, f"wait {gate}")
    server.wait_for_line("waiting", since)
    gate.touch()
    replies = calls.finish()
    assert sorted(reply.status for reply in replies) == [200, 404]
    assert server.invoke("where").status == 200
    wait_until(lambda: not server.strays(), 5, "the end of whoever was left")


def test_a_death_is_told_and_the_next_one_is_served(server: Server) -> None:
    reply = server.invoke("exit 3")
    assert reply.error_type == "ProcessExitedError"
    assert reply.json()["details"]["exitCode"] == 3
    assert server.invoke("where").status == 200


def test_who_cancels_itself_has_failed(server: Server) -> None:
    before = server.invoke("where").body
    reply = server.invoke("raise")
    assert (reply.status, reply.error_type) == (404, "CancelledError")
    assert server.invoke("where").body.split() == before.split()


def test_a_generator_is_as_little_an_answer_as_on_the_built_in_runtime(
    server: Server,
) -> None:
    assert server.invoke("yield").error_type == "TypeError"


def test_a_large_answer_is_as_good_as_any(serve: Serve) -> None:
    server = serve("awaited.handler", "--max-workers", "1")
    event = "x" * 200_000
    assert server.invoke(event).json() == {"awaited": event}
