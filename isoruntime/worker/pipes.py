"""The pipes of one worker: made by the zygote before it forks, ends and all."""

from __future__ import annotations

import os
from fcntl import F_DUPFD_CLOEXEC, fcntl

from isoruntime.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The worker's ends of request and reply pipe are moved out of the way of programs
#: that take low descriptors for granted, and are closed when one is executed.
_HIGH_FD = 200


class Places:
    """Descriptors that have the same number in every worker: the ends of its pipes.

    They are taken before any of the user's code runs, and kept in the zygote. So what is
    made of a number once goes for all workers.
    """

    __slots__ = ("in_order", "reply_w", "request_r", "stderr_w", "stdout_w", "trace")

    def __init__(self, *, split_output: bool) -> None:
        """Take them, in this process and all that it forks."""
        # Of a pipe, as what will be there: whoever looks finds nothing to seek in.
        empty_r, empty_w = os.pipe()
        os.close(empty_w)
        found = [move_up(os.dup(empty_r)) for _ in range(5 if split_output else 4)]
        os.close(empty_r)
        self.in_order = tuple(found)
        self.request_r, self.reply_w, self.trace, self.stdout_w = found[:4]
        #: the same as stdout unless they are split
        self.stderr_w = found[-1] if split_output else self.stdout_w

    def fill(self, ends: Sequence[int]) -> None:
        """Put other descriptors here; they stay open under their own numbers, too."""
        for end, place in zip(ends, self.in_order, strict=True):
            os.dup2(end, place, inheritable=False)


class Pipes:
    """Both sides of a worker's pipes. Only the worker's side blocks.

    The trace is a file in memory that nobody has to empty: the worker's last stack is
    written there when it crashes or hangs.
    """

    __slots__ = ("front_end", "worker")

    def __init__(self, *, split_output: bool) -> None:
        """Make the pipes; stdout and stderr share one unless they are split."""
        request_r, request_w = os.pipe()
        reply_r, reply_w = os.pipe()
        trace = os.memfd_create("isoruntime-trace", os.MFD_CLOEXEC)
        stdout_r, stdout_w = os.pipe()
        #: what the front end gets, in the order of `zygote.protocol.DESCRIPTORS`
        self.front_end = [request_w, reply_r, trace, stdout_r]
        #: the worker's ends, in the order of `Places`
        self.worker = [request_r, reply_w, trace, stdout_w]
        if split_output:
            stderr_r, stderr_w = os.pipe()
            self.front_end.append(stderr_r)
            self.worker.append(stderr_w)
        for fd in self.front_end:
            if fd != trace:
                os.set_blocking(fd, False)

    def close(self) -> None:
        """Close everything, in the zygote, once both sides have theirs."""
        for fd in {*self.worker, *self.front_end}:
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
