"""What user code writes: standard streams that lose nothing, and log records."""

from __future__ import annotations

import io
import sys
from fcntl import ioctl

from isoruntime.typed import Final
from isoruntime.worker import records

#: Asks how many bytes can be read (linux/asm-generic/ioctls.h); the number is the same on
#: x86 and ARM. `termios`, which has it too, is five more mappings in each process.
_FIONREAD: Final = 0x541B
#: What it answers, an int, if there are none.
_NONE: Final = bytes(4)


class OutputStream(io.TextIOWrapper):
    """A text stream that hands on every write at once.

    A handler may be killed between any two instructions, and what it printed
    before is the best clue to why.
    """

    def write(self, text: str, /) -> int:
        """Write and flush."""
        written = super().write(text)
        self.flush()
        return written


def _open(fd: int) -> OutputStream:
    raw = io.FileIO(fd, "w", closefd=False)
    return OutputStream(
        io.BufferedWriter(raw), encoding="utf-8", errors="surrogateescape"
    )


def install(log_level: str) -> None:
    """Set up stdout, stderr and the root logger as the built-in runtime does."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = _open(fd)
        # Both names: user code that restores `sys.__stdout__` gets ours as well.
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    records.expect(sys.stdout, log_level)


def flush() -> None:
    """Hand on what was written past our streams, to `sys.stdout.buffer` say."""
    for stream in (sys.__stdout__, sys.__stderr__, sys.stdout, sys.stderr):
        try:
            stream.flush()  # type: ignore[union-attr]  # user code may set None
        except (OSError, ValueError, AttributeError):
            continue  # user code closed or replaced it, which is its own affair


def is_pending(fd: int) -> bool:
    """Return whether the front end has not read all of an output pipe yet."""
    try:
        return ioctl(fd, _FIONREAD, _NONE) != _NONE
    except OSError:
        return True
