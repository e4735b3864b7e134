"""What a tree of real processes takes, and how dearly that is found out."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from isoruntime.zygote import watchdog
from isoruntime.zygote.watchdog import Watchdog

MB = 1 << 20
SIZE = 32 * MB


@contextmanager
def parent_and_child() -> Iterator[tuple[int, int, int]]:
    """Run two that share 32 MB; the child makes them its own when it is told to."""
    told, tell = os.pipe()
    heard, say = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            os.close(tell)
            area = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            area.write(b"x" * SIZE)
            child = os.fork()
            if child:
                os.waitpid(child, 0)
            else:
                os.write(say, b"1")
                if os.read(told, 1):
                    area.seek(0)
                    area.write(b"y" * SIZE)
                    os.write(say, b"2")
                    # Until there is nobody to tell anything.
                    os.read(told, 1)
        finally:
            os._exit(0)
    os.close(told)
    os.close(say)
    try:
        assert os.read(heard, 1) == b"1"
        yield parent, tell, heard
    finally:
        os.close(tell)
        os.waitpid(parent, 0)
        os.close(heard)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note whose shares are looked up."""
    seen: list[int] = []
    look = watchdog._share_kb

    def noting(pid: int) -> int:
        seen.append(pid)
        return look(pid)

    monkeypatch.setattr(watchdog, "_share_kb", noting)
    return seen


def test_shares_of_a_tree_at_rest_are_looked_up_rarely(looks: list[int]) -> None:
    with parent_and_child() as (parent, _, _):
        dog = Watchdog(0, 0)
        for _ in range(30):
            assert dog.sample([parent]) == []
    # At first, and at every tenth sample; both processes each time.
    assert len(looks) == 2 * 4


def test_a_page_that_two_share_counts_once_until_one_has_written_to_it() -> None:
    with parent_and_child() as (parent, tell, heard):
        dog = Watchdog(0, 0)
        for _ in range(10):
            dog.sample([parent])
        shared_kb = dog.forget(parent)
        assert SIZE / 1024 < shared_kb < 1.8 * SIZE / 1024
        dog.sample([parent])
        os.write(tell, b"!")
        assert os.read(heard, 1) == b"2"
        for _ in range(10):
            dog.sample([parent])
        assert dog.forget(parent) > shared_kb + 0.9 * SIZE / 1024


def test_a_tree_over_its_limit_is_named_at_once() -> None:
    with parent_and_child() as (parent, _, _):
        (excess,) = Watchdog(16, 0).sample([parent])
        assert (excess.pid, excess.of) == (parent, "memory")
        assert excess.used > SIZE / 1024
