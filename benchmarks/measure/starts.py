"""How long starts take: of a server, and of one worker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.measure.invocation import ANSWER, EVENT, HEADERS
from benchmarks.measure.servers import Server, ServerFailed
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


def cold_start(argv: Sequence[str], port: int) -> ColdStart:
    """Start a server, and send it an invocation as soon as it takes one.

    Raises:
        ServerFailed: it did not start, or answered with something else.
    """
    with Server(argv, port) as server, server.connect() as connection:
        listening = time.monotonic()
        connection.sendall(request_bytes())
        answer = connection.recv(65536)
        answered = time.monotonic()
        if ANSWER not in answer and ANSWER not in connection.recv(65536):
            raise ServerFailed(f"the first answer was {answer!r}")
        began = server.started_at
        return ColdStart((listening - began) * 1000, (answered - began) * 1000)


def request_bytes() -> bytes:
    """Return a whole request, as it stands on the wire."""
    lines = [
        "POST /invoke HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Length: {len(EVENT)}",
        *(f"{name}: {value}" for name, value in HEADERS.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + EVENT


class ForkTimer:
    """Orders workers from a real zygote, one by one, and times their first byte."""

    def __init__(self, code_dir: Path) -> None:
        self._loop = Loop()
        self._is_loaded = False
        self._failure = ""
        self._ordered_at = 0.0
        self._took_s = 0.0
        self._descriptors: dict[str, int] = {}
        self._exits = 0
        order = LoadOrder(handler="index.handler", code_dir=str(code_dir))
        environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}
        self._zygote = Zygote(self._loop, self, self, order, spawn(environment))

    def measure(self, times: int) -> list[float]:
        """Return milliseconds from order to first byte, one for each fork.

        Raises:
            ServerFailed: the handler does not load, or a fork was refused.
        """
        self._turn_until(lambda: self._is_loaded)
        taken: list[float] = []
        for slot in range(1, times + 1):
            self._took_s, exits = 0.0, self._exits
            self._ordered_at = time.perf_counter()
            self._zygote.fork(slot)
            self._turn_until(lambda: self._took_s > 0)
            taken.append(self._took_s * 1000)
            self._zygote.kill_worker(slot)
            self._turn_until(partial(self._has_exited_since, exits))
            self._close_descriptors()
        self._zygote.dismiss()
        self._is_loaded = False
        self._turn_until(lambda: self._is_loaded)
        self._loop.close()
        return taken

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

    def zygote_loaded(self, zygote: Zygote, threads: int, seconds: float) -> None:
        """Go on."""
        self._is_loaded = True

    def zygote_failed(self, zygote: Zygote, error_type: str, body: bytes) -> None:
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
