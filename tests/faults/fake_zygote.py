"""A zygote without processes: obeys the same orders, with pipes for workers.

`test_zygote_and_its_fake.py` holds it to what the real one does. Everything happens in
a later turn of the loop than the order, as with a process at the other end.
"""

from __future__ import annotations

import os
import select
from collections.abc import Mapping, Sequence
from itertools import count

from isoruntime.errors import ExitStatus
from isoruntime.loop import Loop
from isoruntime.wire.frames import NO_NONCE, Frame, FrameDecoder, Kind, head
from isoruntime.wire.order import LoadOrder
from isoruntime.wire.pipes import ACKNOWLEDGEMENT_AT
from isoruntime.zygote.client import Excess, WorkerListener, ZygoteListener

KILLED = ExitStatus(signal=9)
EXITED = ExitStatus(code=0)

_pids = count(1_000_000)


class FakeWorker:
    """The far end of a worker's pipes, in the hands of a test."""

    def __init__(self, zygote: FakeZygote, slot: int) -> None:
        self.zygote = zygote
        self.slot = slot
        self.pid = next(_pids)
        self._request_r, request_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        reply_r, self._reply_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        stdout_r, self._stdout_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        trace = os.memfd_create("trace", os.MFD_CLOEXEC)
        self._trace = os.dup(trace)
        self._decoder = FrameDecoder(1 << 30)
        #: the front end's ends, which it closes
        self.descriptors = {
            "request": request_w,
            "reply": reply_r,
            "trace": trace,
            "stdout": stdout_r,
        }
        self.is_ready = False
        #: the request it has taken and not answered
        self.request: Frame | None = None

    def boot(self) -> None:
        """Say that the handler is loaded."""
        self.is_ready = True
        self.say(head(Kind.READY, NO_NONCE, b"", 0))

    def take(self, most_bytes: int = 1 << 20) -> Frame | None:
        """Take from the request pipe; return the request once all of it is there.

        It is acknowledged then, as a worker does before it calls the handler.
        """
        try:
            data = os.read(self._request_r, most_bytes)
        except BlockingIOError:
            return None
        request = self._decoder.feed(data)
        if request is not None:
            os.pwrite(self._trace, request.nonce, ACKNOWLEDGEMENT_AT)
            self.request = request
        return self.request

    def reply(self, body: bytes, kind: Kind = Kind.RESULT, flags: int = 0) -> None:
        """Answer the request that was taken."""
        assert self.request is not None
        meta = b"ValueError" if kind == Kind.FAULT else b""
        nonce, self.request = self.request.nonce, None
        self.say(head(kind, nonce, meta, len(body), flags) + body)

    def say(self, data: bytes) -> None:
        """Write to the reply pipe, where somebody may not be listening any more."""
        try:
            os.write(self._reply_w, data)
        except (BrokenPipeError, BlockingIOError):
            return

    def is_sent_off(self) -> bool:
        """Return whether its request pipe is closed and empty."""
        poll = select.poll()
        poll.register(self._request_r, select.POLLIN)
        return [event for _, event in poll.poll(0)] == [select.POLLHUP]

    def close(self) -> None:
        """Close its ends, as a death does."""
        for fd in (self._request_r, self._reply_w, self._stdout_w, self._trace):
            os.close(fd)


class FakeZygote:
    """Looks to the pool and the supervisor like `isoruntime.zygote.client.Zygote`.

    Workers do nothing by themselves but leave when they are sent off; with
    `boots_workers` they also say that they are ready.
    """

    #: what the next zygotes do when they are to load: so, or not, or None for ever
    loads: bool | None = True
    boots_workers = False
    #: all that were started, for a test to find
    started: list[FakeZygote]

    def __init__(
        self,
        loop: Loop,
        listener: ZygoteListener,
        workers: WorkerListener,
        order: LoadOrder,
        environment: Mapping[str, str],
        ahead: Sequence[int],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._listening = workers
        self.order = order
        self._ahead = ahead
        self.pid = next(_pids)
        self.workers: dict[int, FakeWorker] = {}
        self._orders: list[tuple[str, int]] = []
        self.is_watching = False
        self.is_over = False
        self.has_loaded = False
        #: whether it was told to end
        self.is_ending = False
        type(self).started.append(self)
        loop.call_soon(self._load)

    def _load(self) -> None:
        if self.is_over or (self.loads is None and self.order.preload):
            return
        if self.loads or not self.order.preload:
            self.has_loaded = True
            self._listener.zygote_loaded(self, 1, 0.0, {}, self._ahead)  # type: ignore[arg-type]
            # Before what it was told since.
            self._orders[:0] = [("fork", slot) for slot in self._ahead]
            self._loop.call_soon(self.obey)
        else:
            self._listener.zygote_failed(self, "UserCodeError", b"{}", "")  # type: ignore[arg-type]
            self.is_ending = True
            self._orders.append(("end", 0))

    # What the front end orders.

    def fork(self, slots: Sequence[int]) -> None:
        self._orders += [("fork", slot) for slot in slots]
        self._loop.call_soon(self.obey)

    def kill_worker(self, slot: int) -> None:
        self._orders.append(("kill", slot))
        self._loop.call_soon(self.obey)

    def watch(self, on: bool) -> None:
        self.is_watching = on

    def dismiss(self) -> None:
        self.is_ending = True
        self._orders.append(("end", 0))
        self._loop.call_soon(self.obey)

    def kill(self) -> None:
        self.is_ending = True
        self._loop.call_soon(lambda: self.end(KILLED))

    # What comes of it.

    def obey(self) -> None:
        """Carry out what was ordered, in order, and let go who was sent off."""
        while self._orders and not self.is_over:
            order, slot = self._orders.pop(0)
            if order == "end":
                self.end(EXITED)
            elif order == "fork":
                self._fork(slot)
            elif slot in self.workers:
                self.bury(slot, KILLED)

    def let_go(self) -> None:
        """End the workers whose request pipe is closed, as they do by themselves."""
        for worker in list(self.workers.values()):
            if worker.is_ready and worker.request is None and worker.is_sent_off():
                self.bury(worker.slot, EXITED)

    def _fork(self, slot: int) -> None:
        worker = self.workers[slot] = FakeWorker(self, slot)
        self._listening.worker_forked(
            self,  # type: ignore[arg-type]
            slot,
            worker.pid,
            worker.descriptors,
        )
        if self.boots_workers:
            worker.boot()

    def bury(self, slot: int, status: ExitStatus, excess: Excess = None) -> None:
        """End a worker and report it."""
        self.workers.pop(slot).close()
        self._listening.worker_exited(self, slot, status, 20 * 1024, excess)  # type: ignore[arg-type]

    def end(self, status: ExitStatus) -> None:
        """End, and all workers with it, of whom nothing more is reported."""
        if self.is_over:
            return
        self.is_over = True
        for worker in self.workers.values():
            worker.close()
        self.workers.clear()
        self._listener.zygote_died(self, status)  # type: ignore[arg-type]
