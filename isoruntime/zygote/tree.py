"""Ending a process with everything it started, however it tries to escape.

A worker may have forked, double-forked, called `setsid`, ignored signals, or be
forking at this very moment. Killing a group or a session misses some of these.
What cannot be escaped is descent: worker and zygote are child subreapers, so an
orphan never leaves the tree. First everything found is stopped, until nothing new
is found (a stopped process cannot fork), then everything is killed. A signal is
not its effect: a fork that was under way still succeeds, so the search goes on only
when all that was signalled stands still.
"""

from __future__ import annotations

import os
import time

from isoruntime.bare import signal
from isoruntime.typed import Final

_STILL_WITHIN_S: Final = 0.05
_STILL_STEP_S: Final = 0.0002
#: proc(5): the field `flags` of stat; include/linux/sched.h: the process is ending.
_FLAGS_AFTER_NAME: Final = 6
_PF_EXITING: Final = 0x4


def read_once(path: str) -> bytes:
    """Return a small file of the kernel's; nothing if what it is about is gone."""
    try:
        # A file object costs three times as much, and this runs per process.
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(fd, 8192)
    except OSError:
        return b""
    finally:
        os.close(fd)


def children_of(pid: int) -> list[int]:
    """Return the direct children of `pid`, none if it is gone."""
    found: list[int] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - pathlib is slow
    except OSError:
        return found
    for task in tasks:
        try:
            fd = os.open(f"/proc/{pid}/task/{task}/children", os.O_RDONLY)
        except OSError:
            continue
        listed = b""
        try:
            # However much is asked for, the kernel gives out a few KiB at a time.
            while data := os.read(fd, 1 << 16):
                listed += data
        except OSError:
            listed = b""
        finally:
            os.close(fd)
        found += map(int, listed.split())
    return found


def descendants_of(pid: int) -> list[int]:
    """Return everything below `pid` at this moment, parents before children."""
    found: list[int] = []
    pending = [pid]
    while pending:
        children = children_of(pending.pop())
        found += children
        pending += children
    return found


def send(pid: int, number: int) -> bool:
    """Send a signal; return whether there was somebody to take it."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def stop_descendants(pid: int) -> list[int]:
    """Stop every descendant of `pid`; return them, parents before children."""
    stopped: dict[int, None] = {}
    while True:
        fresh: list[int] = []
        pending = [pid]
        while pending:
            for child in children_of(pending.pop()):
                pending.append(child)
                if child not in stopped:
                    # At once: one that forks and exits over and over is somebody
                    # else by the end of a walk.
                    send(child, signal.SIGSTOP)
                    fresh.append(child)
        if not fresh:
            return list(stopped)
        stopped.update(dict.fromkeys(fresh))
        wait_still(fresh)


def wait_still(pids: list[int]) -> None:
    """Wait until every thread of these processes has stopped or ended."""
    deadline = time.monotonic() + _STILL_WITHIN_S
    for pid in pids:
        # One that waits for a disk stops late; the time limit is for that one.
        while not _is_still(pid) and time.monotonic() < deadline:
            time.sleep(_STILL_STEP_S)


def _is_still(pid: int) -> bool:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - pathlib is slow
    except OSError:
        return True
    return all(_state_of(pid, task) in b"TtZXx" for task in tasks)


def _state_of(pid: int, task: str) -> bytes:
    # The name in parentheses may itself hold any character.
    return read_once(f"/proc/{pid}/task/{task}/stat").rpartition(b")")[2][1:2] or b"X"


def kill_tree(pid: int) -> int:
    """SIGKILL `pid`, a direct child, and all descendants; return how many.

    `pid` is stopped first, and killed last: while it is there, its orphans are its
    own and can be found.
    """
    send(pid, signal.SIGSTOP)
    wait_still([pid])
    descendants = stop_descendants(pid)
    for child in reversed(descendants):
        send(child, signal.SIGKILL)
    send(pid, signal.SIGKILL)
    return len(descendants) + 1


def end_children() -> None:
    """End all children of this process, and theirs, and wait for them."""
    while children := children_of(os.getpid()):
        for pid in children:
            kill_tree(pid)
        for pid in children:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                continue


def peak_memory_kb(pid: int) -> int:
    """Return the peak resident memory of one process in KiB, 0 if unknown."""
    value = _status_of(pid, b"VmHWM:")
    return int(value) if value else 0


def is_killed(pid: int) -> bool:
    """Return whether a process is ending, or has a SIGKILL that it is yet to notice.

    Of one that is gone altogether this says nothing; its pidfd does.
    """
    pending = _status_of(pid, b"SigPnd:") or b"0"
    if int(pending, 16) >> (signal.SIGKILL - 1) & 1:
        return True
    fields = read_once(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return bool(fields and int(fields[_FLAGS_AFTER_NAME]) & _PF_EXITING)


def _status_of(pid: int, name: bytes) -> bytes:
    _, _, rest = read_once(f"/proc/{pid}/status").partition(name)
    return rest.split(None, 1)[0] if rest else b""
