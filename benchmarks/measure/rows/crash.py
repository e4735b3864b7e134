"""Row 5: how soon a caller hears that its process died, and how the next one fares."""

from __future__ import annotations

import json
import os
import re
import select
import statistics
import time
from functools import partial
from typing import Final

from benchmarks.measure.calling import Client
from benchmarks.measure.contenders import OURS
from benchmarks.measure.peers import Peer
from benchmarks.measure.rounds import Case, Session, interleave
from benchmarks.measure.row import Row
from benchmarks.measure.samples import (
    FAILURES,
    Finding,
    Samples,
    absolute,
    at_most,
    percentile,
)
from benchmarks.measure.servers import Server, ServerFailed

_CRASHES: Final = 40
_DEATH: Final = json.dumps({"die": True, "key": ""}).encode()
_LIFE: Final = json.dumps({"die": False, "key": "alive"}).encode()
_PATIENCE_S: Final = 5.0
_STAMP: Final = re.compile(rb"dies at (\d+)\n")

_ANSWER: Final = "answered after death, p50 ms"
_NEXT: Final = "next call, p50 ms"


def measure(session: Session) -> Samples:
    """Let a worker kill itself again and again, each time followed by a good call."""
    crashes = 10 if session.is_quick else _CRASHES
    cases = [
        Case(peer.name, partial(_crash, peer, crashes))
        for peer in session.contenders.both("functions.die")
    ]
    return interleave(cases, session.rounds)


def _crash(peer: Peer, times: int) -> dict[str, float]:
    # The worker prints the time as the last thing it does; the clock is the kernel's
    # and the same for all processes.
    output_r, output_w = os.pipe()
    try:
        with peer.server(stdout=output_w) as server:
            server.connect().close()
            return _crash_often(server, output_r, times)
    finally:
        os.close(output_r)
        os.close(output_w)


def _crash_often(server: Server, output_fd: int, times: int) -> dict[str, float]:
    client = Client(server.port)
    late_ms, next_ms = [], []
    failures = 0
    for _ in range(times):
        status, body, taken_s = client.call(_LIFE)
        failures += (status, body) != (200, b"alive")
        status, body, _ = client.call(_DEATH)
        answered_ns = time.monotonic_ns()
        failures += b"ProcessExitedError" not in body
        late_ms.append((answered_ns - _died_ns(output_fd)) / 1e6)
        status, body, taken_s = client.call(_LIFE)
        failures += (status, body) != (200, b"alive")
        next_ms.append(taken_s * 1000)
    client.close()
    return {
        FAILURES: failures,
        _ANSWER: statistics.median(late_ms),
        "answered after death, p99 ms": percentile(late_ms, 0.99),
        _NEXT: statistics.median(next_ms),
        "next call, p99 ms": percentile(next_ms, 0.99),
    }


def _died_ns(output_fd: int) -> int:
    """Return the latest time of death that was printed; reads all there is."""
    found: list[bytes] = []
    heard = b""
    while not found:
        if not select.select([output_fd], [], [], _PATIENCE_S)[0]:
            raise ServerFailed(f"no time of death was printed: {heard[-300:]!r}")
        heard += os.read(output_fd, 1 << 16)
        found = _STAMP.findall(heard)
    return int(found[-1])


def judge(samples: Samples) -> list[Finding]:
    """Judge both times by themselves."""
    return [
        absolute(
            samples,
            "caller answered after its process died",
            OURS,
            _ANSWER,
            at_most(5),
            "ms",
        ),
        absolute(samples, "the next call", OURS, _NEXT, at_most(2), "ms"),
    ]


ROW: Final = Row(
    "crash", "A crash (SIGKILL), p50 of 200", measure, judge, reference=(OURS, _NEXT)
)
