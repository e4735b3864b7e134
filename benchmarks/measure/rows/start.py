"""Row 6: from exec until somebody is answered."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.measure.contenders import OFF, OURS, SAMPLE, SAMPLE_ANSWER, WAITRESS
from benchmarks.measure.invocation import EVENT, SMALL, Request
from benchmarks.measure.packages import function_in, pack, unpack
from benchmarks.measure.peers import Peer
from benchmarks.measure.rounds import Case, Session, interleave
from benchmarks.measure.row import Row
from benchmarks.measure.samples import (
    Finding,
    Samples,
    absolute,
    added,
    at_most,
    difference,
    ratio,
)
from benchmarks.measure.servers import HANDLERS, output_of
from benchmarks.measure.starts import cold_start

# What they import is in the peers' environment only, so both are started from there.
_THERE: Final = f"{OURS}, in the frameworks' environment"
_IMPORTING: Final = f"{OURS}, importing frameworks"
_IMPORT: Final = "the import alone, plain Python"
_PACKAGED: Final = f"{OURS}, from a zip"
_SOURCE_ONLY: Final = f"{OURS}, from a zip without bytecode"
_LISTENING: Final = "listening ms"
_ANSWERED: Final = "first answer ms"
_IMPORTED: Final = "import ms"
#: Starts are short and scatter, so there are more of them.
_STARTS_A_ROUND: Final = 3


def measure(session: Session) -> Samples:
    """Start everything in turn, once beforehand so that all is compiled and cached.

    What comes from a zip is unpacked anew each time, as for a new instance.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-packages-") as made:
        return _measure(session, Path(made))


def _measure(session: Session, folder: Path) -> Samples:
    who = session.contenders
    peers = [
        *who.both("functions.small"),
        who.kind(_THERE, "functions.small"),
        who.kind(_IMPORTING, "modules.small"),
        who.waitress("functions.small"),
        who.gunicorn("functions.small"),
    ]
    cases = [Case(peer.name, partial(_start, peer, SMALL)) for peer in peers]
    python = who.peer_program("python")
    cases.append(Case(_IMPORT, partial(_import, python)))
    sample = Request(EVENT, SAMPLE_ANSWER)
    cases.append(Case(SAMPLE, partial(_start, who.sample(), sample)))
    code = function_in(folder)
    for name, options in ((_PACKAGED, ()), (_SOURCE_ONLY, ("--no-bytecode",))):
        packed = pack(code, folder / f"{name}.zip", *options)
        unpacked = folder / "code"
        peer = who.packaged(name, "functions.small", unpacked)
        cases.append(Case(name, partial(_start_afresh, packed, unpacked, peer)))
    for case in cases:
        case.measure()
    rounds = session.rounds if session.is_quick else session.rounds * _STARTS_A_ROUND
    return interleave(cases, rounds)


def _start(peer: Peer, request: Request) -> dict[str, float]:
    taken = cold_start(peer, request)
    return {_LISTENING: taken.listening_ms, _ANSWERED: taken.answered_ms}


def _import(python: str) -> dict[str, float]:
    return {_IMPORTED: float(output_of([python, str(HANDLERS / "modules.py")]))}


def _start_afresh(packed: Path, into: Path, peer: Peer) -> dict[str, float]:
    unpack(packed, into)
    return _start(peer, SMALL)


def judge(samples: Samples) -> list[Finding]:
    """Judge by itself, and compare with the platform's sample."""
    return [
        absolute(samples, "exec to listening", OURS, _LISTENING, at_most(80), "ms"),
        absolute(samples, "exec to first answer", OURS, _ANSWERED, at_most(110), "ms"),
        ratio(
            samples,
            f"first answer, of {SAMPLE}",
            OURS,
            SAMPLE,
            _ANSWERED,
            at_most(0.75),
        ),
        added(
            samples,
            "300 ms of imports add to the first answer, of what plain Python takes",
            _IMPORTING,
            _THERE,
            _ANSWERED,
            (_IMPORT, _IMPORTED),
            at_most(1),
        ),
        ratio(
            samples,
            "first answer from a zip, of that without bytecode",
            _PACKAGED,
            _SOURCE_ONLY,
            _ANSWERED,
            at_most(0.8),
        ),
        difference(
            samples,
            "the sandbox adds to the first answer",
            OURS,
            OFF,
            _ANSWERED,
            at_most(10),
            "ms",
        ),
    ]


ROW: Final = Row(
    "start", "Cold start", measure, judge, reference=(WAITRESS[8], _ANSWERED)
)
