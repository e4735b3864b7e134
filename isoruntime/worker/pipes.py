"""The pipes of one worker: made by the zygote before it forks, ends and all."""

from __future__ import annotations

import os
from fcntl import F_DUPFD_CLOEXEC, fcntl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The worker's ends of request and reply pipe are moved out of the way of programs
#: that take low descriptors for granted, and are closed when one is executed.
_HIGH_FD = 200


class WorkerEnds:
    """The worker's ends of its pipes, as descriptors.

    The trace is a file in memory that nobody has to empty: the worker's last stack is
    written there when it crashes or hangs.
    """

    __slots__ = ("reply_w", "request_r", "stderr_w", "stdout_w", "trace")

    def __init__(self, descriptors: Sequence[int]) -> None:
        """Take over the descriptors, in the order of `in_order`."""
        self.request_r, self.reply_w, self.trace, self.stdout_w = descriptors[:4]
        #: the same as stdout unless they are split
        self.stderr_w = descriptors[-1] if len(descriptors) > 4 else self.stdout_w

    def in_order(self) -> list[int]:
        """Return each descriptor once, in an order that never changes."""
        found = [self.request_r, self.reply_w, self.trace, self.stdout_w]
        return found if self.stderr_w == self.stdout_w else [*found, self.stderr_w]

    def close(self) -> None:
        """Close all of them."""
        for fd in self.in_order():
            os.close(fd)

    def move_into_place(self) -> None:
        """Make this process's standard streams the pipes, in the worker."""
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(self.stdout_w, 1)
        os.dup2(self.stderr_w, 2)
        shared = self.stderr_w == self.stdout_w
        self.request_r = move_up(self.request_r)
        self.reply_w = move_up(self.reply_w)
        self.trace = move_up(self.trace)
        self.stdout_w = move_up(self.stdout_w)
        self.stderr_w = self.stdout_w if shared else move_up(self.stderr_w)


class Pipes:
    """Both sides of a worker's pipes. Only the worker's side blocks."""

    __slots__ = ("_front_end", "worker")

    def __init__(self, *, split_output: bool) -> None:
        """Make the pipes; stdout and stderr share one unless they are split."""
        request_r, request_w = os.pipe()
        reply_r, reply_w = os.pipe()
        trace = os.memfd_create("isoruntime-trace", os.MFD_CLOEXEC)
        stdout_r, stdout_w = os.pipe()
        self._front_end = {
            "request": request_w,
            "reply": reply_r,
            "trace": trace,
            "stdout": stdout_r,
        }
        ends = [request_r, reply_w, trace, stdout_w]
        if split_output:
            self._front_end["stderr"], stderr_w = os.pipe()
            ends.append(stderr_w)
        self.worker = WorkerEnds(ends)
        for name, fd in self._front_end.items():
            if name != "trace":
                os.set_blocking(fd, False)

    def front_end_side(self) -> tuple[list[str], list[int]]:
        """Return names and descriptors of what the front end gets."""
        return list(self._front_end), list(self._front_end.values())

    def close(self) -> None:
        """Close everything, in the zygote, once both sides have theirs."""
        for fd in {*self.worker.in_order(), *self._front_end.values()}:
            os.close(fd)


def move_up(fd: int) -> int:
    """Give a descriptor a number above those that others take for granted."""
    try:
        high = fcntl(fd, F_DUPFD_CLOEXEC, _HIGH_FD)
    except OSError:
        # Fewer descriptors are allowed than that; any number above 2 will do.
        return fd
    os.close(fd)
    return high
