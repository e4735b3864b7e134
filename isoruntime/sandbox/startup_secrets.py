"""Secrets that came with the start: overwritten where the kernel keeps showing them.

The variables and arguments of a process lie where the kernel put them, and can be read
there (/proc/PID/environ, /proc/PID/cmdline) long after `del os.environ[...]`. What
Python made of them, `os.environ` and `sys.argv`, are copies and stay as they are. The C
library's `getenv` sees the overwritten values.

To be called while the process may still look at itself: before it is made
non-dumpable, which gives its files in /proc to root.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable

from isoruntime.sandbox import _libc
from isoruntime.typed import Final, NamedTuple

#: In /proc/PID/stat, counted from the first field after the name in brackets: the
#: fields 48 to 51 of proc(5).
_ARGUMENTS_AT: Final = 45
_ENVIRONMENT_AT: Final = 47


class _Block(NamedTuple):
    """Memory of this process and what is in it."""

    address: int
    data: bytes


def overwrite_environment(names: Container[str] | Callable[[str], bool]) -> int:
    """Overwrite the values of the variables named or chosen; return how many were."""
    is_chosen = names if callable(names) else names.__contains__
    block = _block(_ENVIRONMENT_AT, "/proc/self/environ")
    if block is None:
        return 0
    count = 0
    at = 0
    for entry in block.data.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if value and is_chosen(os.fsdecode(name)):
            _libc.overwrite(block.address + at + len(name) + 1, len(value))
            count += 1
        at += len(entry) + 1
    return count


def overwrite_arguments(secrets: Iterable[str]) -> int:
    """Overwrite these texts wherever they stand in an argument; return how often."""
    block = _block(_ARGUMENTS_AT, "/proc/self/cmdline")
    if block is None:
        return 0
    count = 0
    for secret in map(os.fsencode, secrets):
        at = block.data.find(secret) if secret else -1
        while at >= 0:
            _libc.overwrite(block.address + at, len(secret))
            count += 1
            at = block.data.find(secret, at + len(secret))
    return count


def _block(at: int, shown_in: str) -> _Block | None:
    """Return a block if it is where the kernel says, and what the kernel shows.

    Everything is read through the kernel, which answers where a look of our own at the
    wrong address would be the end of this process.
    """
    try:
        with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 - pathlib is slow to import
            fields = file.read().rpartition(b")")[2].split()
        with open(shown_in, "rb") as file:  # noqa: PTH123
            shown = file.read()
        start, end = int(fields[at]), int(fields[at + 1])
        if not shown or end - start != len(shown) or not _is_writable(start, end):
            return None
        memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.pread(memory, len(shown), start)
        finally:
            os.close(memory)
    except (OSError, ValueError, IndexError, OverflowError):
        return None
    return _Block(start, shown) if found == shown else None


def _is_writable(start: int, end: int) -> bool:
    with open("/proc/self/maps") as table:  # noqa: PTH123
        for line in table:
            addresses, rights, _ = line.split(" ", 2)
            first, last = (int(number, 16) for number in addresses.split("-"))
            if first <= start and end <= last:
                return rights.startswith("rw")
    return False
