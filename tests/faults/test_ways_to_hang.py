"""However an invocation hangs, it is answered at its limit, and its whole tree ends."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.looking import STEADY, Holdings, below_workers, check_failure
from tests.support.calls import Calls
from tests.support.server import Reply, Serve, Server
from tests.waiting import wait_until

LIMIT_S = 0.25
#: What the median answer may be late by, and one among them on a busy machine.
GRACE_S = 0.05
MOST_S = 0.5
#: How soon after the answer the tree is gone; likewise.
GONE_S = 0.2
#: When what was not ended would show: well after the limit.
LATE_S = LIMIT_S + 0.4
ROUNDS = 3

WAYS = [
    "sleep",
    "loop",
    "block_in_c",
    "expression",
    "ignore_sigterm",
    "mask_all",
    "session",
    "daemon",
    "closed_daemon",
    "program",
    "stop_child",
    "stop_self",
    "breed",
    "lock",
    "fifo",
    "print_for_ever",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("hangs.handler", "--timeout", str(LIMIT_S), *STEADY) as started:
        holdings = Holdings(started)
        yield started
        holdings.check_nothing_is_left()


def pids_in(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()]


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)


def hang(server: Server, way: str, folder: Path) -> tuple[float, float]:
    """Hang once; return how late the answer was, and how much later all was gone."""
    began = time.monotonic()
    reply = server.invoke(f"{way} {LATE_S} {folder}")
    answered = time.monotonic()
    check_timeout(reply)
    assert pids_in(folder), "it never began to hang"
    wait_until(
        lambda: all(map(is_gone, pids_in(folder))), GONE_S + MOST_S, "the tree's end"
    )
    return answered - began - LIMIT_S, time.monotonic() - answered


def check_timeout(reply: Reply) -> None:
    check_failure(
        reply,
        "FunctionTimeoutError",
        cause="timeout",
        signal=None,
        exitCode=None,
        timeoutSeconds=LIMIT_S,
    )
    failure = reply.json()
    assert failure["errorMessage"] == (
        f"Function timed out after {LIMIT_S:g} seconds "
        f"(maxMemoryUsage: {failure['details']['maxMemoryMB']:.2f}MB)"
    )


@pytest.mark.parametrize("way", WAYS)
def test_it_is_answered_at_the_limit_and_its_tree_is_gone_soon_after(
    server: Server, tmp_path: Path, way: str
) -> None:
    late, gone = [], []
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        one_late, one_gone = hang(server, way, folder)
        late.append(one_late)
        gone.append(one_gone)
        assert server.invoke("hello").body == b"still here"
    assert min(late) >= 0
    assert max(late) <= MOST_S
    assert statistics.median(late) <= GRACE_S
    assert statistics.median(gone) <= GONE_S


def test_nothing_happens_after_the_limit(serve: Serve, tmp_path: Path) -> None:
    server = serve("hangs.handler", "--timeout", str(LIMIT_S), "--min-workers", "8")
    wait_until(lambda: len(server.pids) == 8, 5, "all workers")
    calls = Calls(server)
    ways = [way for way in WAYS if way not in ("loop", "print_for_ever")]
    for way in ways:
        calls.start(1, f"{way} {LATE_S} {tmp_path}")
    for reply in calls.finish():
        check_timeout(reply)
    until = time.monotonic() + LATE_S
    # The last one began before the first answer: by then it would have happened.
    wait_until(lambda: time.monotonic() > until, LATE_S + 1)
    assert len(pids_in(tmp_path)) >= len(ways)
    assert [path.name for path in tmp_path.glob("late-*")] == []
    assert all(map(is_gone, pids_in(tmp_path)))


def test_the_neighbours_of_a_hanging_invocation_go_on(
    server: Server, tmp_path: Path
) -> None:
    calls = Calls(server)
    calls.start(2, f"loop {LATE_S} {tmp_path}")
    wait_until(lambda: len(pids_in(tmp_path)) == 2, 2, "both loops")
    slowest = 0.0
    while not calls.replies:
        began = time.monotonic()
        assert server.invoke("hello").body == b"still here"
        slowest = max(slowest, time.monotonic() - began)
    assert [reply.status for reply in calls.finish()] == [404, 404]
    assert slowest < LIMIT_S


@pytest.mark.parametrize("way", ["input", "stdin"])
def test_there_is_nothing_to_wait_for_on_standard_input(
    server: Server, way: str
) -> None:
    reply = server.invoke(way)
    if way == "input":
        check_failure(reply, "EOFError")
    else:
        assert reply.body == b"''"


def test_a_tree_is_gone_before_its_front_end_is(serve: Serve, tmp_path: Path) -> None:
    server = serve("hangs.handler", "--timeout", "20", "--drain", "0")
    calls = Calls(server)
    for way in ("daemon", "session", "stop_child", "mask_all"):
        calls.start(1, f"{way} 20 {tmp_path}")
    wait_until(lambda: len(pids_in(tmp_path)) >= 5, 5, "all to hang")
    # A stopped child is noted once it is stopped, and its parent never.
    trees = {*pids_in(tmp_path), *server.pids, *(p.pid for p in below_workers(server))}
    server.stop()
    assert [pid for pid in trees if not is_gone(pid)] == []
    calls.finish()


def test_the_answer_does_not_wait_for_a_large_tree(
    serve: Serve, tmp_path: Path
) -> None:
    # Many processes take the kernel a while to end; nobody has to wait for that.
    server = serve("hangs.handler", "--timeout", "0.6", "--max-processes", "999")
    began = time.monotonic()
    reply = server.invoke(f"breed 20 {tmp_path}")
    took = time.monotonic() - began
    check_failure(reply, "FunctionTimeoutError")
    assert 0.6 <= took <= 0.6 + MOST_S
    wait_until(lambda: all(map(is_gone, pids_in(tmp_path))), 2, "the tree's end")
