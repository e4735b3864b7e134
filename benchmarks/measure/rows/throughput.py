"""Row 1: calls a second of a warm function, next to what people use today."""

from __future__ import annotations

from typing import Final

from benchmarks.measure.contenders import (
    FRAMEWORK,
    GUNICORN,
    OFF,
    OURS,
    PEBBLE,
    SAMPLE,
    SAMPLE_ANSWER,
    UWSGI,
    WAITRESS,
)
from benchmarks.measure.invocation import EVENT, Request
from benchmarks.measure.loading import RATE, Level, Loaded, measure_loads
from benchmarks.measure.rounds import Session
from benchmarks.measure.row import Row
from benchmarks.measure.samples import (
    Finding,
    Samples,
    Target,
    at_least,
    highest,
    ratio,
)

_HANDLER: Final = "functions.small"
_EIGHT: Final = Level(8)
_LEVELS: Final = (_EIGHT, Level(64), Level(200), Level(8, idle=1000))
#: A caller of 200 that is refused is a failure here, so the queue must hold them.
_ROOM: Final = ("--queue", "1000")
_IN_PROCESS: Final = (WAITRESS[4], WAITRESS[8])


def measure(session: Session) -> Samples:
    """Measure all servers at 8 connections, and those that can do it at more."""
    who = session.contenders
    everywhere = [
        *who.both(_HANDLER, *_ROOM),
        *(who.waitress(_HANDLER, threads) for threads in (4, 8)),
        who.uwsgi(_HANDLER),
    ]
    at_eight = [
        who.gunicorn(_HANDLER),
        who.functions_framework(_HANDLER),
        who.pebble(_HANDLER),
    ]
    sample = Request(EVENT, SAMPLE_ANSWER)
    loads = [
        *(Loaded(peer, _LEVELS) for peer in everywhere),
        *(Loaded(peer, [_EIGHT]) for peer in at_eight),
        Loaded(who.sample(), [_EIGHT], sample),
    ]
    return measure_loads(loads, session)


def judge(samples: Samples) -> list[Finding]:
    """Compare with the better of waitress's settings, and with the others."""
    metric = _EIGHT.metric(RATE)

    def over(theirs: str, least: float) -> Finding:
        what = f"calls/s at 8 connections, over {theirs}"
        return ratio(samples, what, OURS, theirs, metric, at_least(least))

    in_process = [
        _over_the_better(samples, OURS, level, at_least(1.6)) for level in _LEVELS
    ]
    return [
        *in_process,
        over(GUNICORN, 2),
        over(FRAMEWORK, 3),
        over(SAMPLE, 9),
        over(UWSGI, 0.7),
        over(PEBBLE, 1),
        _over_the_better(samples, OFF, _EIGHT, at_least(1.6)),
    ]


def _over_the_better(
    samples: Samples, ours: str, level: Level, target: Target
) -> Finding:
    metric = level.metric(RATE)
    theirs = highest(samples, metric, _IN_PROCESS)
    who = "" if ours == OURS else f"{ours}: "
    what = f"{who}calls/s at {level} connections, over in-process {theirs}"
    return ratio(samples, what, ours, theirs, metric, target)


ROW: Final = Row(
    "throughput",
    "Warm throughput, 64-byte JSON event",
    measure,
    judge,
    reference=(WAITRESS[8], _EIGHT.metric(RATE)),
    shown=RATE,
)
