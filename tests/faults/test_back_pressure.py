"""More work than workers: a bounded queue, in order, and refusals that come early."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.blast import Blast
from tests.support.calls import Calls
from tests.support.server import Reply, Serve, Server
from tests.waiting import wait_until

ONE_WORKER = ("--max-workers", "1")


def ask(event: str, request_id: str = "-") -> bytes:
    """Return the bytes of an invocation."""
    return (
        f"POST /invoke HTTP/1.1\r\nHost: x\r\nx-fc-request-id: {request_id}\r\n"
        f"Content-Length: {len(event)}\r\n\r\n{event}"
    ).encode()


def let_it_look(server: Server) -> None:
    """Return when all that was sent before has been looked at: it is one loop."""
    for _ in range(3):
        assert server.once("GET", "/live").status == 200


def occupy(server: Server, gate: Path) -> Calls:
    """Return an invocation that has a worker until the gate exists."""
    calls = Calls(server)
    since = server.stdout.size()
    calls.start(1, f"until {gate}")
    server.wait_for_line(f"waiting for {gate}", since)
    return calls


def check_refusal(reply: Reply, status: int) -> None:
    assert (reply.status, reply.error_type) == (status, "ResourceExhausted")
    assert int(reply.headers["Retry-After"]) >= 1
    assert reply.headers["x-fc-status"] == "404"
    assert "--max-workers" in reply.json()["errorMessage"]


@pytest.mark.parametrize(("errors", "status"), [("fc", 429), ("http", 503)])
@pytest.mark.parametrize(
    ("queue", "refused"), [(0, 5), (2, 3), (5, 0)], ids=["none", "two", "all"]
)
def test_as_many_wait_as_there_are_places(
    serve: Serve, gate: Path, errors: str, status: int, queue: int, refused: int
) -> None:
    server = serve(
        "waits.handler",
        *ONE_WORKER,
        *("--queue", str(queue), "--queue-timeout", "30", "--errors", errors),
    )
    first = occupy(server, gate)
    others = Calls(server)
    others.start(5, "pid")
    # Refused while the worker is still busy: nobody waits to be told to go away.
    wait_until(lambda: len(others.replies) == refused, 5, f"{refused} refusals")
    let_it_look(server)
    assert len(others.replies) == refused
    assert not first.replies
    gate.touch()
    assert first.statuses() == [200]
    replies = others.finish()
    assert (
        sorted(reply.status for reply in replies)
        == [200] * (5 - refused) + [status] * refused
    )
    for reply in replies:
        if reply.status != 200:
            check_refusal(reply, status)


@pytest.mark.parametrize("wait_s", [0.0, 0.4])
def test_those_who_wait_too_long_are_refused(
    serve: Serve, gate: Path, wait_s: float
) -> None:
    server = serve(
        "waits.handler", *ONE_WORKER, "--queue", "9", "--queue-timeout", str(wait_s)
    )
    # Until a worker is there, whoever may not wait is refused.
    wait_until(lambda: server.invoke("pid").status == 200, 10, "a worker")
    first = occupy(server, gate)
    began = time.monotonic()
    others = Calls(server)
    others.start(4, "pid")
    for reply in others.finish():
        check_refusal(reply, 429)
    assert wait_s <= time.monotonic() - began < wait_s + 0.5
    assert not first.replies
    gate.touch()
    assert first.statuses() == [200]
    assert server.invoke("pid").status == 200


def test_a_refusal_does_not_wait_for_those_who_do(serve: Serve, gate: Path) -> None:
    server = serve("waits.handler", *ONE_WORKER, "--queue", "1")
    occupy(server, gate)
    with server.raw() as waiting:
        waiting.send(ask("pid"))
        let_it_look(server)
        for _ in range(20):
            began = time.monotonic()
            check_refusal(server.invoke("pid"), 429)
            assert time.monotonic() - began < 0.2
        gate.touch()
        assert waiting.answer().status == 200


def test_who_came_first_is_served_first(
    serve: Serve, gate: Path, tmp_path: Path
) -> None:
    server = serve("marks.handler", *ONE_WORKER, "--queue-timeout", "30")
    marks = tmp_path / "marks"
    connections = []
    try:
        for number in range(30):
            context = server.raw()
            connections.append((context, context.__enter__()))
            event = f"mark after|{gate}|{marks}|{number}"
            connections[-1][1].send(ask(event, f"r{number}"))
            let_it_look(server)
        gate.touch()
        replies = [connection.answer() for _, connection in connections]
    finally:
        for context, _ in connections:
            context.__exit__(None, None, None)
    assert {reply.status for reply in replies} == {200}
    assert [reply.request_id for reply in replies] == [f"r{n}" for n in range(30)]
    assert marks.read_text().split() == [str(number) for number in range(30)]


def test_who_leaves_the_queue_frees_its_place_and_is_never_run(
    serve: Serve, gate: Path, tmp_path: Path
) -> None:
    server = serve(
        "waits_or_marks.handler",
        *ONE_WORKER,
        *("--queue", "1", "--queue-timeout", "30"),
    )
    marks = tmp_path / "marks"
    occupy(server, gate)
    for number in range(20):
        with server.raw() as leaving:
            leaving.send(ask(f"mark|{marks}|left {number}"))
            let_it_look(server)
            check_refusal(server.invoke("pid"), 429)
        let_it_look(server)
    with server.raw() as staying:
        staying.send(ask(f"mark|{marks}|stayed"))
        let_it_look(server)
        gate.touch()
        assert staying.answer().status == 200
    assert server.invoke("pid").status == 200
    assert marks.read_text() == "stayed\n"


def test_who_leaves_while_served_lets_the_handler_finish(
    serve: Serve, gate: Path, tmp_path: Path
) -> None:
    server = serve("marks.handler", *ONE_WORKER, "--queue-timeout", "30")
    pid = server.invoke("pid").body
    marks = tmp_path / "marks"
    for number in range(3):
        gate.unlink(missing_ok=True)
        since = server.stdout.size()
        with server.raw() as leaving:
            leaving.send(ask(f"mark after|{gate}|{marks}|{number}", f"left{number}"))
            server.wait_for_line("waiting for", since)
        let_it_look(server)
        gate.touch()
        server.wait_for_line(f"FC Invoke End RequestId: left{number}")
    assert marks.read_text().split() == ["0", "1", "2"]
    assert server.invoke("pid").body == pid


def test_who_leaves_while_served_is_still_held_to_the_limit(serve: Serve) -> None:
    server = serve("waits.handler", *ONE_WORKER, "--timeout", "0.3")
    with server.raw() as leaving:
        leaving.send(ask("until /nowhere", "gone"))
        server.wait_for_line("waiting for")
    line = server.wait_for_line("FC Invoke End RequestId: gone", within=3)
    assert "Error" in line
    assert server.invoke("pid").status == 200


@pytest.mark.parametrize(
    ("workers", "queue"), [(32, 100), (8, 40)], ids=["room for all", "refusals"]
)
def test_ten_thousand_at_once_are_each_answered_once(
    serve: Serve, workers: int, queue: int
) -> None:
    server = serve(
        "echo.handler",
        *("--max-workers", str(workers), "--queue", str(queue)),
        *("--queue-timeout", "30"),
    )
    total = 10_000
    with Blast(server.port, 100, total) as blast:
        blast.run(within_s=50)
    assert blast.strange == []
    assert len(blast.answers) == total
    assert set(blast.answers.values()) == {1}
    if queue >= 100:
        assert blast.refused == 0
    else:
        assert blast.refused > 0
    ended = b"FC Invoke End RequestId: r"
    wait_until(lambda: server.stdout.count(ended) == total, 5, f"{total} End lines")
    assert server.stdout.count(b"FC Invoke Start RequestId: r") == total
    assert server.stdout.count(b"Error") == 0


def test_two_hundred_sleepers_sleep_at_the_same_time(serve: Serve) -> None:
    server = serve("waits.handler", "--max-workers", "200", "--queue-timeout", "30")
    calls = Calls(server)
    began = time.monotonic()
    calls.start(200, "sleep 1")
    replies = calls.finish()
    # One after the other they would take 200 s, in the usual 32 workers 7 s.
    assert time.monotonic() - began < 5
    assert [reply.body for reply in replies] == [b"slept"] * 200
    assert len(server.pids) <= 200
