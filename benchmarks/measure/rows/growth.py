"""Row 11: how it goes on as connections, events and imports grow; drawn as charts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from benchmarks.measure import load
from benchmarks.measure.calling import check
from benchmarks.measure.chart import Axis, Line, decades, svg, upwards
from benchmarks.measure.contenders import OURS, UWSGI, WAITRESS
from benchmarks.measure.invocation import filled
from benchmarks.measure.loading import RATE, Level, Loaded, measure_loads
from benchmarks.measure.peers import Peer
from benchmarks.measure.rounds import Case, Session, interleave
from benchmarks.measure.row import Row
from benchmarks.measure.samples import (
    FAILURES,
    Finding,
    Samples,
    at_least,
    at_most,
    median,
    ratio,
    within,
)
from benchmarks.measure.servers import HANDLERS
from benchmarks.measure.starts import ForkTimer

_CONNECTIONS: Final = (1, 2, 4, 8, 16, 32, 64)
_KB_SIZES: Final = (1, 8, 64, 512, 4096, 32768)
_BALLASTS_MB: Final = (10, 50, 100, 200, 350, 500)
#: One call of the largest size takes a tenth of it.
_SIZE_S: Final = 2
_FORK: Final = "a worker's start"
_FORKS: Final = 50
_PEER: Final = WAITRESS[8]


def measure(session: Session) -> Samples:
    """Measure all three; each server is measured at everything in one go."""
    who = session.contenders
    small = [
        who.isoruntime("functions.small"),
        who.waitress("functions.small"),
        who.uwsgi("functions.small"),
    ]
    echo = [who.isoruntime("functions.echo"), who.waitress("functions.echo")]
    levels = [Level(count) for count in _CONNECTIONS]
    samples = measure_loads([Loaded(peer, levels) for peer in small], session)
    sizes = [Case(peer.name, partial(_by_size, peer)) for peer in echo]
    for case, metrics in interleave(sizes, session.rounds).items():
        failures = samples[case][FAILURES] + metrics[FAILURES]
        samples[case].update({**metrics, FAILURES: failures})
    forks = 10 if session.is_quick else _FORKS
    return samples | interleave(
        [Case(_FORK, partial(_by_ballast, forks))], session.rounds
    )


def _by_size(peer: Peer) -> dict[str, float]:
    metrics: dict[str, float] = {FAILURES: 0}
    with peer.server() as server:
        server.connect().close()
        for size in _KB_SIZES:
            request = filled(size << 10)
            check(server.port, request)
            taken = load.run(server.port, 1, _SIZE_S, request)
            metrics[_by_kb(size)] = taken.p50_ms
            metrics[FAILURES] += taken.failures
    return metrics


def _by_ballast(times: int) -> dict[str, float]:
    metrics = {}
    for size in _BALLASTS_MB:
        variables = {
            "PATH": os.environ.get("PATH", os.defpath),
            "BENCHMARK_BALLAST_MB": str(size),
        }
        timer = ForkTimer("ballast.small", HANDLERS, variables)
        metrics[_by_mb(size)] = timer.median_ms(times)
    return metrics


def _by_kb(size: int) -> str:
    return f"p50 ms, {_kb(size)}"


def _kb(size: float) -> str:
    return f"{size:.0f} KB" if size < 1024 else f"{size / 1024:.0f} MB"


def _by_mb(size: int) -> str:
    return f"ms, {size} MB"


def judge(samples: Samples) -> list[Finding]:
    """Look for a cliff in each curve."""
    eight, most = (Level(count).metric(RATE) for count in (8, _CONNECTIONS[-1]))
    size = max(
        _KB_SIZES,
        key=lambda size: (
            median(samples, OURS, _by_kb(size)) / median(samples, _PEER, _by_kb(size))
        ),
    )
    return [
        within(
            samples,
            f"calls/s at {_CONNECTIONS[-1]} connections, of those at 8",
            OURS,
            (most, eight),
            at_least(0.8),
        ),
        ratio(
            samples,
            f"p50 at the worst size ({_kb(size)}), of in-process {_PEER}",
            OURS,
            _PEER,
            _by_kb(size),
            at_most(2),
        ),
        within(
            samples,
            "a worker's start with 500 MB imported, of that with 100 MB",
            _FORK,
            (_by_mb(500), _by_mb(100)),
            at_most(5.5),
        ),
    ]


def charts(samples: Samples) -> Mapping[str, str]:
    """Return one chart for each curve."""
    rates = [
        _curve(samples, case, _CONNECTIONS, lambda count: Level(count).metric(RATE))
        for case in (OURS, _PEER, UWSGI)
    ]
    sizes = [_curve(samples, case, _KB_SIZES, _by_kb) for case in (OURS, _PEER)]
    forks = [_curve(samples, _FORK, _BALLASTS_MB, _by_mb)]
    connections = Axis("connections", _CONNECTIONS, is_log=True)
    event = Axis("event and answer", _KB_SIZES, _kb, is_log=True)
    imported = Axis("imported by the handler, MB", [0, *range(100, 501, 100)])
    return {
        "growth-connections.svg": svg(
            "Throughput, 64-byte event", connections, upwards("calls/s", rates), rates
        ),
        "growth-size.svg": svg(
            "Latency at one connection", event, decades("p50, ms", sizes), sizes
        ),
        "growth-start.svg": svg(
            "Start of a worker, order to first byte",
            imported,
            upwards("median, ms", forks),
            forks,
        ),
    }


def _curve(
    samples: Samples, case: str, values: Sequence[int], metric: Callable[[int], str]
) -> Line:
    return Line(
        case, [(value, median(samples, case, metric(value))) for value in values]
    )


ROW: Final = Row(
    "growth",
    "Growth",
    measure,
    judge,
    reference=(_PEER, Level(8).metric(RATE)),
    charts=charts,
)
