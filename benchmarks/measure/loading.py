"""Servers under load, all up at the same time: a slice of a second each, in turn.

What a machine is like changes from one second to the next. Servers that are measured one
after the other meet different machines; those that take turns meet the same one. Whoever
has no turn does nothing meanwhile, as nobody calls it.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from benchmarks.measure import load
from benchmarks.measure.calling import check, wire
from benchmarks.measure.invocation import SMALL, Request
from benchmarks.measure.load import Load
from benchmarks.measure.markdown import note
from benchmarks.measure.peers import Peer
from benchmarks.measure.rounds import Session, in_order
from benchmarks.measure.samples import FAILURES, Samples, add_round

_WARM_UP_S: Final = 1
#: The shortest load that the generator makes.
_SLICE_S: Final = 1
RATE: Final = "calls/s"


class Level(NamedTuple):
    """So many connections that call without a pause, and so many that are silent."""

    busy: int
    idle: int = 0

    def __str__(self) -> str:
        return f"{self.busy} + {self.idle:,} idle" if self.idle else f"{self.busy}"

    def metric(self, name: str) -> str:
        """Return the name of one of its numbers: `calls/s, 8`."""
        return f"{name}, {self}"


class Loaded(NamedTuple):
    """One of those that are compared under load, and at which levels."""

    peer: Peer
    levels: Sequence[Level]
    request: Request = SMALL


def measure_loads(loads: Sequence[Loaded], session: Session) -> Samples:
    """Measure every server at all its levels, once a round.

    Raises:
        NoGenerator: the load generator is missing.
        ServerFailed: a server does not start, or does not answer as it must.
    """
    samples: Samples = {loaded.peer.name: {} for loaded in loads}
    for turn in range(session.rounds):
        note(f"  round {turn + 1} of {session.rounds}: {', '.join(samples)}")
        for name, metrics in _round(in_order(loads, turn), session.slices).items():
            add_round(samples, name, metrics)
    return samples


def _round(loads: Sequence[Loaded], slices: int) -> Mapping[str, dict[str, float]]:
    """Start all servers afresh, measure them in turn, and end them."""
    metrics: dict[str, dict[str, float]] = {
        loaded.peer.name: {FAILURES: 0} for loaded in loads
    }
    with contextlib.ExitStack() as stack:
        running = [(loaded, stack.enter_context(_serving(loaded))) for loaded in loads]
        for level in dict.fromkeys(level for one in loads for level in one.levels):
            there = [(one, port) for one, port in running if level in one.levels]
            for name, taken in _in_turn(there, level, slices).items():
                _add(metrics[name], level, taken)
        for loaded, port in running:
            check(port, loaded.request)
    return metrics


@contextlib.contextmanager
def _serving(loaded: Loaded) -> Iterator[int]:
    """Have a server run, warm; its port."""
    with loaded.peer.server() as server:
        server.connect().close()
        check(server.port, loaded.request)
        # Grown pools and warm caches are what a busy function has.
        most = max(level.busy for level in loaded.levels)
        load.run(server.port, most, _WARM_UP_S, loaded.request)
        yield server.port


def _in_turn(
    running: Sequence[tuple[Loaded, int]], level: Level, slices: int
) -> Mapping[str, Sequence[Load]]:
    taken: dict[str, list[Load]] = {loaded.peer.name: [] for loaded, _ in running}
    with contextlib.ExitStack() as stack:
        if level.idle:
            for loaded, port in running:
                silent = load.idle_connections(port, level.idle, wire(loaded.request))
                stack.enter_context(silent)
        for turn in range(slices):
            for loaded, port in in_order(running, turn):
                one = load.run(port, level.busy, _SLICE_S, loaded.request)
                taken[loaded.peer.name].append(one)
    return taken


def _add(metrics: dict[str, float], level: Level, taken: Sequence[Load]) -> None:
    # As many calls as were made in all that time; of latencies the middle slice's.
    calls = sum(one.requests for one in taken)
    metrics[level.metric(RATE)] = calls / sum(one.seconds for one in taken)
    metrics[level.metric("p50 ms")] = statistics.median(one.p50_ms for one in taken)
    metrics[level.metric("p99 ms")] = statistics.median(one.p99_ms for one in taken)
    metrics[FAILURES] += sum(one.failures for one in taken)
