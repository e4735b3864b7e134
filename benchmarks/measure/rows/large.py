"""Row 8: events and answers of 32 MB."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.measure import load
from benchmarks.measure.calling import at_once, check
from benchmarks.measure.contenders import OURS, WAITRESS
from benchmarks.measure.invocation import filled
from benchmarks.measure.peers import Peer
from benchmarks.measure.rounds import Case, Session, interleave
from benchmarks.measure.row import Row
from benchmarks.measure.samples import (
    FAILURES,
    Finding,
    Samples,
    absolute,
    at_least,
    at_most,
    ratio,
)

_SIZE: Final = 32 << 20
_HANDLER: Final = "functions.echo"
_IN_FLIGHT: Final = 2
_PER_S: Final = "calls/s, 1"
_PEAK: Final = "front end, per call in flight, times its size"
#: `clear_refs` of proc(5): forget the highest resident size there was.
_RESET_PEAK: Final = "5"
#: A call takes so long that a shorter load would be only a few of them.
_SECONDS: Final = 4


def measure(session: Session) -> Samples:
    """Measure the rate at one connection, and the most memory with two in flight."""
    who = session.contenders
    cases = [
        Case(peer.name, partial(_measure, peer))
        for peer in [*who.both(_HANDLER), who.waitress(_HANDLER)]
    ]
    return interleave(cases, session.rounds)


def _measure(peer: Peer) -> dict[str, float]:
    request = filled(_SIZE)
    with peer.server() as server:
        server.connect().close()
        # Before any large call, so that memory it kept of one is not left out.
        before = _status_kb(server.pid, "VmRSS")
        check(server.port, request)
        taken = load.run(server.port, 1, _SECONDS, request)
        Path(f"/proc/{server.pid}/clear_refs").write_text(_RESET_PEAK)
        at_once(server.port, request, _IN_FLIGHT)
        peak = _status_kb(server.pid, "VmHWM")
        check(server.port, request)
    return {
        FAILURES: taken.failures,
        _PER_S: taken.per_s,
        "p50 ms, 1": taken.p50_ms,
        _PEAK: (peak - before) * 1024 / _SIZE / _IN_FLIGHT,
    }


def _status_kb(pid: int, field: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def judge(samples: Samples) -> list[Finding]:
    """Compare the rate, judge the memory by itself."""
    return [
        ratio(
            samples,
            f"calls/s, of in-process {WAITRESS[8]}",
            OURS,
            WAITRESS[8],
            _PER_S,
            at_least(0.5),
        ),
        absolute(
            samples,
            "front end's memory per call in flight, over the event's size",
            OURS,
            _PEAK,
            at_most(2.5),
            "",
        ),
    ]


ROW: Final = Row(
    "large",
    "32 MB event, 32 MB answer",
    measure,
    judge,
    reference=(WAITRESS[8], _PER_S),
)
