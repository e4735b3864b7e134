"""What a handler has left when it returns: threads, processes, memory.

Looked at after every invocation, so it has to be cheap: three system calls, as long
as nothing was left. The worker is a child subreaper, so that a descendant that called
`setsid` or whose parent has ended is among its children all the same.
"""

from __future__ import annotations

import os
import time

from isoruntime.sandbox import _libc
from isoruntime.typed import Final
from isoruntime.worker.pipes import move_up

#: More dead children than this that nobody waited for wear a worker out.
_MAX_ZOMBIES: Final = 16
#: The share of its memory limit at which a worker is replaced after a call.
_FULL: Final = 0.9
_JOIN_STEP_S: Final = 0.0005
_JOIN_STEPS: Final = 6


class Processes:
    """Looks for this process's children."""

    __slots__ = ("_children_fd", "_has_children", "_own")

    def __init__(self) -> None:
        """Make ready to look, before the fork."""
        self._has_children = _libc.ready_to_look_for_children()
        self._own = b""
        self._children_fd = -1

    def keep(self, child: int) -> None:
        """Count a child no more: it belongs to the function itself, and stays.

        There are no threads but this one then: user code is in the child.
        """
        self._own = b"%d" % child
        path = "/proc/thread-self/children"
        self._children_fd = move_up(os.open(path, os.O_RDONLY))

    def look(self) -> tuple[bool, int]:
        """Return whether any is alive, and how many have ended unheard."""
        has_children = self._has_children
        if has_children is not None and has_children() < 0:
            return False, 0
        found = self._children()
        if not found and has_children is not None and has_children() == 0:
            # It cannot be seen: no descriptor is left to look with.
            return True, 0
        if self._own in found:
            found.remove(self._own)
        alive = sum(not _is_zombie(pid) for pid in found)
        return alive > 0, len(found) - alive

    def _children(self) -> list[bytes]:
        try:
            if self._own:
                return os.pread(self._children_fd, 4096, 0).split()
            return _children_of_threads()
        except OSError:
            return []


class Census:
    """Counts this process's threads and children, against what was there before."""

    __slots__ = (
        "_counts_threads",
        "_max_pages",
        "_memory_fd",
        "_processes",
        "_threads",
    )

    def __init__(
        self, memory_limit_mb: int, processes: Processes, *, with_threads: bool = True
    ) -> None:
        self._threads = _count_threads()
        self._counts_threads = with_threads
        self._processes = processes
        self._memory_fd = move_up(os.open("/proc/self/statm", os.O_RDONLY))
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._max_pages = int(memory_limit_mb * (1 << 20) * _FULL) // page_bytes

    def look(self) -> tuple[bool, bool]:
        """Return whether processes were left behind, and whether anything was."""
        has_threads = self._has_threads()
        is_alive, zombies = self._processes.look()
        if not self._counts_threads or not (is_alive or has_threads):
            has_threads = self._is_full()
        return is_alive, is_alive or has_threads or zombies > _MAX_ZOMBIES

    def _is_full(self) -> bool:
        """Return whether so much is in use that the next call might be one too many.

        What leaks a little with every call is replaced between two of them, and
        costs nobody an answer.
        """
        if not self._max_pages:
            return False
        try:
            pages = int(os.pread(self._memory_fd, 64, 0).split(None, 2)[1])
        except (OSError, IndexError, ValueError):
            return False
        return pages > self._max_pages

    def _has_threads(self) -> bool:
        if _count_threads() <= self._threads:
            return False
        if not self._counts_threads:
            return True
        # `join` returns a moment before the kernel lets go of a thread.
        for _ in range(_JOIN_STEPS):
            time.sleep(_JOIN_STEP_S)
            if _count_threads() <= self._threads:
                return False
        return True


def _count_threads() -> int:
    # A folder has a link from each folder within it, and here one is a thread.
    return os.stat("/proc/self/task").st_nlink - 2  # noqa: PTH116 - on the way of every invocation


def _children_of_threads() -> list[bytes]:
    children: list[bytes] = []
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 - pathlib is slow
        try:
            with open(f"/proc/self/task/{thread}/children", "rb") as file:  # noqa: PTH123
                children += file.read().split()
        except OSError:
            continue
    return children


def _is_zombie(pid: bytes) -> bool:
    try:
        with open(b"/proc/%b/stat" % pid, "rb") as file:  # noqa: PTH123
            # The name in parentheses may itself hold any character.
            state = file.read().rpartition(b")")[2].split(None, 1)[0]
    except (OSError, IndexError):
        return True
    return state in (b"Z", b"X")
