"""Looking at a running server from outside while its handlers misbehave."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.calls import Calls
from tests.support.server import Reply, Server
from tests.waiting import wait_until

#: Workers of a server whose number of workers never changes.
WORKERS = 3
STEADY = ("--min-workers", str(WORKERS), "--max-workers", str(WORKERS))

#: What differs between two descriptors of a kind.
_NUMBERS = re.compile(r"(?<![a-z])[0-9a-f-]*\d[0-9a-f-]*")


def descriptors(pid: int) -> Counter[str]:
    """Return how many descriptors of each kind a process holds."""
    kinds: Counter[str] = Counter()
    for entry in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - names are all it takes
        try:
            target = os.readlink(f"/proc/{pid}/fd/{entry}")  # noqa: PTH115 - no path
        except OSError:
            continue
        kinds[_NUMBERS.sub("N", target)] += 1
    return kinds


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def below_workers(server: Server) -> list[psutil.Process]:
    """Return everything workers have started, zombies included."""
    try:
        return [
            process
            for zygote in server.zygotes
            for worker in zygote.children()
            for process in worker.children(recursive=True)
        ]
    except psutil.NoSuchProcess:
        return below_workers(server)


def has_settled(server: Server, workers: int = WORKERS) -> bool:
    """Return whether there is a zygote with its idle workers, and nothing else."""
    try:
        (zygote,) = server.front_end.children()
        below = zygote.children(recursive=True)
        return len(below) == workers and all(
            one.ppid() == zygote.pid and one.status() == psutil.STATUS_SLEEPING
            for one in below
        )
    except (psutil.NoSuchProcess, ValueError):
        return False


def free_mb(disk: Path) -> float:
    """Return what can still be written."""
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize / (1 << 20)


def files_below(folder: Path) -> set[str]:
    """Return the files below a folder; one that vanishes meanwhile is not there."""
    return {
        f"{within}/{name}" for within, _, files in os.walk(folder) for name in files
    }


class Holdings:
    """What a server holds before anything went wrong, to compare with."""

    def __init__(self, server: Server, workers: int = WORKERS) -> None:
        self._server = server
        self._workers = workers
        wait_until(lambda: has_settled(server, workers), 10, "all workers")
        # What is made once for the first invocation is no leak.
        assert server.invoke("hello").status == 200
        server.close_connections()
        wait_until(lambda: has_settled(server, workers), 10, "all workers")
        self._front_end = descriptors(server.front_end.pid)
        self._zygote = descriptors(server.zygote.pid)
        # Where a worker was replaced before it had gone, its successor took another
        # cell, whose rules wait for the next time.
        self._kept = Counter({"anon_inode:[landlock-ruleset]": workers})
        self.resident_mb = self._resident_mb()

    def _resident_mb(self) -> float:
        return float(self._server.front_end.memory_info().rss) / (1 << 20)

    def check_nothing_is_left(self) -> None:
        """Wait until the server holds what it held; fail if it never does."""
        server = self._server
        server.close_connections()
        wait_until(
            lambda: has_settled(server, self._workers),
            10,
            f"{self._workers} workers alone: {server.front_end.children(recursive=True)}",
        )

        def more() -> list[Counter[str]]:
            return [
                descriptors(server.front_end.pid) - self._front_end,
                descriptors(server.zygote.pid) - self._zygote - self._kept,
            ]

        wait_until(lambda: not any(more()), 5, f"descriptors given back: {more()}")

    @property
    def growth_mb(self) -> float:
        """By how much the front end's resident memory has grown."""
        return self._resident_mb() - self.resident_mb


@contextmanager
def neighbour(server: Server, gate: Path) -> Iterator[list[Reply]]:
    """Have an invocation in flight during the block; yield where its answer goes.

    The handler must know `until PATH`, as `waits.py` does.
    """
    calls = Calls(server)
    since = server.stdout.size()
    calls.start(1, f"until {gate}")
    try:
        server.wait_for_line(f"waiting for {gate}", since)
        yield calls.replies
    finally:
        gate.touch()
        calls.finish()


@contextmanager
def unharmed_neighbour(server: Server, gate: Path) -> Iterator[None]:
    """Have an invocation in flight during the block, which must succeed after it."""
    with neighbour(server, gate) as replies:
        yield
        assert not replies, f"the neighbour was answered too early: {replies}"
    (reply,) = replies
    assert (reply.status, reply.body) == (200, b"done")


def check_failure(reply: Reply, error_type: str, **details: object) -> None:
    """Check that an answer is a failure of this type, with these details."""
    assert reply.status == 404, reply.body[:300]
    assert reply.headers["x-fc-status"] == "404"
    failure = reply.json()
    assert failure["errorType"] == error_type, failure
    found = failure.get("details") or {}
    assert {name: found.get(name) for name in details} == details, failure
