"""Who ends first when the whole host is short of memory: workers, nobody else.

A process may make itself likelier to be chosen by the kernel (`oom_score_adj`, proc(5)),
and its children begin with what it had. A worker inside the walls cannot write there
any more, so the zygote takes the value on for the moment of a fork.
"""

from __future__ import annotations

import os


class Volunteering:
    """Within it, what is forked volunteers to be ended first."""

    def __init__(self) -> None:
        """Open our own file, which later will be out of reach."""
        self._pid = os.getpid()
        try:
            self._fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            self._usual = os.read(self._fd, 16).strip()
        except OSError:
            self._fd = -1

    def __enter__(self) -> None:
        """Volunteer."""
        self._write(b"1000")

    def __exit__(self, *reason: object) -> None:
        """Be as before: lowering it to where it began needs no privilege."""
        # What was forked leaves here too. The file is ours, not its own: it would take
        # the value from us while we fork the next one.
        if self._fd >= 0 and os.getpid() == self._pid:
            self._write(self._usual)

    def _write(self, text: bytes) -> None:
        if self._fd < 0:
            return
        try:
            os.pwrite(self._fd, text, 0)
        except OSError:
            return
