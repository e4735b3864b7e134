"""Memory of this process: some to write to, where it is, and what the kernel says of it."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path


def private_memory(size: int) -> mmap.mmap:
    """Return memory that a fork shares copy-on-write, without content so far."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def address_of(memory: mmap.mmap) -> int:
    """Return where it begins; it must be writable."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def mapped_kb(name: str) -> int:
    """Return a sum over all that is mapped, such as `Rss` or `AnonHugePages`."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise AssertionError(name)
