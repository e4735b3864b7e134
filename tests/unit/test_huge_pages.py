"""Huge pages of this kernel, made in processes of their own."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from isoruntime.sandbox import _libc
from isoruntime.zygote import huge_pages
from isoruntime.zygote.huge_pages import HugePages
from tests.sandbox.children import in_child
from tests.support.memory import address_of, mapped_kb, private_memory

MB = 1 << 20
ROOM = 16 * MB


@pytest.fixture(scope="module", autouse=True)
def _there_are_some() -> None:
    size = huge_pages._size()

    def probe() -> int:
        kept = private_memory(ROOM)
        kept.write(b"x" * ROOM)
        first = address_of(kept)
        try:
            _libc.collapse(-(-first // size) * size, size)
        except OSError as error:
            return error.errno or 0
        return 0

    if not 0 < size <= ROOM // 2 or in_child(probe) == errno.EINVAL:
        pytest.skip("this kernel makes none on demand")


def test_what_is_full_is_made_huge_and_stays_what_it_was() -> None:
    def make() -> list[Any]:
        kept = private_memory(ROOM)
        kept.write(b"x" * ROOM)
        before = mapped_kb("AnonHugePages")
        pages = HugePages()
        for _ in range(200):
            pages.make_one()
        grown_mb = (mapped_kb("AnonHugePages") - before) / 1024
        return [grown_mb, kept[:] == b"x" * ROOM]

    grown_mb, is_the_same = in_child(make)
    assert grown_mb >= ROOM / MB / 2
    assert is_the_same


def test_what_is_mostly_empty_does_not_grow() -> None:
    def make() -> float:
        kept = private_memory(ROOM)
        for at in range(0, ROOM, 64 * 1024):
            kept[at] = 1
        # First those that were there before us.
        pages = HugePages()
        pages._size, pages._left = huge_pages._size(), []
        pages._left += huge_pages._regions(pages._size)
        before = mapped_kb("Rss")
        for _ in range(200):
            pages.make_one()
        return (mapped_kb("Rss") - before) / 1024

    assert in_child(make) < 4


def test_memory_that_is_gone_meanwhile_harms_nobody() -> None:
    def make() -> int:
        kept = private_memory(ROOM)
        kept.write(b"x" * ROOM)
        pages = HugePages()
        pages.make_one()
        kept.close()
        for _ in range(200):
            pages.make_one()
        return len(pages._left or [])

    assert in_child(make) == 0


def test_a_kernel_that_knows_none_of_it_is_asked_no_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huge_pages, "_SIZE_FILE", str(tmp_path / "missing"))
    pages = HugePages()
    pages.make_one()
    assert pages._left == []
