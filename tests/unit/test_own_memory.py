"""Which memory the kernel lists as a process's own to write to."""

from __future__ import annotations

import ctypes
import mmap
import os
from contextlib import suppress
from pathlib import Path

import pytest

from isoruntime.zygote.own_memory import (
    Mapping,
    own_mappings,
    own_mappings_in_small_pages,
)
from tests.sandbox.children import in_child
from tests.support.memory import address_of, mapped_kb, private_memory

SIZE = 16 * mmap.PAGESIZE
MB = 1 << 20

libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def around(address: int) -> list[Mapping]:
    """Return what lies there, be it larger than what was asked for."""
    return [one for one in own_mappings() if one.start <= address < one.end]


def protect(memory: mmap.mmap, prot: int) -> int:
    """Change what may be done with it, and return where it begins."""
    address = address_of(memory)
    assert libc.mprotect(address, len(memory), prot) == 0
    return address


def test_private_memory_is_ones_own() -> None:
    with private_memory(SIZE) as memory:
        address = address_of(memory)
        (found,) = around(address)
        assert found.end >= address + SIZE
        # The kernel joins what is alike.
        assert (found.end - found.start) % mmap.PAGESIZE == 0
        assert found.name == b""


def test_a_file_that_is_changed_for_oneself_alone_is_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "a file"
    path.write_bytes(bytes(SIZE))
    with (
        path.open("r+b") as file,
        mmap.mmap(file.fileno(), SIZE, access=mmap.ACCESS_COPY) as memory,
    ):
        address = address_of(memory)
        assert around(address) == [Mapping(address, address + SIZE, os.fsencode(path))]


@pytest.mark.parametrize(
    "prot",
    [0, mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_EXEC],
    ids=["out of reach", "read-only", "code"],
)
def test_what_cannot_be_written_to_is_not(prot: int) -> None:
    with private_memory(SIZE) as memory:
        assert around(protect(memory, prot)) == []


def test_what_is_shared_with_others_is_not() -> None:
    with mmap.mmap(-1, SIZE) as memory:
        assert around(address_of(memory)) == []


def test_the_heap_and_the_stack_have_names() -> None:
    names = {one.name for one in own_mappings()}
    assert {b"[heap]", b"[stack]"} <= names


def test_what_is_in_huge_pages_is_left_out() -> None:
    def make() -> list[bool] | None:
        huge, small = private_memory(16 * MB), private_memory(16 * MB)
        with suppress(OSError):
            small.madvise(mmap.MADV_NOHUGEPAGE)
            huge.madvise(mmap.MADV_HUGEPAGE)
        for memory in (huge, small):
            memory.write(b"x" * 16 * MB)
        if not mapped_kb("AnonHugePages"):
            return None
        in_small = own_mappings_in_small_pages()
        assert {*in_small} < {*own_mappings()}
        return [around(address_of(one))[0] in in_small for one in (huge, small)]

    found = in_child(make)
    if found is None:
        pytest.skip("this kernel makes no huge page when it is asked to")
    assert found == [False, True]
