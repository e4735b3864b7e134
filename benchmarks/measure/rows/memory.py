"""Row 7: memory, as the kernel divides it among those who share it (PSS)."""

from __future__ import annotations

import json
from functools import partial
from typing import Final, NamedTuple

import psutil

from benchmarks.measure.calling import at_once
from benchmarks.measure.contenders import OURS, WAITRESS, Contenders
from benchmarks.measure.invocation import Request
from benchmarks.measure.peers import Peer
from benchmarks.measure.rounds import Case, Session, interleave
from benchmarks.measure.row import Row
from benchmarks.measure.samples import Finding, Samples, absolute, at_most
from benchmarks.measure.servers import Server, ServerFailed, wait_until

_FEW: Final = 4
_MANY: Final = 12
_BALLAST_MB: Final = 100
_LARGE: Final = f"{OURS}, {_BALLAST_MB} MB imported"
_SETTLE_S: Final = 10.0

_TOTAL: Final = f"with {_FEW} workers MB"
_FURTHER: Final = "a further worker MB"


class Taken(NamedTuple):
    """PSS in MB at one moment."""

    front_end: float
    zygote: float
    workers: list[float]

    @property
    def total(self) -> float:
        """All of it."""
        return self.front_end + self.zygote + sum(self.workers)


def measure(session: Session) -> Samples:
    """Measure few and many workers that have each served a call and are idle again."""
    who = session.contenders
    cases = [
        Case(OURS, partial(_ours, who, "functions.wait", 0)),
        Case(_LARGE, partial(_ours, who, "ballast.wait", _BALLAST_MB)),
        Case(WAITRESS[8], partial(_one_process, who.waitress("functions.wait"))),
    ]
    return interleave(cases, session.rounds)


def _ours(who: Contenders, handler: str, ballast_mb: int) -> dict[str, float]:
    few, many = (
        _served(who.isoruntime(handler, *_exactly(count), ballast_mb=ballast_mb), count)
        for count in (_FEW, _MANY)
    )
    return {
        _TOTAL: few.total,
        "front end MB": few.front_end,
        "zygote MB": few.zygote,
        "a worker of 4 MB": sum(few.workers) / len(few.workers),
        # What the processes there were already get back by sharing counts too.
        _FURTHER: (many.total - few.total) / (len(many.workers) - len(few.workers)),
    }


def _exactly(count: int) -> tuple[str, ...]:
    return ("--min-workers", str(count), "--max-workers", str(count))


def _served(peer: Peer, count: int) -> Taken:
    with peer.server() as server:
        server.connect().close()
        wait_until(lambda: len(_workers(server)) == count, _SETTLE_S)
        at_once(server.port, _request(), count)
        if not wait_until(lambda: len(_workers(server)) == count, _SETTLE_S):
            raise ServerFailed(
                f"there are {len(_workers(server))} workers, not {count}"
            )
        return _take(server)


def _one_process(peer: Peer) -> dict[str, float]:
    with peer.server() as server:
        server.connect().close()
        at_once(server.port, _request(), _FEW)
        return {"front end MB": _pss_mb(server.process)}


def _request() -> Request:
    # Long enough that no worker serves two of them.
    event = json.dumps({"seconds": 0.3, "key": "served"}).encode()
    return Request(event, b"served")


def _zygotes(server: Server) -> list[psutil.Process]:
    return [
        child
        for child in server.process.children()
        if any("zygote" in word for word in child.cmdline())
    ]


def _workers(server: Server) -> list[psutil.Process]:
    try:
        return [worker for zygote in _zygotes(server) for worker in zygote.children()]
    except psutil.NoSuchProcess:
        return []


def _take(server: Server) -> Taken:
    return Taken(
        _pss_mb(server.process),
        sum(map(_pss_mb, _zygotes(server))),
        [_pss_mb(worker) for worker in _workers(server)],
    )


def _pss_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / (1 << 20)
    except psutil.AccessDenied as error:
        raise ServerFailed(
            f"may not look at the memory of {process.pid}: start the benchmark as root"
        ) from error


def judge(samples: Samples) -> list[Finding]:
    """Judge sums and increments by themselves."""
    return [
        absolute(
            samples,
            f"front end, zygote and {_FEW} workers",
            OURS,
            _TOTAL,
            at_most(40),
            "MB",
        ),
        absolute(samples, "a further idle worker", OURS, _FURTHER, at_most(3), "MB"),
        absolute(
            samples,
            f"a further idle worker, {_BALLAST_MB} MB imported",
            _LARGE,
            _FURTHER,
            at_most(6),
            "MB",
        ),
    ]


ROW: Final = Row(
    "memory", "Memory (PSS)", measure, judge, reference=(WAITRESS[8], "front end MB")
)
