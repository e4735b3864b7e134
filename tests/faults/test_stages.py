"""A worker that dies at each stage of a conversation: who is told, what is repeated.

Before a worker has acknowledged its request nothing can have happened, and the invocation
goes to another one, once, which nobody notices. Afterwards it is never repeated. How often the handler ran is counted by itself.
"""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from tests.faults.looking import check_failure, unharmed_neighbour
from tests.support.calls import Calls
from tests.support.server import Reply, Serve, Server
from tests.waiting import wait_until

BODY_BYTES = 64 * 1024
HEADER_BYTES = 32
EVENT_BYTES = 1 << 20


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return where the handler counts; there is a line for every run."""
    return tmp_path / "runs"


def count(runs: Path) -> int:
    return len(runs.read_text().splitlines()) if runs.exists() else 0


def start(serve: Serve, tmp_path: Path, stage: str, *options: str) -> Server:
    """Start a server the first worker of which dies at this stage."""
    chaos = {"ISORUNTIME_CHAOS": f"{stage}:{tmp_path / 'died'}"}
    return serve("staged.handler", "--timeout", "10", *options, env=chaos)


def run(server: Server, runs: Path, event_bytes: int = 0) -> Reply:
    event = f"{runs} {BODY_BYTES} ".encode()
    return server.invoke(event.ljust(event_bytes, b"e"), request_id="staged")


def check_silently_repeated(server: Server, reply: Reply, runs: Path) -> None:
    assert (reply.status, len(reply.body)) == (200, BODY_BYTES)
    # After its reply it is on its way to die while its caller is answered.
    wait_until((runs.parent / "died").exists, 5, "a death")
    assert count(runs) == 1
    log = server.log_of("staged")
    assert log == [
        "FC Invoke Start RequestId: staged",
        "FC Invoke End RequestId: staged",
    ]


def check_told(server: Server, reply: Reply, runs: Path, most_runs: int) -> None:
    check_failure(reply, "ProcessExitedError", cause="signal", signal="SIGKILL")
    assert (runs.parent / "died").exists(), "nobody died"
    assert count(runs) <= most_runs
    log = server.log_of("staged")
    assert log.count("FC Invoke Start RequestId: staged") == 1
    assert log[-1].endswith(", Error: Unhandled function error")


def check_next_is_served(server: Server, runs: Path) -> None:
    before = count(runs)
    reply = server.invoke(f"{runs} 5")
    assert (reply.status, reply.body) == (200, b"sssss")
    assert count(runs) == before + 1


@pytest.mark.parametrize("event_bytes", [0, EVENT_BYTES], ids=["small", "1 MB"])
def test_a_death_before_the_request_is_read_is_nobody_s_error(
    serve: Serve, tmp_path: Path, runs: Path, event_bytes: int
) -> None:
    server = start(serve, tmp_path, "before-read")
    reply = run(server, runs, event_bytes)
    check_silently_repeated(server, reply, runs)
    check_next_is_served(server, runs)


@pytest.mark.parametrize("event_bytes", [0, EVENT_BYTES], ids=["small", "1 MB"])
def test_a_death_with_a_request_read_in_part_is_nobody_s_error(
    serve: Serve, tmp_path: Path, runs: Path, event_bytes: int
) -> None:
    # Nothing has begun before all of it was read, and acknowledged.
    server = start(serve, tmp_path, "mid-read", "--max-workers", "1")
    reply = run(server, runs, event_bytes)
    check_silently_repeated(server, reply, runs)
    check_next_is_served(server, runs)


@pytest.mark.parametrize("event_bytes", [0, EVENT_BYTES], ids=["small", "1 MB"])
def test_a_death_after_the_acknowledgement_is_told(
    serve: Serve, tmp_path: Path, runs: Path, event_bytes: int
) -> None:
    server = start(serve, tmp_path, "after-read")
    check_told(server, run(server, runs, event_bytes), runs, 0)
    check_next_is_served(server, runs)


@pytest.mark.parametrize(
    "written",
    [
        *(0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1),
        *range(4096, BODY_BYTES + 1, 4096),
        BODY_BYTES + HEADER_BYTES - 1,
    ],
)
def test_a_death_in_the_middle_of_the_reply_is_told(
    serve: Serve, tmp_path: Path, runs: Path, written: int
) -> None:
    server = start(serve, tmp_path, f"reply@{written}", "--max-workers", "2")
    check_told(server, run(server, runs), runs, 1)
    assert count(runs) == 1
    check_next_is_served(server, runs)


@pytest.mark.parametrize("stage", ["after-reply", f"reply@{BODY_BYTES + HEADER_BYTES}"])
def test_a_death_after_the_reply_is_nobody_s_error(
    serve: Serve, tmp_path: Path, runs: Path, stage: str
) -> None:
    server = start(serve, tmp_path, stage)
    reply = run(server, runs)
    check_silently_repeated(server, reply, runs)
    check_next_is_served(server, runs)


@pytest.mark.parametrize("stage", ["after-read", "reply@4096"])
def test_a_death_at_a_stage_is_no_affair_of_a_neighbour(
    serve: Serve, tmp_path: Path, runs: Path, gate: Path, stage: str
) -> None:
    died = tmp_path / "died"
    died.touch()
    server = start(serve, tmp_path, stage, "--min-workers", "3")
    with unharmed_neighbour(server, gate):
        died.unlink()
        reply = run(server, runs)
        assert died.exists()
        assert reply.status == 404
        check_next_is_served(server, runs)


def test_an_invocation_is_repeated_once_and_no_more(
    serve: Serve, tmp_path: Path, runs: Path
) -> None:
    died = tmp_path / "died"
    died.touch()
    server = start(serve, tmp_path, "before-read", "--max-workers", "1")
    check_next_is_served(server, runs)
    (first,) = server.pids
    psutil.Process(first).suspend()
    calls = Calls(server)
    calls.start(1, f"{runs} 5")
    wait_until(lambda: server.stdout.count(b"Invoke Start") == 2, 5, "the request")
    # The second one dies by itself, where the first is killed.
    died.unlink()
    psutil.Process(first).send_signal(signal.SIGKILL)
    (reply,) = calls.finish()
    check_failure(reply, "ProcessExitedError", cause="signal", signal="SIGKILL")
    assert count(runs) == 1
    assert server.stdout.count(b"Invoke Start") == 2
    check_next_is_served(server, runs)


def test_whoever_waits_in_line_does_not_notice_a_repetition(
    serve: Serve, tmp_path: Path, runs: Path
) -> None:
    server = start(serve, tmp_path, "before-read", "--max-workers", "1")
    calls = Calls(server)
    calls.start(5, f"{runs} 5")
    assert calls.statuses() == [200] * 5
    assert count(runs) == 5
