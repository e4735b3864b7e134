"""Who ends first when the whole host is short of memory: workers, nobody else.

A process may make itself likelier to be chosen by the kernel (`oom_score_adj`, proc(5)),
and its children begin with what it had. A worker inside the walls cannot write there
any more, so the zygote takes the value on for the moment of a fork.
"""

from __future__ import annotations

import os


class Volunteering:
    """What is forked between `begin` and `end` volunteers to be ended first.

    Whoever was forked must not call `end`: the file is the zygote's, which may be about
    to fork the next one.
    """

    def __init__(self) -> None:
        """Open our own file, which later will be out of reach."""
        try:
            self._fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            self._usual = os.read(self._fd, 16).strip()
        except OSError:
            self._fd, self._usual = -1, b""

    def begin(self) -> None:
        """Volunteer."""
        self._write(b"1000")

    def end(self) -> None:
        """Be as before: lowering it to where it began needs no privilege."""
        self._write(self._usual)

    def _write(self, text: bytes) -> None:
        if self._fd < 0:
            return
        try:
            os.pwrite(self._fd, text, 0)
        except OSError:
            return
