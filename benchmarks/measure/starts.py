"""How long starts take: of a server, and of one worker."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.measure.calling import wire
from benchmarks.measure.invocation import Request
from benchmarks.measure.peers import Peer
from benchmarks.measure.servers import ServerFailed
from isoruntime.errors import ExitStatus
from isoruntime.loop import Loop
from isoruntime.wire.order import LoadOrder
from isoruntime.zygote.client import Zygote
from isoruntime.zygote.spawn import spawn

_GIVE_UP_S: Final = 10.0


class ColdStart(NamedTuple):
    """Milliseconds from just before exec."""

    listening_ms: float
    answered_ms: float


def cold_start(peer: Peer, request: Request) -> ColdStart:
    """Start a server, and send it an invocation as soon as it takes one.

    Raises:
        ServerFailed: it did not start, or answered with something else.
    """
    with peer.server() as server, server.connect() as connection:
        listening = time.monotonic()
        connection.sendall(wire(request))
        heard = b""
        while request.answer not in heard:
            part = connection.recv(65536)
            if not part:
                raise ServerFailed(f"the first answer was {heard!r}")
            heard += part
        answered = time.monotonic()
        began = server.started_at
        return ColdStart((listening - began) * 1000, (answered - began) * 1000)


class ForkTimer:
    """Orders workers from a real zygote, one by one, and times their first byte."""

    def __init__(
        self, handler: str, code_dir: Path, environment: Mapping[str, str]
    ) -> None:
        self._loop = Loop()
        self._is_loaded = False
        self._failure = ""
        self._ordered_at = 0.0
        self._took_s = 0.0
        self._descriptors: dict[str, int] = {}
        self._exits = 0
        order = LoadOrder(handler=handler, code_dir=str(code_dir))
        self._zygote = Zygote(self._loop, self, self, order, spawn(environment))

    def median_ms(self, times: int) -> float:
        """Return milliseconds from order to first byte, the median of so many forks.

        Raises:
            ServerFailed: the handler does not load, or a fork was refused.
        """
        self._turn_until(lambda: self._is_loaded)
        taken: list[float] = []
        for slot in range(1, times + 1):
            self._took_s, exits = 0.0, self._exits
            self._ordered_at = time.perf_counter()
            self._zygote.fork([slot])
            self._turn_until(lambda: self._took_s > 0)
            taken.append(self._took_s * 1000)
            self._zygote.kill_worker(slot)
            self._turn_until(partial(self._has_exited_since, exits))
            self._close_descriptors()
        self._zygote.dismiss()
        self._is_loaded = False
        self._turn_until(lambda: self._is_loaded)
        self._loop.close()
        return statistics.median(taken)

    def _turn_until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + _GIVE_UP_S
        while not condition():
            if self._failure or time.monotonic() > until:
                raise ServerFailed(self._failure or "the zygote does not answer")
            self._loop.turn(0.1)

    def _has_exited_since(self, exits: int) -> bool:
        return self._exits > exits

    def _close_descriptors(self) -> None:
        for fd in self._descriptors.values():
            self._loop.unwatch(fd)
            os.close(fd)
        self._descriptors = {}

    # What the zygote says.

    def zygote_loaded(
        self, zygote: Zygote, threads: int, seconds: float, *others: object
    ) -> None:
        """Go on."""
        self._is_loaded = True

    def zygote_failed(
        self, zygote: Zygote, error_type: str, body: bytes, place: str
    ) -> None:
        """Give up."""
        self._failure = f"{error_type}: {body.decode(errors='replace')}"

    def zygote_died(self, zygote: Zygote, status: ExitStatus) -> None:
        """Come to the end."""
        self._is_loaded = True

    def zygote_output(self, data: bytes) -> None:
        """Leave aside what the handler prints."""

    def worker_forked(
        self, zygote: Zygote, slot: int, pid: int, descriptors: dict[str, int]
    ) -> None:
        """Wait for the first byte."""
        self._descriptors = descriptors
        reply = descriptors["reply"]

        def first_byte(events: int) -> None:
            self._took_s = time.perf_counter() - self._ordered_at
            self._loop.unwatch(reply)

        self._loop.watch(reply, first_byte)

    def worker_unforked(self, zygote: Zygote, slot: int, reason: str) -> None:
        """Give up."""
        self._failure = reason

    def worker_exited(self, *report: object) -> None:
        """Note that it is gone; how, is not asked here."""
        self._exits += 1
