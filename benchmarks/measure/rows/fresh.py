"""Row 4: a process for every call, forked ahead or started on demand."""

from __future__ import annotations

import os
from functools import partial
from typing import Final

from benchmarks.measure.contenders import OFF, OURS, SPAWN
from benchmarks.measure.loading import RATE, Level, Loaded, measure_loads
from benchmarks.measure.rounds import Case, Session, interleave
from benchmarks.measure.row import Row
from benchmarks.measure.samples import (
    Finding,
    Samples,
    absolute,
    at_least,
    at_most,
    ratio,
)
from benchmarks.measure.servers import HANDLERS
from benchmarks.measure.starts import ForkTimer

_ONE: Final = Level(1)
_EIGHT: Final = Level(8)
_RATE: Final = _EIGHT.metric(RATE)
_ALONE: Final = _ONE.metric("p50 ms")
_BALLAST_MB: Final = 100
_WITH_BALLAST: Final = f"{OURS}, {_BALLAST_MB} MB imported"
_FORK: Final = "a worker's start"
_FORK_MS: Final = "fork to first byte ms"


def measure(session: Session) -> Samples:
    """Measure `--fresh` next to an interpreter started for every call."""
    who = session.contenders
    large = who.isoruntime("ballast.small", "--fresh", ballast_mb=_BALLAST_MB)
    peers = [
        *who.both("handler.handler", "--fresh"),
        large._replace(name=_WITH_BALLAST),
        who.spawn(),
    ]
    loads = [Loaded(peer, [_ONE, _EIGHT]) for peer in peers]
    forks = 20 if session.is_quick else 100
    return measure_loads(loads, session) | interleave(
        [Case(_FORK, partial(_fork, forks))], session.rounds
    )


def _fork(times: int) -> dict[str, float]:
    variables = {"PATH": os.environ.get("PATH", os.defpath)}
    timer = ForkTimer("functions.small", HANDLERS, variables)
    return {_FORK_MS: timer.median_ms(times)}


def judge(samples: Samples) -> list[Finding]:
    """Compare the rate with that of spawning, and judge by itself."""
    rate = "calls/s at 8 connections"
    return [
        absolute(samples, rate, OURS, _RATE, at_least(400), ""),
        ratio(samples, f"{rate}, over {SPAWN}", OURS, SPAWN, _RATE, at_least(12)),
        absolute(samples, "p50 at 1 connection", OURS, _ALONE, at_most(1.5), "ms"),
        absolute(
            samples,
            f"{rate}, {_BALLAST_MB} MB imported",
            _WITH_BALLAST,
            _RATE,
            at_least(100),
            "",
        ),
        ratio(samples, f"{rate}, of that of {OFF}", OURS, OFF, _RATE, at_least(0.5)),
    ]


ROW: Final = Row(
    "fresh",
    "A new process for every call (`--fresh`)",
    measure,
    judge,
    reference=(SPAWN, _RATE),
)
