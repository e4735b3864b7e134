"""The front end's view of one worker: its pipes, its state, its end."""

from __future__ import annotations

import math
import os
import select
import signal
from functools import partial

from isoruntime.errors import ExitStatus, ProtocolViolation
from isoruntime.loop import READ, Loop
from isoruntime.pool.states import WorkerEvent, WorkerState, next_state
from isoruntime.typed import TYPE_CHECKING, Final, NamedTuple, Protocol
from isoruntime.wire.frames import Frame, FrameDecoder
from isoruntime.wire.pipes import (
    ACKNOWLEDGEMENT_AT,
    CANCELLATION_AT,
    READ_BYTES,
    STACK_SIGNAL,
    Body,
    FrameSender,
    PeerClosed,
)
from isoruntime.zygote import tree
from isoruntime.zygote.client import Excess, Zygote

if TYPE_CHECKING:
    from collections.abc import Callable

#: A worker that prints without end from a thread must not keep its caller waiting:
#: so many reads empty a full pipe twice over.
_LAST_READS: Final = 8
#: A closed reply pipe mostly means a death, of which its parent tells more.
_SILENCE_S: Final = 0.1
_MAX_TRACE: Final = 64 * 1024
_OUTPUTS: Final = frozenset({"stdout", "stderr"})


def _nothing(worker: Worker) -> None:
    """Stand for what is done about a worker of whom nothing is expected."""


class ExitReport(NamedTuple):
    """How a worker ended, as its parent, the zygote, saw it."""

    status: ExitStatus
    peak_memory_mb: float = 0.0
    excess: Excess = None


class Holder(Protocol):
    """Who holds a worker: hears all that comes from it until it lets go."""

    def worker_replied(self, frame: Frame) -> None:
        """Learn that a whole frame came in."""

    def worker_printed(self, stream: str, data: bytes) -> None:
        """User code wrote something."""

    def worker_broke(self, violation: ProtocolViolation) -> None:
        """Learn that the reply pipe carries what is no frame of ours."""

    def worker_exited(self, report: ExitReport) -> None:
        """Learn that the process was reaped; nothing more can come."""


class Keeper(Protocol):
    """Who keeps the workers: hears what nobody holds a lease for."""

    def frame_without_lease(self, worker: Worker, frame: Frame) -> None:
        """Learn that a frame came from a worker nobody holds."""

    def output_without_lease(self, worker: Worker, stream: str, data: bytes) -> None:
        """Learn that a worker nobody holds wrote something."""

    def violation_without_lease(
        self, worker: Worker, violation: ProtocolViolation
    ) -> None:
        """Learn that a worker nobody holds broke the protocol."""

    def worker_vanished(self, worker: Worker) -> None:
        """Learn that the process ended; the report of how may be on its way."""


class Worker:
    """One worker process.

    All its descriptors are watched from its fork to its end, so that an invocation
    costs no registration, and so that words out of turn are noticed at once.
    """

    __slots__ = (
        "_decoder",
        "_fds",
        "_is_reply_open",
        "_keeper",
        "_loop",
        "_nonce",
        "_sender",
        "boot_output",
        "born_at",
        "due_at",
        "holder",
        "idle_since",
        "is_initialized",
        "last_nonce",
        "pid",
        "served",
        "slot",
        "state",
        "when_due",
        "zygote",
    )

    def __init__(
        self, slot: int, zygote: Zygote, loop: Loop, keeper: Keeper, max_body: int
    ) -> None:
        self.slot = slot
        self.zygote = zygote
        self.pid = 0
        self.state = WorkerState.BOOTING
        self.served = 0
        self.born_at = loop.now()
        self.idle_since = self.born_at
        self.is_initialized = False
        #: of the lease before; another reply with it is late, not forged
        self.last_nonce = b""
        self.holder: Holder | None = None
        #: when something should have happened to it, and what is done if it has not
        self.due_at = math.inf
        self.when_due: Callable[[Worker], object] = _nothing
        #: the last of what it printed before it was ready
        self.boot_output = b""
        self._loop = loop
        self._keeper = keeper
        self._fds: dict[str, int] = {}
        self._sender: FrameSender | None = None
        self._decoder = FrameDecoder(max_body)
        self._nonce = b""
        self._is_reply_open = True

    def __repr__(self) -> str:
        return f"<Worker {self.slot} pid={self.pid} {self.state.value}>"

    def on(self, event: WorkerEvent) -> None:
        """Move to the next state.

        Raises:
            IllegalTransition: the table has no such move.
        """
        self.state = next_state(self.state, event)

    def attach(self, pid: int, descriptors: dict[str, int]) -> None:
        """Take over the descriptors of the process that was forked."""
        self.pid = pid
        self._fds = descriptors
        self._sender = FrameSender(descriptors["request"])
        watch = self._loop.watch
        watch(descriptors["reply"], self._on_reply)
        self.resume_output()
        if "pidfd" in descriptors:
            watch(descriptors["pidfd"], self._on_pidfd)

    def close(self) -> None:
        """Give all descriptors back; the process is gone or as good as."""
        for fd in self._fds.values():
            self._loop.unwatch(fd)
            os.close(fd)
        self._fds.clear()

    # Requests.

    def send(self, nonce: bytes, frame_head: bytes, body: Body) -> None:
        """Begin a request; the loop carries on with what the pipe did not take."""
        sender = self._sender
        assert sender is not None
        self._nonce = nonce
        try:
            if not sender.send(frame_head, body):
                self._loop.watch(
                    self._fds["request"], self._on_writable, read=False, write=True
                )
        except PeerClosed:
            # It closed its pipe or died. A death is reported by its parent; a
            # living worker that does not listen has a deadline.
            return

    def _on_writable(self, events: int) -> None:
        assert self._sender is not None
        try:
            is_done = self._sender.resume()
        except PeerClosed:
            is_done = True
        if is_done:
            self._loop.unwatch(self._fds["request"])

    @property
    def is_sending(self) -> bool:
        """Whether part of the last request is not in the pipe yet."""
        return self._sender is not None and self._sender.is_busy

    def stop_sending(self) -> None:
        """Send no more of a request whose lease is over: its event may be gone."""
        if self._sender is not None:
            self._sender.cancel()
        if "request" in self._fds:
            self._loop.unwatch(self._fds["request"])

    @property
    def took_request(self) -> bool:
        """Whether the worker had all of the last request, and may have begun.

        It leaves the nonce in its trace before it does. An empty pipe would say less:
        a process killed in its sleep empties it on the way out.
        """
        return "trace" not in self._fds or self._has_noted(ACKNOWLEDGEMENT_AT)

    @property
    def is_cancelling(self) -> bool:
        """Whether it is letting its handler clean up, at the deadline."""
        return self._has_noted(CANCELLATION_AT)

    def _has_noted(self, at: int) -> bool:
        fd = self._fds.get("trace")
        if fd is None or not self._nonce:
            return False
        return os.pread(fd, len(self._nonce), at) == self._nonce

    def cancel(self) -> None:
        """Have it know that nobody waits for the rest of its answer."""
        fd = self._fds.get("trace")
        if fd is not None:
            os.pwrite(fd, self._nonce, CANCELLATION_AT)

    def pause_reply(self) -> None:
        """Leave what it answers in the pipe, until that is full and it has to wait."""
        if self._is_reply_open and "reply" in self._fds:
            self._loop.unwatch(self._fds["reply"])

    def resume_reply(self) -> None:
        """Go on reading what it answers."""
        if self._is_reply_open and "reply" in self._fds:
            self._loop.watch(self._fds["reply"], self._on_reply)

    def say_goodbye(self) -> None:
        """Close its request pipe, at which an idle worker ends by itself.

        What it prints on its way out is still read, all else comes from its parent.
        """
        fds, unwatch = self._fds, self._loop.unwatch
        fd = fds.pop("request", None)
        if fd is not None:
            unwatch(fd)
            os.close(fd)
        if fds:
            self._is_reply_open = False
            for name in ("reply", "pidfd"):
                if name in fds:
                    unwatch(fds[name])

    # What comes back.

    def _on_reply(self, events: int) -> None:
        if not events & READ:
            self._close_reply()
            return
        self._read_reply()

    def _read_reply(self) -> bool:
        """Read once; return whether there may be more."""
        try:
            data = os.read(self._fds["reply"], READ_BYTES)
        except (BlockingIOError, KeyError):
            return False
        if not data:
            self._close_reply()
            return False
        try:
            self._take(data)
        except ProtocolViolation as violation:
            self._close_reply()
            if self.holder is not None:
                self.holder.worker_broke(violation)
            else:
                self._keeper.violation_without_lease(self, violation)
            return False
        return True

    def _take(self, data: bytes) -> None:
        decoder = self._decoder
        frame = decoder.feed(data)
        while frame is not None:
            if self.holder is not None:
                self.holder.worker_replied(frame)
            else:
                self._keeper.frame_without_lease(self, frame)
            frame = decoder.feed(b"") if decoder.has_more else None

    @property
    def is_quiet(self) -> bool:
        """Whether it has said nothing but what was delivered; a matter of the pipe."""
        return not self._decoder.has_more

    def _close_reply(self) -> None:
        # End of file is no death notice: the handler may have closed the pipe, and
        # a descendant may hold it open after the worker's death.
        if self._is_reply_open and "reply" in self._fds:
            self._is_reply_open = False
            self._loop.unwatch(self._fds["reply"])
            self._loop.call_later(_SILENCE_S, self._judge_silence)

    def _judge_silence(self) -> None:
        # Not dead, and with no way left to answer: waiting for the deadline would
        # serve nobody.
        if self.state is WorkerState.DEAD or not self._fds or not self.is_alive:
            return
        violation = ProtocolViolation("its reply pipe is closed")
        if self.holder is not None:
            self.holder.worker_broke(violation)
        elif self.state is not WorkerState.DOOMED:
            self._keeper.violation_without_lease(self, violation)

    def _read_output(self, stream: str) -> bool:
        """Read once; return whether there may be more."""
        fd = self._fds.get(stream)
        if fd is None:
            return False
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            # Whoever could write has ended, or closed it.
            self._loop.unwatch(fd)
            os.close(self._fds.pop(stream))
            return False
        if self.holder is not None:
            self.holder.worker_printed(stream, data)
        else:
            self._keeper.output_without_lease(self, stream, data)
        return len(data) == READ_BYTES

    def resume_output(self) -> None:
        """Read what it prints as soon as it does."""
        for stream in _OUTPUTS & self._fds.keys():
            self._loop.watch(self._fds[stream], partial(self._on_output, stream))

    def _on_output(self, stream: str, events: int) -> None:
        self._read_output(stream)

    def pause_output(self) -> None:
        """Leave what it prints in the pipe, until that is full and it has to wait."""
        for stream in _OUTPUTS & self._fds.keys():
            self._loop.unwatch(self._fds[stream])

    def read_last_output(self) -> None:
        """Read what is left in the output pipes, so that it counts as this lease's."""
        for stream in ("stdout", "stderr"):
            for _ in range(_LAST_READS):
                if not self._read_output(stream):
                    break

    def read_last_words(self) -> None:
        """After its death: take the reply and the output that are still in the pipes."""
        while self._is_reply_open and self._read_reply():
            pass
        self.read_last_output()

    def read_trace(self) -> str:
        """Return the stack that the worker wrote when it crashed or was asked to."""
        fd = self._fds.get("trace")
        if fd is None:
            return ""
        # What nobody wrote, up to the acknowledgement, reads as zeros.
        trace, _, _ = os.pread(fd, _MAX_TRACE, 0).partition(b"\0")
        return trace.decode("utf-8", "replace")

    # Its end.

    def _on_pidfd(self, events: int) -> None:
        self._loop.unwatch(self._fds["pidfd"])
        self._keeper.worker_vanished(self)

    def peak_memory_mb(self) -> float:
        """Return the peak of the process alone, for when no report is to be had."""
        return tree.peak_memory_kb(self.pid) / 1024

    @property
    def is_alive(self) -> bool:
        """Whether the process runs, as far as the kernel tells without its parent."""
        fd = self._fds.get("pidfd")
        if fd is None:
            return True
        # select() would do for small numbers only.
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return not poll.poll(0)

    @property
    def is_killed(self) -> bool:
        """Whether it has a SIGKILL to die of as soon as it gets the processor."""
        return tree.is_killed(self.pid)

    def ask_for_stack(self) -> bool:
        """Have the worker write its stack to its trace; return whether it was asked."""
        return self._signal(STACK_SIGNAL)

    def kill_alone(self) -> bool:
        """SIGKILL the process without the zygote, and without its descendants."""
        return self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> bool:
        # Only through the descriptor: we are not its parent, and a bare pid could by
        # now be somebody else's.
        fd = self._fds.get("pidfd")
        if fd is None:
            return False
        try:
            signal.pidfd_send_signal(fd, number)
        except OSError:
            return False
        return True
