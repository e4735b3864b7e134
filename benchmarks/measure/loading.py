"""One server under load: started, warmed up, measured at several levels, checked."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from benchmarks.measure import load
from benchmarks.measure.calling import check, wire
from benchmarks.measure.invocation import SMALL, Request
from benchmarks.measure.peers import Peer
from benchmarks.measure.rounds import Case
from benchmarks.measure.samples import FAILURES

_WARM_UP_S: Final = 1
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


def loaded(
    peer: Peer,
    levels: Sequence[Level],
    seconds: float,
    request: Request = SMALL,
) -> Case:
    """Return the case of one server at several levels of load."""
    return Case(peer.name, partial(_load, peer, levels, seconds, request))


def _load(
    peer: Peer, levels: Sequence[Level], seconds: float, request: Request
) -> dict[str, float]:
    metrics: dict[str, float] = {FAILURES: 0}
    with peer.server() as server:
        server.connect().close()
        check(server.port, request)
        # Grown pools and warm caches are what a busy function has.
        load.run(server.port, max(level.busy for level in levels), _WARM_UP_S, request)
        for level in levels:
            with contextlib.ExitStack() as stack:
                if level.idle:
                    silent = load.idle_connections(
                        server.port, level.idle, wire(request)
                    )
                    stack.enter_context(silent)
                taken = load.run(server.port, level.busy, seconds, request)
            metrics[level.metric(RATE)] = taken.per_s
            metrics[level.metric("p50 ms")] = taken.p50_ms
            metrics[level.metric("p99 ms")] = taken.p99_ms
            metrics[FAILURES] += taken.failures
        check(server.port, request)
    return metrics
