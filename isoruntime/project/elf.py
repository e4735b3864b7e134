"""What kind of machine code a file holds, from its first bytes and its ELF tables."""

from __future__ import annotations

import re
import struct

from isoruntime.typed import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

_MACH_O: Final = frozenset(
    {
        *(b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe"),
        *(b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"),
    }
)
_MACHINES: Final = {
    3: "32-bit x86",
    8: "MIPS",
    21: "PowerPC",
    22: "S/390",
    40: "32-bit Arm",
    62: "x86-64",
    183: "aarch64",
    243: "RISC-V",
    258: "LoongArch",
}
_X86_64: Final = 62
_64_BIT: Final = 2
_LITTLE: Final = 1
_PT_INTERP: Final = 3
#: The section that names the versions of the libraries' functions that are needed.
_SHT_GNU_VERNEED: Final = 0x6FFFFFFE
_GLIBC: Final = re.compile(rb"GLIBC_(\d+)\.(\d+)")


class Binary(NamedTuple):
    """What was found out about a file of machine code."""

    #: as people call it, such as `Linux x86-64`
    name: str
    #: it runs on a 64-bit x86 Linux, as far as the machine goes
    is_x86_64: bool
    #: the dynamic loader it asks for; empty for libraries and static programs
    loader: str = ""
    #: the oldest C library that has what it needs, (0, 0) if it does not say
    glibc: tuple[int, int] = (0, 0)


def examine(path: Path) -> Binary | None:
    """Return what a file is, None if it is no machine code.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"\x7fELF":
        data = path.read_bytes()
        try:
            return _elf(data)
        except (struct.error, IndexError, ValueError):
            return Binary("a damaged ELF file", is_x86_64=False)
    if head in _MACH_O:
        return Binary("macOS (Mach-O)", is_x86_64=False)
    if head[:2] == b"MZ":
        return Binary("Windows (PE)", is_x86_64=False)
    return None


def _elf(data: bytes) -> Binary:
    machine = struct.unpack_from("<H" if data[5] == _LITTLE else ">H", data, 18)[0]
    name = f"Linux {_MACHINES.get(machine, f'machine {machine}')}"
    if machine != _X86_64 or data[4] != _64_BIT:
        return Binary(name, is_x86_64=False)
    return Binary(name, True, _loader(data), _glibc(data))


def _loader(data: bytes) -> str:
    start = struct.unpack_from("<Q", data, 32)[0]
    size, count = struct.unpack_from("<HH", data, 54)
    for at in range(start, start + size * count, size):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", data, at)
        if kind == _PT_INTERP:
            return data[offset : offset + length].rstrip(b"\0").decode()
    return ""


def _glibc(data: bytes) -> tuple[int, int]:
    """Return the newest version of the C library that is asked for."""
    start = struct.unpack_from("<Q", data, 40)[0]
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", data, start + number * size)
        for number in range(count if start else 0)
    ]
    newest = (0, 0)
    for section in sections:
        if section[1] != _SHT_GNU_VERNEED:
            continue
        texts = sections[section[6]]
        names = data[texts[4] : texts[4] + texts[5]]
        for offset in _needed(data, section[4], section[7]):
            name = names[offset : names.index(b"\0", offset)]
            if found := _GLIBC.match(name):
                newest = max(newest, (int(found[1]), int(found[2])))
    return newest


def _needed(data: bytes, at: int, count: int) -> list[int]:
    """Return where the names of all needed versions stand in their table of texts."""
    offsets = []
    for _ in range(count):
        _, entries, _, first, following = struct.unpack_from("<HHIII", data, at)
        entry = at + first
        for _ in range(entries):
            _, _, _, name, step = struct.unpack_from("<IHHII", data, entry)
            offsets.append(name)
            entry += step
        at += following
    return offsets
