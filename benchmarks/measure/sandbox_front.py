"""The smallest front end there is: it drives one real zygote, and times what that does.

    python -m benchmarks.measure.sandbox_front ORDER ENVIRONMENT

ORDER is a `LoadOrder` and ENVIRONMENT the zygote's variables, both as JSON. Commands come
in as lines, and one line of JSON answers each:

    starts N   start and end N workers one after the other: a list of `Start`
    kills N    have N workers start a tree, and kill it: a list of milliseconds

The first line says what had to be skipped, or `{"error": …}`. Standard library and our
own wire only, so that it runs under any interpreter, as any user.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from typing import Any, Final, NamedTuple

from isoruntime.wire.frames import HEADER_BYTES, NO_NONCE, Kind, head, split_head
from isoruntime.wire.order import LoadOrder
from isoruntime.zygote import protocol
from isoruntime.zygote.spawn import spawn

_GIVE_UP_S: Final = 30.0
_NO_TIME_LIMIT: Final = b"request\n-1\n{}"


class Start(NamedTuple):
    """One worker, in milliseconds from the order to start it."""

    forked: float
    ready: float
    #: reaped, and the zygote has said so
    gone: float


class Failed(Exception):
    """The zygote or a worker did something else than it should."""


class Front:
    """One zygote, and the front end's end of its socket."""

    def __init__(self, order: LoadOrder, environment: dict[str, str]) -> None:
        """Start the zygote and wait until it has loaded.

        Raises:
            Failed: it cannot load.
        """
        spawned = spawn(environment)
        self.pid = spawned.pid
        self._control, self._output_r = spawned.control, spawned.output_r
        self._control.settimeout(_GIVE_UP_S)
        self._say("load", ahead=(), **order._asdict())
        self._slot = 0
        kind, fields, _ = self._hear()
        if kind != "loaded":
            raise Failed(f"{kind}: {fields}")
        self.skipped: dict[str, str] = fields["skipped"]

    def _say(self, kind: str, **fields: Any) -> None:
        self._control.sendall(protocol.encode(kind, **fields))

    def _hear(self) -> tuple[str, dict[str, Any], list[int]]:
        data, fds = protocol.receive_with_descriptors(self._control)
        if not data:
            raise Failed(f"the zygote has ended: {os.read(self._output_r, 4096)!r}")
        return (*protocol.decode(data), fds)

    def _expect(self, wanted: str) -> tuple[dict[str, Any], list[int]]:
        kind, fields, fds = self._hear()
        if kind != wanted:
            raise Failed(f"{kind} instead of {wanted}: {fields}")
        return fields, fds

    def start(self) -> Start:
        """Start a worker, wait until it is ready, and have it end.

        Raises:
            Failed: it did not become ready.
        """
        began = time.perf_counter_ns()
        pipes = self._fork()
        forked = time.perf_counter_ns()
        self._wait_ready(pipes)
        ready = time.perf_counter_ns()
        # A worker ends when nobody can ask it for anything any more.
        os.close(pipes.pop("request"))
        self._expect("exited")
        gone = time.perf_counter_ns()
        for fd in pipes.values():
            os.close(fd)
        return Start(*((at - began) / 1e6 for at in (forked, ready, gone)))

    def _fork(self) -> dict[str, int]:
        self._slot += 1
        self._say("fork", slots=[self._slot])
        fields, fds = self._expect("forked")
        return dict(zip(fields["has"], fds, strict=True))

    def _wait_ready(self, pipes: dict[str, int]) -> None:
        reply = pipes["reply"]
        _wait_readable(reply)
        data = os.read(reply, 1 << 16)
        kind, _, meta_bytes, _, _ = split_head(data)
        rest = data[HEADER_BYTES:]
        if kind != Kind.READY:
            raise Failed(f"the worker does not load: {rest!r}")
        if meta_bytes:
            self.skipped.update(json.loads(rest[:meta_bytes]))

    def kill(self) -> float:
        """Let a worker start its tree; return the milliseconds until it is gone.

        That is, until nobody holds the pipe any more that all of them have inherited.

        Raises:
            Failed: it was not gone in time.
        """
        pipes = self._fork()
        self._wait_ready(pipes)
        request = head(Kind.INVOKE, NO_NONCE, _NO_TIME_LIMIT, 0)
        os.write(pipes["request"], request)
        output = pipes["stdout"]
        _wait_readable(output)
        if os.read(output, 1 << 16) != b"forking\n":
            raise Failed("the tree was not started")
        began = time.perf_counter_ns()
        self._say("kill", slot=self._slot)
        while True:
            _wait_readable(output)
            if not os.read(output, 1 << 16):
                break
        taken = time.perf_counter_ns() - began
        self._expect("exited")
        for fd in pipes.values():
            os.close(fd)
        return taken / 1e6

    def end(self) -> None:
        """Dismiss the zygote, and wait for its end."""
        self._say("end")
        os.waitpid(self.pid, 0)


def _wait_readable(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(_GIVE_UP_S * 1000):
        raise Failed("nothing came in time")


def main() -> None:
    """Take commands until there are no more."""
    order, environment = (json.loads(text) for text in sys.argv[1:3])
    try:
        front = Front(LoadOrder(**order), environment)
        # Reasons of workers are known only when there has been one.
        if "bombs" not in order["handler"]:
            front.start()
    except (Failed, OSError) as error:
        _answer({"error": f"{type(error).__name__}: {error}"})
        return
    _answer(front.skipped)
    for line in sys.stdin:
        command, count = line.split()
        do = front.start if command == "starts" else front.kill
        _answer([do() for _ in range(int(count))])
    front.end()


def _answer(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
