"""Row 3: handlers that calculate, for which one interpreter lock is not enough."""

from __future__ import annotations

from typing import Final

from benchmarks.measure.contenders import OURS, WAITRESS
from benchmarks.measure.loading import RATE, Level, Loaded, measure_loads
from benchmarks.measure.rounds import Session
from benchmarks.measure.row import Row
from benchmarks.measure.samples import Finding, Samples, at_least, ratio

_HANDLER: Final = "functions.busy"
_EIGHT: Final = Level(8)
_METRIC: Final = _EIGHT.metric(RATE)


def measure(session: Session) -> Samples:
    """Measure at eight connections; gunicorn has a process for each core too."""
    who = session.contenders
    peers = [*who.both(_HANDLER), who.waitress(_HANDLER), who.gunicorn(_HANDLER)]
    return measure_loads([Loaded(peer, [_EIGHT]) for peer in peers], session)


def judge(samples: Samples) -> list[Finding]:
    """Compare with the handler in one process."""
    what = f"calls/s at 8 connections, over in-process {WAITRESS[8]}"
    return [ratio(samples, what, OURS, WAITRESS[8], _METRIC, at_least(1.8))]


ROW: Final = Row(
    "cpu",
    "5 ms of Python's CPU time per call",
    measure,
    judge,
    reference=(WAITRESS[8], _METRIC),
)
