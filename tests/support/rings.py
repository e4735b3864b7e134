"""The rings of io_uring: whether there are any here, who has one, and what it holds."""

from __future__ import annotations

import ctypes
import functools
import os
import resource
from contextlib import suppress
from pathlib import Path

#: As much as a zygote may hold.
_MOST_BYTES = 4 << 20


@functools.cache
def missing() -> str:
    """Return why no pages can be held here by a ring; empty if they can.

    The kernel is asked, and none of ours, whose faults are not to be taken for its own.
    """
    may_lock, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.geteuid() and 0 <= may_lock < _MOST_BYTES:
        return "this user may not lock enough memory"
    parameters = ctypes.create_string_buffer(120)
    # Its flags; one that is disabled at first can be sealed (Linux 5.10).
    parameters[8] = bytes([1 << 6])
    libc = ctypes.CDLL(None, use_errno=True)
    ring = libc.syscall(425, 1, parameters)
    if ring < 0:
        return f"no io_uring here: {os.strerror(ctypes.get_errno())}"
    os.close(ring)
    return ""


def rings_of(pid: int) -> list[int]:
    """Return which descriptors of a process are rings."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # It may be closed between the two looks.
        with suppress(FileNotFoundError):
            if "io_uring" in os.readlink(link):  # noqa: PTH115 - it leads to no path
                found.append(int(link.name))
    return found


def held_kb(pid: int) -> int:
    """Return how much memory of a process stays where it is: what its rings hold."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmPin:")[2].split()[0])
