"""A process that a worker has started: noticing its end, without waiting for it alone."""

from __future__ import annotations

import os
import select

from isoruntime.bare import signal
from isoruntime.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

#: How often to look where the kernel has no descriptors for processes (before 5.3).
_LOOK_MS = 5


class Child:
    """A process of ours; its pid is its own until its status has been fetched."""

    __slots__ = ("_fd", "_status", "peak_kb", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None
        #: the most memory that it, or a child it waited for, had; known at its end
        self.peak_kb = 0
        try:
            # Safe because it is our child and not reaped: the pid is still its own.
            self._fd = os.pidfd_open(pid)
        except OSError:
            self._fd = -1

    def watch(self, poll: select.poll) -> None:
        """Have a poll end when the process does."""
        if self._fd >= 0:
            poll.register(self._fd, select.POLLIN)

    @property
    def longest_poll_ms(self) -> int:
        """How long a poll that watches it may wait; -1 for ever."""
        return -1 if self._fd >= 0 else _LOOK_MS

    def has_ended(self, ready: Container[int]) -> bool:
        """Return whether it has, after a poll that found these descriptors ready."""
        if self._status is not None:
            return True
        if self._fd >= 0 and self._fd not in ready:
            return False
        return self._reap(os.WNOHANG)

    def _reap(self, options: int) -> bool:
        pid, status, usage = os.wait4(self.pid, options)
        if pid:
            self._status = os.waitstatus_to_exitcode(status)
            self.peak_kb = usage.ru_maxrss
        return bool(pid)

    def ends_within(self, seconds: float) -> bool:
        """Return whether it has ended, waiting for that a little."""
        poll = select.poll()
        self.watch(poll)
        left_ms = seconds * 1000
        while True:
            step_ms = left_ms if self._fd >= 0 else min(left_ms, _LOOK_MS)
            ready = [fd for fd, _ in poll.poll(step_ms)]
            left_ms -= step_ms
            if self.has_ended(ready) or left_ms <= 0:
                return self._status is not None

    @property
    def status(self) -> int:
        """How it ended: its exit code, or the signal as a negative number."""
        assert self._status is not None
        return self._status

    def kill(self) -> None:
        """End it, if it has not ended, and fetch its status."""
        if self._status is None:
            # Safe because it is not reaped.
            os.kill(self.pid, signal.SIGKILL)
            self._reap(0)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
