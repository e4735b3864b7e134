"""Processes that a worker has started: their ends, with and without descriptors of them."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from isoruntime.worker.child import Child

#: Long enough for any child here on a busy machine.
WITHIN_S = 20


@pytest.fixture(params=["with pidfd", "without pidfd"])
def start(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Child]]:
    """Start a child of ours that runs a shell's line."""
    if request.param == "without pidfd":

        def refuse(pid: int) -> int:
            # As a kernel before 5.3 does, and some containers' filters.
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr(os, "pidfd_open", refuse)
    started: list[Child] = []

    def run(line: str) -> Child:
        argv = ["/bin/sh", "-c", line]
        started.append(Child(os.posix_spawn(argv[0], argv, os.environ)))
        return started[-1]

    yield run
    for child in started:
        child.kill()
        child.close()


def ended(child: Child) -> bool:
    """Wait for its end as a worker does: along with other descriptors."""
    poll = select.poll()
    child.watch(poll)
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        wait_ms = child.longest_poll_ms if child.longest_poll_ms > 0 else 1000
        if child.has_ended([fd for fd, _ in poll.poll(wait_ms)]):
            return True
    return False


@pytest.mark.parametrize(
    ("line", "status"),
    [("exit 0", 0), ("exit 7", 7), ("kill -SEGV $$", -signal.SIGSEGV)],
)
def test_the_end_of_a_child_is_noticed_with_its_status(
    start: Callable[..., Child], line: str, status: int
) -> None:
    child = start(line)
    assert ended(child)
    assert child.status == status
    assert child.peak_kb > 0
    # And stays what it is: the pid may be somebody else's by now.
    assert child.has_ended([])
    child.kill()
    assert child.status == status


def test_a_child_that_runs_has_not_ended(start: Callable[..., Child]) -> None:
    child = start("exec sleep 60")
    assert not child.has_ended([])
    began = time.monotonic()
    assert not child.ends_within(0.05)
    assert 0.04 < time.monotonic() - began < WITHIN_S


def test_waiting_for_an_end_takes_no_longer_than_it(
    start: Callable[..., Child],
) -> None:
    child = start("sleep 0.05; exit 3")
    began = time.monotonic()
    assert child.ends_within(WITHIN_S)
    assert time.monotonic() - began < WITHIN_S / 2
    assert child.status == 3


def test_one_that_is_killed_is_reaped_at_once(start: Callable[..., Child]) -> None:
    child = start("exec sleep 60")
    child.kill()
    assert child.status == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_a_closed_child_holds_no_descriptor(start: Callable[..., Child]) -> None:
    before = psutil.Process().num_fds()
    child = start("exit 0")
    assert ended(child)
    child.close()
    child.close()
    assert psutil.Process().num_fds() == before


def test_a_poll_for_ever_is_for_those_that_the_kernel_wakes() -> None:
    child = Child(os.posix_spawn("/bin/true", ["true"], os.environ))
    poll = select.poll()
    child.watch(poll)
    assert child.longest_poll_ms == -1
    assert poll.poll(WITHIN_S * 1000)
    child.kill()
    child.close()
