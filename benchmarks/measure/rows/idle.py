"""Row 10: what a server costs that nobody calls."""

from __future__ import annotations

import re
import time
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from benchmarks.measure.calling import check
from benchmarks.measure.contenders import OURS, WAITRESS
from benchmarks.measure.peers import Peer
from benchmarks.measure.rounds import Case, Session, interleave
from benchmarks.measure.row import Row
from benchmarks.measure.samples import Finding, Samples, absolute, at_most
from benchmarks.measure.servers import Server

_SETTLE_S: Final = 3.0
_WATCH_S: Final = 20.0
_QUICK_S: Final = 5.0
_SWITCHES: Final = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)$", re.MULTILINE)

_WAKE_UPS: Final = "wake-ups/s"
_CPU: Final = "CPU %"


class Used(NamedTuple):
    """What all threads of a tree have used since they began."""

    switches: int
    cpu_s: float


def measure(session: Session) -> Samples:
    """Watch each for a while after a few calls."""
    who, handler = session.contenders, "functions.small"
    watch_s = _QUICK_S if session.is_quick else _WATCH_S
    peers = [*who.both(handler), who.waitress(handler), who.gunicorn(handler)]
    cases = [Case(peer.name, partial(_watch, peer, watch_s)) for peer in peers]
    return interleave(cases, session.rounds)


def _watch(peer: Peer, seconds: float) -> dict[str, float]:
    with peer.server() as server:
        server.connect().close()
        for _ in range(5):
            check(server.port)
        time.sleep(_SETTLE_S)
        before = _used(server)
        time.sleep(seconds)
        after = _used(server)
    return {
        _WAKE_UPS: (after.switches - before.switches) / seconds,
        _CPU: 100 * (after.cpu_s - before.cpu_s) / seconds,
    }


def _used(server: Server) -> Used:
    switches, cpu_s = 0, 0.0
    for process in [server.process, *server.process.children(recursive=True)]:
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            found = _SWITCHES.search((thread / "status").read_text())
            switches += int(found[1]) if found else 0
            cpu_s += _cpu_s(thread, process)
    return Used(switches, cpu_s)


def _cpu_s(thread: Path, process: psutil.Process) -> float:
    try:
        # Nanoseconds, where ticks of 10 ms would show nothing.
        return int((thread / "schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return (
            float(sum(process.cpu_times()[:2]))
            if thread.name == str(process.pid)
            else 0
        )


def judge(samples: Samples) -> list[Finding]:
    """Judge both by themselves."""
    return [
        absolute(
            samples, "wake-ups of all processes", OURS, _WAKE_UPS, at_most(1), "/s"
        ),
        absolute(samples, "CPU of all processes", OURS, _CPU, at_most(0.05), "%"),
    ]


ROW: Final = Row("idle", "Idle", measure, judge, reference=(WAITRESS[8], _WAKE_UPS))
