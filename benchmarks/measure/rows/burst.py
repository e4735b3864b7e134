"""Row 9: many calls at once, each of which waits."""

from __future__ import annotations

import json
import statistics
from functools import partial
from typing import Final

from benchmarks.measure.calling import at_once
from benchmarks.measure.contenders import OURS, WAITRESS
from benchmarks.measure.invocation import Request
from benchmarks.measure.peers import Peer
from benchmarks.measure.rounds import Case, Session, interleave
from benchmarks.measure.row import Row
from benchmarks.measure.samples import Finding, Samples, absolute, at_most

_CALLS: Final = 200
_HANDLER: Final = "functions.wait"
_ROOM: Final = ("--max-workers", str(_CALLS), "--queue", str(_CALLS))
_LAST: Final = "last answer s"
_FIRST: Final = "first answer s"


def measure(session: Session) -> Samples:
    """Send all calls to a server that has just served its first one."""
    who = session.contenders
    peers = [*who.both(_HANDLER, *_ROOM), who.waitress(_HANDLER, threads=_CALLS)]
    cases = [Case(peer.name, partial(_burst, peer)) for peer in peers]
    return interleave(cases, session.rounds)


def _burst(peer: Peer) -> dict[str, float]:
    with peer.server() as server:
        server.connect().close()
        at_once(server.port, _request(0), 1)
        taken = at_once(server.port, _request(1), _CALLS)
    return {_FIRST: taken[0], "p50 s": statistics.median(taken), _LAST: taken[-1]}


def _request(seconds: float) -> Request:
    event = json.dumps({"seconds": seconds, "key": "waited"}).encode()
    return Request(event, b"waited")


def judge(samples: Samples) -> list[Finding]:
    """Judge when the last one is answered."""
    what = f"last of {_CALLS} calls of 1 s answered"
    return [absolute(samples, what, OURS, _LAST, at_most(2), "s")]


ROW: Final = Row(
    "burst",
    f"{_CALLS} calls of 1 s at once",
    measure,
    judge,
    reference=(WAITRESS[_CALLS], _LAST),
)
