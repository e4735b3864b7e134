"""The front end without its processes: real loop, pool, workers and dispatcher.

Only two things are stood in for: the clock, which a test moves, and the zygote, whose
orders a test carries out. The far end of every worker's pipes is in the test's hands,
so that it can say anything, at any time, or die.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from isoruntime.contract.http import ResponseHead
from isoruntime.dispatch.dispatcher import Dispatcher, Limits
from isoruntime.dispatch.invocation import Invocation, Outcome, Phase
from isoruntime.errors import ExitStatus
from isoruntime.loop import Loop
from isoruntime.observe.formats import FcFormat
from isoruntime.observe.journal import Journal
from isoruntime.pool.pool import PoolSize, WorkerPool
from isoruntime.pool.supervisor import LoadState
from isoruntime.wire.frames import NO_NONCE, Frame, FrameDecoder, Kind, head
from isoruntime.wire.order import LoadOrder
from isoruntime.wire.pipes import ACKNOWLEDGEMENT_AT, CANCELLATION_AT, Body

INVOKES = frozenset({Phase.INVOKE})
INITIALIZES = frozenset({Phase.INVOKE, Phase.INITIALIZE})
EVERYTHING = frozenset(Phase)


class StillLoop(Loop):
    """The real loop, but its time only moves when a test moves it."""

    def __init__(self) -> None:
        self.time = 5000.0
        super().__init__()

    def now(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at every timer on the way."""
        until = self.time + seconds
        while self._timers and self._timers[0][0] <= until:
            self.time = max(self.time, self._timers[0][0])
            self.turn(0)
        self.time = until
        self.turn(0)


class PlayedZygote:
    """Takes a zygote's orders; the bench carries them out when it is told to."""

    def __init__(self) -> None:
        self.pid = 1
        self.forks: list[int] = []
        #: how many workers were ordered at a time
        self.ordered: list[int] = []
        self.killed: list[int] = []
        self.is_watching = False
        self.is_dismissed = False
        self.has_loaded = True

    def fork(self, slots: list[int]) -> None:
        self.forks += slots
        self.ordered.append(len(slots))

    def kill_worker(self, slot: int) -> None:
        self.killed.append(slot)

    def watch(self, on: bool) -> None:
        self.is_watching = on

    def dismiss(self) -> None:
        self.is_dismissed = True

    def kill(self) -> None:
        self.is_dismissed = True


class PlayedWorker:
    """The far end of one worker's pipes."""

    def __init__(self, bench: Bench, slot: int, pidfd: int | None = None) -> None:
        self._bench = bench
        self.slot = slot
        self._request_r, request_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        reply_r, self._reply_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        stdout_r, self._stdout_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        trace = os.memfd_create("trace")
        self._trace = os.dup(trace)
        self._open = [self._request_r, self._reply_w, self._stdout_w, self._trace]
        self._decoder = FrameDecoder(1 << 30)
        self.last: Frame | None = None
        descriptors = {
            "request": request_w,
            "reply": reply_r,
            "trace": trace,
            "stdout": stdout_r,
        }
        if pidfd is not None:
            descriptors["pidfd"] = os.dup(pidfd)
        bench.pool.worker_forked(bench.zygote, slot, 1000 + slot, descriptors)  # type: ignore[arg-type]

    @property
    def is_dead(self) -> bool:
        """Whether the test has ended it."""
        return not self._open

    def ready(self) -> None:
        """Say that the handler is loaded."""
        self.say(head(Kind.READY, NO_NONCE, b"", 0))

    def take(self) -> Frame:
        """Take the next request from the pipe, all of it."""
        for _ in range(20_000):
            frame = self._decoder.feed(self.take_bytes(1 << 16))
            if frame is not None:
                self.last = frame
                os.pwrite(self._trace, frame.nonce, ACKNOWLEDGEMENT_AT)
                return frame
            self._bench.loop.turn(0)
        raise AssertionError(f"worker {self.slot} was sent no whole request")

    def take_bytes(self, count: int) -> bytes:
        """Take so many bytes at most from the request pipe."""
        try:
            return os.read(self._request_r, count)
        except BlockingIOError:
            return b""

    @property
    def was_asked(self) -> bool:
        """Whether something is in its request pipe; takes nothing."""
        return bool(select.select([self._request_r], [], [], 0)[0])

    def was_sent_off(self) -> bool:
        """Return whether its request pipe was closed."""
        try:
            return os.read(self._request_r, 1 << 16) == b""
        except BlockingIOError:
            return False

    def reply(
        self,
        body: bytes = b"",
        kind: int = Kind.RESULT,
        *,
        meta: bytes = b"",
        nonce: bytes | None = None,
        flags: int = 0,
    ) -> None:
        """Answer the request that was taken last."""
        if nonce is None:
            assert self.last is not None
            nonce = self.last.nonce
        self.say(head(kind, nonce, meta, len(body), flags) + body)

    def say(self, data: bytes) -> None:
        """Write bytes to the reply pipe."""
        assert os.write(self._reply_w, data) == len(data)

    def print(self, data: bytes) -> None:
        """Write bytes to its output."""
        assert os.write(self._stdout_w, data) == len(data)

    def trace(self, text: str) -> None:
        """Write what a crashing or interrupted Python writes."""
        os.pwrite(self._trace, text.encode(), 0)

    def note_cancellation(self) -> None:
        """Say that the handler is being cancelled, at the deadline."""
        assert self.last is not None
        os.pwrite(self._trace, self.last.nonce, CANCELLATION_AT)

    @property
    def is_told_to_stop(self) -> bool:
        """Whether it knows that nobody waits for its answer any more."""
        assert self.last is not None
        nonce = self.last.nonce
        return os.pread(self._trace, len(nonce), CANCELLATION_AT) == nonce

    def die(self, code: int | None = None, signal: int | None = None) -> None:
        """End; the zygote's report is there at once."""
        if code is None and signal is None:
            signal = 9
        self.close()
        self._bench.report(self.slot, ExitStatus(code, signal))

    def close(self) -> None:
        """Close the far ends of all pipes."""
        while self._open:
            os.close(self._open.pop())


class Caller:
    """Whoever waits for an outcome; gets one, and only one."""

    def __init__(self, invocation_id: str) -> None:
        self.request_id = invocation_id
        self.outcomes: list[Outcome] = []
        self.invocation: Invocation | None = None
        #: of an answer in pieces: its heads, its pieces, and whether they are read
        self.heads: list[ResponseHead] = []
        self.pieces: list[bytes] = []
        self.reads = True

    def begin(self, head: ResponseHead) -> None:
        self.heads.append(head)

    def send(self, data: bytes | bytearray) -> bool:
        self.pieces.append(bytes(data))
        return self.reads

    def done(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    @property
    def is_answered(self) -> bool:
        return bool(self.outcomes)

    @property
    def outcome(self) -> Outcome:
        (only,) = self.outcomes
        return only


class Lines:
    """Keeps the lines that would go to stdout."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def read(self) -> list[str]:
        """Return them and begin anew."""
        lines, self.data = self.data.decode().splitlines(), b""
        return lines


class Bench:
    """A front end whose processes are played by the test."""

    def __init__(
        self,
        *,
        size: PoolSize | None = None,
        limits: Limits | None = None,
        phases: frozenset[Phase] = INVOKES,
        pidfd: int | None = None,
    ) -> None:
        self.loop = StillLoop()
        self.zygote = PlayedZygote()
        self.pool = WorkerPool(
            self.loop, size or PoolSize(max_workers=4), LoadOrder("x.y", "/"), {}
        )
        self.pool.supervisor.state = LoadState.READY
        self.pool.supervisor.zygote = self.zygote  # type: ignore[assignment]
        self.pool.supervisor.start = self._load_again  # type: ignore[method-assign]
        self.lines = Lines()
        self._nonces = 0
        self.dispatcher = Dispatcher(
            self.loop,
            self.pool,
            Journal(self.lines, FcFormat()),
            limits or Limits(),
            self._draw,
            phases=phases,
        )
        self.workers: dict[int, PlayedWorker] = {}
        self.callers: list[Caller] = []
        #: False: forked workers do not say READY by themselves
        self.boots = True
        self._pidfd = pidfd
        self._ids = 0
        self.pool.balance()
        self.settle()

    def _load_again(self) -> None:
        """Load the handler in the next turn, as a new zygote would at some time."""
        supervisor = self.pool.supervisor
        supervisor.state = LoadState.LOADING
        self.loop.call_soon(
            lambda: supervisor.zygote_loaded(self.zygote, 1, 0.0, {}, ())  # type: ignore[arg-type]
        )

    def _draw(self, count: int) -> bytes:
        self._nonces += 1
        return self._nonces.to_bytes(2, "big") + os.urandom(count - 2)

    def close(self) -> None:
        """Give back every descriptor on both sides."""
        for worker in self.workers.values():
            worker.close()
        for ours in self.pool.workers.values():
            ours.close()
        self.loop.close()

    # Time and turns.

    def turn(self) -> None:
        """Carry out the zygote's orders to fork, and take a turn of the loop."""
        for slot in self.zygote.forks:
            worker = self.workers[slot] = PlayedWorker(self, slot, self._pidfd)
            if self.boots:
                worker.ready()
        self.zygote.forks.clear()
        self.loop.turn(0)

    def settle(self) -> None:
        """Take turns until nothing more comes of them."""
        for _ in range(4):
            self.turn()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.advance(seconds)
        self.settle()

    def report(self, slot: int, status: ExitStatus) -> None:
        """Say that a worker was reaped, as the zygote does."""
        self.pool.worker_exited(self.zygote, slot, status, 20 * 1024, None)  # type: ignore[arg-type]

    def let_the_killed_die(self) -> None:
        """Carry out the zygote's orders to kill."""
        for slot in tuple(self.zygote.killed):
            if slot in self.pool.workers and slot in self.workers:
                self.workers[slot].die(signal=9)
        self.settle()

    # Callers and workers.

    def submit(
        self,
        event: Body = b"event",
        phase: Phase = Phase.INVOKE,
        *,
        platform_timeout_s: float | None = None,
        request: bytes | None = None,
        streams: bool = False,
        settle: bool = True,
    ) -> Caller:
        """Send an invocation; one that `streams` takes its answer in pieces."""
        self._ids += 1
        caller = Caller(f"r{self._ids}")
        self.callers.append(caller)
        caller.invocation = Invocation(
            phase,
            caller.request_id,
            b"{}",
            event,
            caller.done,
            self.loop.now(),
            platform_timeout_s,
            request,
            caller if streams else None,
        )
        self.dispatcher.submit(caller.invocation)
        if settle:
            self.settle()
        return caller

    def asked(self) -> list[PlayedWorker]:
        """Return the living workers in whose pipes a request waits."""
        return [
            worker
            for worker in self.workers.values()
            if not worker.is_dead and worker.was_asked
        ]

    def take(self) -> PlayedWorker:
        """Have the one worker that was sent a request take it."""
        (worker,) = self.asked()
        worker.take()
        return worker

    def answer(self, worker: PlayedWorker, *args: Any, **options: Any) -> None:
        """Have a worker answer, and let the front end hear it."""
        worker.reply(*args, **options)
        self.settle()


@contextmanager
def bench_for(*args: Any, **options: Any) -> Iterator[Bench]:
    """Make a bench, and see that it leaves no descriptor open."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted only
    made = Bench(*args, **options)
    try:
        yield made
    finally:
        made.close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - counted only


MakeBench = Callable[..., Bench]
