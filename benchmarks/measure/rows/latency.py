"""Row 2: how long one warm call takes, alone and among eight."""

from __future__ import annotations

from typing import Final

from benchmarks.measure.contenders import OURS, WAITRESS
from benchmarks.measure.loading import Level, Loaded, measure_loads
from benchmarks.measure.rounds import Session
from benchmarks.measure.row import Row
from benchmarks.measure.samples import (
    Finding,
    Samples,
    at_most,
    difference,
    lowest,
    ratio,
)

_HANDLER: Final = "functions.small"
_ONE: Final = Level(1)
_EIGHT: Final = Level(8)
_MS: Final = "p50 ms"
_WORST_MS: Final = "p99 ms"
_IN_PROCESS: Final = (WAITRESS[4], WAITRESS[8])


def measure(session: Session) -> Samples:
    """Measure the runtime and both settings of waitress at 1 and 8 connections."""
    who = session.contenders
    peers = [
        *who.both(_HANDLER),
        *(who.waitress(_HANDLER, threads) for threads in (4, 8)),
    ]
    return measure_loads([Loaded(peer, [_ONE, _EIGHT]) for peer in peers], session)


def judge(samples: Samples) -> list[Finding]:
    """Compare with whichever setting of waitress is faster."""
    alone = _ONE.metric(_MS)
    theirs = lowest(samples, alone, _IN_PROCESS)
    what = f"p50 at 1 connection, more than in-process {theirs}"
    findings = [
        difference(samples, what, OURS, theirs, alone, at_most(0.05), "ms"),
    ]
    for name, metric, most in (
        ("p50", _EIGHT.metric(_MS), 0.7),
        ("p99", _EIGHT.metric(_WORST_MS), 0.6),
    ):
        theirs = lowest(samples, metric, _IN_PROCESS)
        what = f"{name} at 8 connections, of in-process {theirs}"
        findings.append(ratio(samples, what, OURS, theirs, metric, at_most(most)))
    return findings


ROW: Final = Row(
    "latency",
    "Latency",
    measure,
    judge,
    reference=(WAITRESS[8], _EIGHT.metric(_MS)),
)
