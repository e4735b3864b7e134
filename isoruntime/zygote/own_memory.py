"""Which memory of this process is its own to write to, as the kernel lists it (proc(5))."""

from __future__ import annotations

from typing import NamedTuple


class Mapping(NamedTuple):
    """Consecutive memory of one kind; `start` and `end` are addresses."""

    start: int
    end: int
    #: the file it comes from, or `[heap]` and the like; empty for any other
    name: bytes


def own_mappings() -> list[Mapping]:
    """Return what is private and writable.

    Raises:
        OSError: there is no /proc.
    """
    found: list[Mapping] = []
    with open("/proc/self/maps", "rb") as table:  # noqa: PTH123 - pathlib is slow to import
        for line in table:
            addresses, rights, _, _, _, *name = line.split(maxsplit=5)
            if rights == b"rw-p":
                start, end = (int(word, 16) for word in addresses.split(b"-"))
                found.append(Mapping(start, end, b"".join(name).strip()))
    return found


def starts_with_huge_pages() -> set[int]:
    """Return where mappings start that are in huge pages, be it in part.

    Raises:
        OSError: there is no /proc.
    """
    found: set[int] = set()
    start = 0
    with open("/proc/self/smaps", "rb") as table:  # noqa: PTH123 - see above
        for line in table:
            first, *others = line.split()
            if first == b"AnonHugePages:":
                if others[0] != b"0":
                    found.add(start)
            elif not first.endswith(b":"):
                start = int(first.partition(b"-")[0], 16)
    return found
