"""Huge pages for what an import has made, so that there is little to copy at a fork.

A fork copies an entry for each page there is, and the end of the process gives each one
back: 100 MB are 25,600. What lies in huge pages is copied and given back a few hundred at
a time, also when some of it has been written to since (Linux 6.1, MADV_COLLAPSE).

It takes a millisecond or two for one, and copies what is there; workers that were forked
before go on with the old pages. So one is made after each batch of forks, and hardly any
memory is there twice.
"""

from __future__ import annotations

import errno

from isoruntime.sandbox import _libc
from isoruntime.typed import Final
from isoruntime.zygote.own_memory import own_mappings

_SIZE_FILE: Final = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
#: A region with less in use than this share would grow by the rest.
_FULL: Final = 0.9
#: So many regions are looked at in one go, each for some microseconds.
_LOOKS: Final = 32


class HugePages:
    """Makes huge pages of this process's memory, one after the other."""

    def __init__(self) -> None:
        self._size = 0
        #: addresses of regions that have not been looked at; None: look for them first
        self._left: list[int] | None = None
        #: how many may be put off, because the kernel has something to do with them
        self._puts_off = 0

    def make_one(self) -> bool:
        """Turn one more region into a huge page, if there is one that is worth it.

        Return whether there may be more of them.
        """
        if self._left is None:
            self._size = _size()
            self._left = _regions(self._size) if self._size else []
            self._puts_off = 2 * len(self._left)
        for _ in range(min(_LOOKS, len(self._left))):
            address = self._left.pop()
            try:
                if _libc.resident_share(address, self._size) >= _FULL:
                    _libc.collapse(address, self._size)
                    return True
            except OSError as error:
                if error.errno == errno.EAGAIN and self._puts_off:
                    self._puts_off -= 1
                    self._left.insert(0, address)
                    return True
                # Unmapped meanwhile, or there is no huge page to be had: let it be. Where
                # the kernel knows none of this, that is soon known of every region.
        return bool(self._left)


def _size() -> int:
    """Return the bytes of a huge page; 0 where there are none."""
    try:
        with open(_SIZE_FILE, "rb") as file:  # noqa: PTH123 - pathlib is slow to import
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _regions(size: int) -> list[int]:
    """Return where private memory lies that a huge page could take the place of."""
    found: list[int] = []
    for start, end, name in own_mappings():
        if name in {b"", b"[heap]"}:
            found += range(-(-start // size) * size, end - size + 1, size)
    return found
