"""Which memory of this process is its own to write to, as the kernel lists it (proc(5))."""

from __future__ import annotations

from isoruntime.typed import NamedTuple


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
    with open("/proc/self/maps", "rb") as table:  # noqa: PTH123 - pathlib is slow to import
        return [one for one in map(_read, table) if one is not None]


def own_mappings_in_small_pages() -> list[Mapping]:
    """Return those of which no part is in huge pages.

    Raises:
        OSError: there is no /proc.
    """
    found: list[Mapping] = []
    with open("/proc/self/smaps", "rb") as table:  # noqa: PTH123 - see above
        current: Mapping | None = None
        for line in table:
            first, *others = line.split(maxsplit=2)
            if not first.endswith(b":"):
                current = _read(line)
                found += [current] if current is not None else []
            elif (
                first == b"AnonHugePages:" and others[0] != b"0" and current is not None
            ):
                found.remove(current)
    return found


def _read(line: bytes) -> Mapping | None:
    """Return what a line is about that a mapping begins with, if it is our own."""
    addresses, rights, _, _, _, *name = line.split(maxsplit=5)
    if rights != b"rw-p":
        return None
    start, end = (int(word, 16) for word in addresses.split(b"-"))
    return Mapping(start, end, b"".join(name).strip())
