"""Open descriptors: a worker has those of its own, and no others.

A fork copies all of the zygote's, its control socket among them. What user code
opened while it was imported is user code's, and stays.
"""

from __future__ import annotations

import os

from isoruntime.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The zygote holds a few dozen. Where the kernel cannot close a whole range at once
#: (before 5.9), each number up to here is tried.
_HIGHEST: Final = 4096


def open_now() -> frozenset[int]:
    """Return what is open in this process."""
    # The list holds the number that the listing itself took, which is closed by now.
    found = map(int, os.listdir("/proc/self/fd"))  # noqa: PTH208 - pathlib is slow to import
    return frozenset(fd for fd in found if _is_open(fd))


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def read_nothing() -> None:
    """Make standard input an empty file, whatever it was."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null > 0:
        os.close(null)


def gaps(keep: Iterable[int]) -> list[tuple[int, int]]:
    """Return what is to be handed to `os.closerange` to close all that is not in `keep`."""
    found = []
    first = 0
    for fd in sorted(keep):
        # Never an empty range: Python hands that on as one without an end.
        if fd > first:
            found.append((first, fd))
        first = fd + 1
    return [*found, (first, max(first + 1, _HIGHEST))]


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor that is not in `keep`."""
    for first, end in gaps(keep):
        os.closerange(first, end)
