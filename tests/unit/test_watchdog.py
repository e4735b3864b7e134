"""What a tree of real processes takes, and how dearly that is found out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from isoruntime.zygote import watchdog
from isoruntime.zygote.watchdog import Watchdog

MB = 1 << 20
SIZE = 32 * MB


#: A process of its own, as the size of this one depends on the tests before.
TWO = f"""
import mmap, os, sys
area = mmap.mmap(-1, {SIZE}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.write(b"x" * {SIZE})
child = os.fork()
if child:
    os.waitpid(child, 0)
else:
    os.write(1, b"1")
    if os.read(0, 1):
        area.seek(0)
        area.write(b"y" * {SIZE})
        os.write(1, b"2")
        # Until there is nobody to tell anything.
        os.read(0, 1)
"""


class Two(NamedTuple):
    """A parent and its child, who share 32 MB."""

    parent: int
    ends: subprocess.Popen[bytes]

    def part(self) -> None:
        """Have the child write to all that it shares."""
        assert self.ends.stdin is not None
        self.ends.stdin.write(b"!")
        self.hear(b"2")

    def hear(self, word: bytes) -> None:
        """Wait for a word of the child."""
        assert self.ends.stdout is not None
        assert self.ends.stdout.read(1) == word


@contextmanager
def parent_and_child() -> Iterator[Two]:
    """Run two that share 32 MB; the child makes them its own when it is told to."""
    with subprocess.Popen(
        [sys.executable, "-ISc", TWO],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        two = Two(process.pid, process)
        two.hear(b"1")
        yield two
        assert process.stdin is not None
        process.stdin.close()


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
    with parent_and_child() as two:
        dog = Watchdog(0, 0)
        for _ in range(30):
            assert dog.sample([two.parent]) == []
    # At first, and at every tenth sample; both processes each time.
    assert len(looks) == 2 * 4


def test_a_page_that_two_share_counts_once_until_one_has_written_to_it() -> None:
    with parent_and_child() as two:
        dog = Watchdog(0, 0)
        for _ in range(10):
            dog.sample([two.parent])
        shared_kb = dog.forget(two.parent)
        assert SIZE / 1024 < shared_kb < 1.8 * SIZE / 1024
        dog.sample([two.parent])
        two.part()
        for _ in range(10):
            dog.sample([two.parent])
        assert dog.forget(two.parent) > shared_kb + 0.9 * SIZE / 1024


def test_a_tree_over_its_limit_is_named_at_once() -> None:
    with parent_and_child() as two:
        (excess,) = Watchdog(16, 0).sample([two.parent])
        assert (excess.pid, excess.of) == (two.parent, "memory")
        assert excess.used > SIZE / 1024
