"""Ending real trees of processes, however they are built."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from isoruntime.sandbox import _libc
from isoruntime.zygote import tree
from tests.waiting import wait_until

#: Gives the root of a tree what a worker has: its orphans stay its own. Everything it
#: starts writes its pid to the pipe `say`, which is how the test knows them all.
PRELUDE = """
import ctypes, os, signal, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
say = int(sys.argv[1])
def here():
    os.write(say, b"%d\\n" % os.getpid())
def stay():
    here()
    while True:
        signal.pause()
def child(body):
    pid = os.fork()
    if pid == 0:
        try:
            body()
        finally:
            os._exit(0)
    return pid
"""

TREES = {
    "one process": ("stay()", 1),
    "two children": ("child(stay); child(stay); stay()", 3),
    "a line of five": (
        """
def line(n):
    if n > 1:
        child(lambda: line(n - 1))
    stay()
line(5)
""",
        5,
    ),
    "a child in a session of its own": (
        "child(lambda: (os.setsid(), stay())); stay()",
        2,
    ),
    "a daemon, forked twice": (
        """
def first():
    os.setsid()
    child(stay)
os.waitpid(child(first), 0)
stay()
""",
        2,
    ),
    "a stopped child": (
        "child(lambda: (here(), os.kill(os.getpid(), signal.SIGSTOP))); stay()",
        2,
    ),
    "signals ignored": (
        """
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
child(stay)
stay()
""",
        2,
    ),
    "a child of a thread": (
        """
import threading
threading.Thread(target=lambda: (child(stay), time.sleep(600)), daemon=True).start()
stay()
""",
        2,
    ),
    "another program": (
        """
if os.fork() == 0:
    here()
    os.execvp("sleep", ["sleep", "600"])
stay()
""",
        2,
    ),
    "a stopped root with children": (
        "child(stay); here(); os.kill(os.getpid(), signal.SIGSTOP)",
        2,
    ),
}


class Tree:
    """A real tree of processes below this one."""

    def __init__(self, source: str) -> None:
        self._r, w = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + source, str(w)],
            pass_fds=[w],
            stdin=subprocess.DEVNULL,
        )
        os.close(w)
        self.root = self._process.pid
        self.said = b""

    def wait_for(self, count: int) -> None:
        """Wait until so many processes have said that they are there."""
        while self.said.count(b"\n") < count:
            data = os.read(self._r, 4096)
            assert data, "the tree ended by itself"
            self.said += data

    @property
    def pids(self) -> list[int]:
        """Everybody who has said so."""
        return [int(line) for line in self.said.split()]

    def read_the_rest(self) -> None:
        """Take in the pids that are still in the pipe."""
        os.set_blocking(self._r, False)
        try:
            while data := os.read(self._r, 4096):
                self.said += data
        except BlockingIOError:
            pass

    def close(self) -> None:
        """End whatever is left, by pid."""
        self.read_the_rest()
        for pid in self.pids:
            if pid != self.root and is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        os.close(self._r)
        wait_until(lambda: not any(map(is_alive, self.pids)), 5, "the end of a tree")


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def tree_of(request: pytest.FixtureRequest) -> Iterator[Tree]:
    made = Tree(request.param)
    yield made
    made.close()


def planted(name: str) -> object:
    source, count = TREES[name]
    return pytest.param(source, count, id=name)


@pytest.mark.parametrize(
    ("tree_of", "count"), [planted(name) for name in TREES], indirect=["tree_of"]
)
def test_a_tree_ends_whole_however_it_is_built(tree_of: Tree, count: int) -> None:
    tree_of.wait_for(count)
    if "SIGSTOP" in str(tree_of._process.args):
        wait_until(lambda: any(map(is_stopped, tree_of.pids)), 5, "a stopped process")
    assert tree.kill_tree(tree_of.root) >= count
    wait_until(lambda: not any(map(is_alive, tree_of.pids)), 5, "the end of all")
    assert len(tree_of.pids) == count


def is_stopped(pid: int) -> bool:
    return is_alive(pid) and psutil.Process(pid).status() == psutil.STATUS_STOPPED


#: Bounded by a count that all share: never more than 20 processes, each of which
#: starts the next and ends, so that there is always one that is being forked.
RELAY = """
def run(left):
    if left:
        here()
        child(lambda: run(left - 1))
        os._exit(0)
    stay()
for _ in range(2):
    child(lambda: run(400))
stay()
"""
BOMB = """
def burst(depth):
    if depth:
        child(lambda: burst(depth - 1))
        child(lambda: burst(depth - 1))
    stay()
burst(3)
"""


@pytest.mark.parametrize("tree_of", [BOMB], indirect=True, ids=["15 at most"])
@pytest.mark.parametrize("when", [1, 2, 5, 9, 15])
def test_a_tree_that_is_still_growing_ends_whole(tree_of: Tree, when: int) -> None:
    tree_of.wait_for(when)
    tree.kill_tree(tree_of.root)
    tree_of._process.wait(5)
    tree_of.read_the_rest()
    wait_until(lambda: not any(map(is_alive, tree_of.pids)), 5, "the end of all")


@pytest.mark.parametrize("tree_of", [RELAY], indirect=True, ids=["2 at a time"])
def test_a_relay_of_short_lives_is_caught(tree_of: Tree) -> None:
    # The second half of every pair is born while its parent ends, so a look at the
    # tree always sees it half moved.
    tree_of.wait_for(30)
    tree.kill_tree(tree_of.root)
    tree_of._process.wait(5)
    tree_of.read_the_rest()
    wait_until(lambda: not any(map(is_alive, tree_of.pids)), 5, "the end of all")
    assert tree_of.said.count(b"\n") < 2 * 400, "it ended by itself"


def test_a_tree_that_is_gone_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert tree.children_of(process.pid) == []
    assert tree.send(process.pid, signal.SIGKILL) is False
    assert tree.peak_memory_kb(process.pid) == 0
    tree.kill_tree(process.pid)


def test_the_ends_of_others_are_not_ours(tree_of_two: tuple[Tree, Tree]) -> None:
    ended, kept = tree_of_two
    tree.kill_tree(ended.root)
    ended._process.wait(5)
    assert all(map(is_alive, kept.pids))


@pytest.fixture
def tree_of_two() -> Iterator[tuple[Tree, Tree]]:
    both = Tree("child(stay); stay()"), Tree("child(stay); stay()")
    for one in both:
        one.wait_for(2)
    yield both
    for one in both:
        one.close()


@pytest.mark.parametrize(
    "tree_of", ["child(stay); child(stay); stay()"], indirect=True, ids=["three"]
)
def test_children_are_the_direct_ones(tree_of: Tree) -> None:
    tree_of.wait_for(3)
    assert tree_of.root in tree.children_of(os.getpid())
    below = set(tree_of.pids) - {tree_of.root}
    assert set(tree.children_of(tree_of.root)) == below
    assert below.isdisjoint(tree.children_of(os.getpid()))


#: More pids than one read of /proc returns, which is a page of them.
CROWD = """
for _ in range(1000):
    if os.fork() == 0:
        signal.pause()
stay()
"""


@pytest.mark.slow
@pytest.mark.parametrize("tree_of", [CROWD], indirect=True, ids=["1000 children"])
def test_a_crowd_of_children_is_seen_to_its_last(tree_of: Tree) -> None:
    tree_of.wait_for(1)
    crowd = [child.pid for child in psutil.Process(tree_of.root).children()]
    try:
        assert len(crowd) == 1000
        assert len(tree.children_of(tree_of.root)) == 1000
    finally:
        for pid in crowd:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "tree_of",
    ["block = bytearray(50 << 20); del block; stay()"],
    indirect=True,
    ids=["50 MB, given back"],
)
def test_the_peak_counts_what_was_given_back(tree_of: Tree) -> None:
    tree_of.wait_for(1)
    resident_kb = psutil.Process(tree_of.root).memory_info().rss / 1024
    assert tree.peak_memory_kb(tree_of.root) >= 50 * 1024
    assert resident_kb < 50 * 1024


def test_a_process_that_lost_its_parent_stays_below_a_subreaper() -> None:
    # What the whole module relies on, of the kernel and of our call to it.
    r, w = os.pipe()
    # Safe because the child only calls the kernel and leaves with `_exit`.
    reaper = os.fork()
    if reaper == 0:
        _be_a_reaper(w)
    os.close(w)
    orphan = int(os.read(r, 100))
    try:
        wait_until(lambda: psutil.Process(orphan).ppid() == reaper, 5, "the adoption")
    finally:
        for pid in (orphan, reaper):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(reaper, 0)
        os.close(r)


def _be_a_reaper(fd: int) -> None:
    # Safe because every path ends in `_exit` or a wait for the signal that kills.
    try:
        _libc.become_subreaper()
        middle = os.fork()
        if middle == 0:
            if os.fork() == 0:
                os.write(fd, b"%d" % os.getpid())
                signal.pause()
            os._exit(0)
        os.waitpid(middle, 0)
        signal.pause()
    finally:
        os._exit(0)


def test_stopping_comes_before_killing() -> None:
    # A process that is killed while its sibling runs could be replaced by it.
    made = Tree("child(stay); child(stay); stay()")
    try:
        made.wait_for(3)
        stopped = tree.stop_descendants(made.root)
        assert set(stopped) == set(made.pids) - {made.root}
        wait_until(lambda: all(map(is_stopped, stopped)), 5, "all to be stopped")
        assert not is_stopped(made.root)
    finally:
        made.close()
