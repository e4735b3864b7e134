"""Classic BPF, as far as a seccomp filter needs it: instructions and their bytes.

An instruction is an int laid out as `struct sock_filter` on a little-endian machine:

    bits  0 to 15   what to do
    bits 16 to 23   how many instructions to skip if the comparison holds
    bits 24 to 31   how many if it does not
    bits 32 to 63   what to load, compare with or return
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from isoruntime.typed import Final

# linux/filter.h and linux/bpf_common.h
_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP: Final = 0x05  # BPF_JMP | BPF_JA
_JUMP_IF_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_IF_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JUMP_IF_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

#: How far a comparison can jump: its two distances have 8 bits each.
FARTHEST: Final = 255


def load(offset: int) -> int:
    """Put the 32 bits at `offset` of what is judged where comparisons look."""
    return _LOAD | offset << 32


def give(verdict: int) -> int:
    """End with a verdict."""
    return _RETURN | verdict << 32


def jump(distance: int) -> int:
    """Skip that many instructions, as many as it may be."""
    return _JUMP | distance << 32


def if_equal(value: int, then: int, otherwise: int = 0) -> int:
    """Skip `then` instructions if what was loaded is `value`, else `otherwise`."""
    return _compare(_JUMP_IF_EQUAL, value, then, otherwise)


def if_at_least(value: int, then: int, otherwise: int = 0) -> int:
    """Do so if what was loaded, taken as unsigned, is not below `value`."""
    return _compare(_JUMP_IF_AT_LEAST, value, then, otherwise)


def if_any_bit(mask: int, then: int, otherwise: int = 0) -> int:
    """Do so if what was loaded has at least one of the bits of `mask`."""
    return _compare(_JUMP_IF_ANY_BIT, mask, then, otherwise)


def _compare(kind: int, value: int, then: int, otherwise: int) -> int:
    # Cut off, a distance would lead somewhere else, and perhaps past a denial.
    if then > FARTHEST or otherwise > FARTHEST:
        raise ValueError(f"a jump over {max(then, otherwise)} instructions")
    return kind | then << 16 | otherwise << 24 | value << 32


def assemble(instructions: Sequence[int]) -> bytes:
    """Return the array of `struct sock_filter` that the kernel takes."""
    return struct.pack(f"<{len(instructions)}Q", *instructions)
