"""A lease: exclusive use of one worker for one invocation, and its judgement.

    INITIALIZING --reply--> RUNNING --reply---------------------> DONE
          |                    | --head--> STREAMING --end------> DONE
          |                    |               |
          +----- deadline -----+---------------+--> OVERDUE ----> DONE
          +----- exited -------+---------------+----------------> DONE
          +--- broke the protocol -------------+----------------> DONE

A reply is input, not truth: it is judged here, and whatever is out of turn costs
the worker its life and this caller alone an error. A worker goes back to the pool
only from a conversation that ended where the protocol lets it end.

Nothing here does I/O: the worker, the pool and the clock are handed in.
"""

from __future__ import annotations

import enum

from isoruntime.contract.http import Response, ResponseHead, ResponseHeads
from isoruntime.dispatch.invocation import (
    FRAME_KINDS,
    Invocation,
    Outcome,
    Phase,
    is_failure,
)
from isoruntime.errors import (
    CommandFailed,
    DeadlineExceeded,
    HandlerRaised,
    MemoryLimitExceeded,
    NotAnHttpFunction,
    ProtocolViolation,
    ResponseTooLarge,
    Verdict,
    WorkerDied,
    WorkerOutOfTurn,
)
from isoruntime.typed import TYPE_CHECKING, Final
from isoruntime.wire import frames
from isoruntime.wire.frames import Frame, Kind

if TYPE_CHECKING:
    from isoruntime.dispatch.dispatcher import Dispatcher
    from isoruntime.observe.journal import Output
    from isoruntime.pool.worker import ExitReport, Worker

#: What a hung worker gets to write down its stack, before it is killed.
_STACK_S: Final = 0.008
#: What a handler that was cancelled at the deadline gets to clean up behind it.
_GRACE_S: Final = 0.025
#: What the zygote gets to report the end of a killed worker with its peak memory;
#: the caller is answered then, whatever the tree is still doing.
_REPORT_S: Final = 0.025


#: So much of what a command wrote last stands in its failure's message.
_MAX_LAST_WORDS: Final = 1024
#: So much of a failing server's answer is logged.
_MAX_LOGGED: Final = 4096

_heads: Final = ResponseHeads()

_LEFT: Final = {
    "kill": "the handler returned and left processes running; they are killed "
    "(--leftovers kill)",
    "report": "the handler returned and left processes running (--leftovers report)",
}


class LeaseState(enum.Enum):
    """How far the conversation is."""

    INITIALIZING = "initializing"
    RUNNING = "running"
    STREAMING = "streaming"
    OVERDUE = "overdue"
    DONE = "done"


# Names of their own for what every invocation asks: before Python 3.12 a look into an
# Enum goes through a function, for a tenth of a microsecond.
_RUNNING: Final = LeaseState.RUNNING
_STREAMING: Final = LeaseState.STREAMING
_OVERDUE: Final = LeaseState.OVERDUE
_DONE: Final = LeaseState.DONE
_INVOKE: Final = Phase.INVOKE
_INITIALIZE: Final = Phase.INITIALIZE
_RESULT: Final = Kind.RESULT
_CANCELLED: Final = Kind.CANCELLED


class Lease:
    """Holds a worker from the first request frame to the outcome."""

    __slots__ = (
        "_began_at",
        "_dispatcher",
        "_head",
        "_is_abandoned",
        "_is_dirty",
        "_limit_s",
        "_nonce",
        "_output",
        "_peak_memory_mb",
        "_phase",
        "_streamed_bytes",
        "deadline",
        "invocation",
        "state",
        "worker",
    )

    def __init__(
        self, dispatcher: Dispatcher, invocation: Invocation, worker: Worker
    ) -> None:
        self._dispatcher = dispatcher
        self.invocation = invocation
        self.worker = worker
        self.state = _RUNNING
        self.deadline = 0.0
        self._limit_s = 0.0
        self._began_at = 0.0
        self._nonce = b""
        self._is_dirty = False
        self._peak_memory_mb = 0.0
        self._output: Output | None = None
        self._phase = invocation.phase
        #: of an answer that is being sent while it comes
        self._head: ResponseHead | None = None
        self._streamed_bytes = 0
        self._is_abandoned = False
        worker.holder = self
        invocation.worker = worker

    def __repr__(self) -> str:
        return f"<Lease {self.invocation!r} {self.worker!r} {self.state.value}>"

    def begin(self) -> None:
        """Send the first request frame."""
        dispatcher, invocation = self._dispatcher, self.invocation
        needs_initializer = (
            dispatcher.has_initializer and not self.worker.is_initialized
        )
        if needs_initializer and invocation.phase is _INVOKE:
            self.state = LeaseState.INITIALIZING
            self._phase = _INITIALIZE
            self._request(dispatcher.init_timeout_s, b"", dispatcher.initialize_request)
        elif invocation.phase is _INVOKE:
            self._request(dispatcher.timeout_s, invocation.event, invocation.request)
        else:
            self._request(dispatcher.init_timeout_s, b"", invocation.request)

    def _request(self, timeout_s: float, event: object, request: bytes | None) -> None:
        dispatcher, invocation = self._dispatcher, self.invocation
        now = dispatcher.now()
        self._began_at = invocation.began_at = now
        self.deadline, self._limit_s = invocation.deadline(now, timeout_s)
        dispatcher.watch_deadline(self.deadline)
        self._nonce = nonce = dispatcher.next_nonce()
        phase = self._phase
        if invocation.started is not phase:
            # Once, also when a second worker has to take over before the first began.
            dispatcher.journal.start(phase.word, invocation.request_id)
            invocation.started = phase
        left_ms = max(0, int((self.deadline - now) * 1000))
        meta = b"%b\n%d\n%b" % (
            invocation.request_id.encode(),
            left_ms,
            invocation.context,
        )
        kind = FRAME_KINDS[phase]
        if request is not None:
            kind, meta = Kind.HTTP, b"%b\n%b" % (meta, request)
        frame_head = frames.head(kind, nonce, meta, len(event))  # type: ignore[arg-type]
        self.worker.send(nonce, frame_head, event)  # type: ignore[arg-type]

    # What the worker says.

    def worker_printed(self, stream: str, data: bytes) -> None:
        """Log output of user code."""
        if self._output is None:
            self._output = self._dispatcher.journal.open(self.invocation.request_id)
        self._output.feed(stream, data)

    def worker_replied(self, frame: Frame) -> None:
        """Judge a reply."""
        if self.state is _DONE:
            return
        if frame.nonce != self._nonce:
            self._take_stranger(frame)
            return
        if frame.kind == _CANCELLED:
            peak_mb = self._peak_memory_mb or self.worker.peak_memory_mb()
            self._finish(self._too_late(peak_mb), spoilt=True)
            return
        if self.state is _OVERDUE:
            return
        try:
            outcome = self._judge(frame)
        except ProtocolViolation as violation:
            self.worker_broke(violation)
            return
        if outcome is not None:
            self._take_outcome(outcome, frame)

    def _take_stranger(self, frame: Frame) -> None:
        if frame.nonce == self.worker.last_nonce:
            # Late words of the invocation before, which this caller is not to
            # suffer for; his own answer will still have his own nonce.
            self._is_dirty = True
        else:
            self.worker_broke(ProtocolViolation("a reply to no request"))

    def _take_outcome(self, outcome: Outcome, frame: Frame) -> None:
        if frame.flags & frames.OUTPUT_PENDING:
            self.worker.read_last_output()
        if self._phase is _INITIALIZE:
            self._initialized(outcome)
        else:
            self._retire_or_not(outcome, frame.flags)

    def _judge(self, frame: Frame) -> Outcome | None:
        """Return what a frame says the outcome is; None if there is more to come."""
        kind = frame.kind
        if self.state is _STREAMING:
            return self._judge_piece(frame)
        if kind == _RESULT:
            return self._unless_too_large(frame.body, frame.body)
        if kind == Kind.RESPONSE:
            response = Response(_read_head(frame.meta), frame.body)
            return self._unless_too_large(response, frame.body)
        if kind == Kind.RESPONSE_HEAD:
            self._begin_stream(frame)
            return None
        return self._judge_failure(frame)

    def _unless_too_large(
        self, outcome: Outcome, body: bytes | bytearray
    ) -> Outcome | None:
        limit = self._dispatcher.max_response_bytes
        return outcome if len(body) <= limit else ResponseTooLarge(len(body), limit)

    def _judge_failure(self, frame: Frame) -> Outcome:
        kind = frame.kind
        if kind == Kind.FAULT:
            error_type = frame.meta.decode("utf-8", "replace")
            return HandlerRaised(error_type, bytes(frame.body))
        if kind == Kind.TOO_LARGE:
            limit = self._dispatcher.max_response_bytes
            return ResponseTooLarge(_number(frame.meta), limit)
        if kind == Kind.EXITED:
            code, _, peak_kb = frame.meta.partition(b" ")
            verdict = self._verdict(
                "exit",
                exit_code=_number(code),
                peak_memory_mb=_number(peak_kb) / 1024,
            )
            return CommandFailed(verdict, _last_words(verdict.log_tail))
        if kind == Kind.NOT_HTTP and self.invocation.request is not None:
            return NotAnHttpFunction()
        raise ProtocolViolation(f"a frame of kind {kind} in place of a reply")

    # An answer that comes in pieces.

    def _begin_stream(self, frame: Frame) -> None:
        stream = self.invocation.stream
        if stream is None or self._phase is not _INVOKE:
            raise ProtocolViolation("an answer in pieces that nobody can take")
        self._head = _read_head(frame.meta)
        self.state = _STREAMING
        if not self._is_abandoned:
            stream.begin(self._head)
        else:
            self.worker.cancel()

    def _judge_piece(self, frame: Frame) -> Outcome | None:
        if frame.kind == Kind.END:
            assert self._head is not None
            return Response(self._head, is_streamed=True)
        if frame.kind != Kind.CHUNK:
            return self._judge_failure(frame)
        limit = self._dispatcher.max_response_bytes
        self._streamed_bytes += len(frame.body)
        if self._streamed_bytes > limit:
            return ResponseTooLarge(self._streamed_bytes, limit)
        stream = self.invocation.stream
        assert stream is not None
        if not self._is_abandoned and not stream.send(frame.body):
            # Whoever reads slowly has the worker wait, up to its deadline.
            self.worker.pause_reply()
        return None

    def stream_relieved(self) -> None:
        """Go on with an answer whose last pieces have been taken."""
        if self.state in (_STREAMING, _OVERDUE):
            self.worker.resume_reply()

    def abandon(self) -> None:
        """Note that nobody waits for the rest of an answer that comes in pieces."""
        self._is_abandoned = True
        if self.state is _STREAMING:
            self.worker.cancel()
            self.worker.resume_reply()

    def _failed(self, outcome: Outcome) -> bool:
        if isinstance(outcome, Response) and self.invocation.stream is not None:
            # What an HTTP function answers is its own affair.
            return False
        return is_failure(outcome)

    def _initialized(self, outcome: Outcome) -> None:
        failed = self._failed(outcome)
        self.worker.is_initialized = not failed
        if not failed and self.invocation.phase is _INITIALIZE:
            self._dispatcher.initializer_ran(self.invocation.request)
        if failed or self.invocation.phase is _INITIALIZE:
            # What an initializer leaves behind that failed half way, nobody knows.
            self._finish(outcome, spoilt=failed)
            return
        self._close_output()
        self._dispatcher.journal.end(
            _INITIALIZE.word, self.invocation.request_id, failed=False
        )
        self._phase = _INVOKE
        self.state = _RUNNING
        invocation = self.invocation
        self._request(self._dispatcher.timeout_s, invocation.event, invocation.request)

    def _retire_or_not(self, outcome: Outcome, flags: int) -> None:
        """Decide what becomes of a worker after its reply."""
        policy = self._dispatcher.leftovers
        has_leftovers = bool(flags & frames.LEFTOVERS) and policy != "allow"
        if has_leftovers:
            self._dispatcher.journal.warn(self.invocation.request_id, _LEFT[policy])
        # Killed with its whole tree: its descendants are found through it.
        spoilt = has_leftovers and policy == "kill"
        is_worn_out = bool(flags & frames.WORN_OUT) and not flags & frames.LEFTOVERS
        if self.state is _STREAMING and isinstance(outcome, ResponseTooLarge):
            # It is still talking.
            spoilt = True
        self._finish(outcome, worn_out=is_worn_out, spoilt=spoilt)

    def worker_broke(self, violation: ProtocolViolation) -> None:
        """End a worker that spoke out of turn."""
        if self.state in (_OVERDUE, _DONE):
            return
        verdict = self._verdict("protocol")
        self._finish(WorkerOutOfTurn(str(violation), verdict), spoilt=True)

    def worker_exited(self, report: ExitReport) -> None:
        """Judge the end of the worker: nobody else can answer now."""
        if self.state is _DONE:
            return
        if self.state is _OVERDUE:
            self._finish(self._too_late(report.peak_memory_mb), is_gone=True)
            return
        invocation = self.invocation
        if not invocation.is_retry and not self.worker.took_request:
            # It died before it took the request, so nothing has happened yet and
            # nobody needs to know.
            self.state = _DONE
            self._close_output()
            self._dispatcher.try_again(self)
            return
        status = report.status
        excess = report.excess
        is_oom = excess is not None and excess[0] == "memory"
        cause = "exit" if status.signal is None else "signal"
        verdict = self._verdict(
            "out-of-memory" if is_oom else cause,
            signal=status.signal_name,
            exit_code=status.code,
            peak_memory_mb=report.peak_memory_mb,
        )
        self._finish(_death(verdict, excess), is_gone=True)

    # What the clock says.

    def deadline_passed(self) -> None:
        """Ask for the stack, then end the worker with all it started."""
        self.state = _OVERDUE
        # The report of its end may come too late for the answer.
        self._peak_memory_mb = self.worker.peak_memory_mb()
        asked = self.worker.ask_for_stack()
        self._dispatcher.call_later(_STACK_S if asked else 0.0, self._kill_overdue)

    def _kill_overdue(self, grace_s: float = _GRACE_S) -> None:
        if self.state is not _OVERDUE:
            return
        if grace_s and self.worker.is_cancelling:
            self._dispatcher.call_later(grace_s, lambda: self._kill_overdue(0.0))
        else:
            self._dispatcher.pool.kill(self.worker)
            self._dispatcher.call_later(_REPORT_S, self._answer_overdue)

    def _answer_overdue(self) -> None:
        if self.state is _OVERDUE:
            self._finish(self._too_late(self._peak_memory_mb), is_gone=True)

    def _too_late(self, peak_memory_mb: float) -> DeadlineExceeded:
        return DeadlineExceeded(self._verdict("timeout", peak_memory_mb=peak_memory_mb))

    # The end.

    def _verdict(
        self,
        cause: str,
        *,
        signal: str | None = None,
        exit_code: int | None = None,
        peak_memory_mb: float = 0.0,
    ) -> Verdict:
        dispatcher = self._dispatcher
        self.worker.read_last_output()
        trace = _user_stack(self.worker.read_trace())
        if trace:
            self.worker_printed("stderr", trace.encode() + b"\n")
        return Verdict(
            cause,
            signal=signal,
            exit_code=exit_code,
            duration_ms=round((dispatcher.now() - self._began_at) * 1000),
            max_memory_mb=round(peak_memory_mb, 2),
            memory_limit_mb=dispatcher.memory_limit_mb,
            timeout_s=self._limit_s,
            log_tail=self._output.tail() if self._output is not None else "",
            traceback=trace,
        )

    def _close_output(self) -> None:
        if self._output is not None:
            self._output.close()
            self._output = None

    def _finish(
        self,
        outcome: Outcome,
        *,
        worn_out: bool = False,
        spoilt: bool = False,
        is_gone: bool = False,
    ) -> None:
        """Close the books: output, End line, worker, caller, in this order."""
        self.state = _DONE
        dispatcher, invocation = self._dispatcher, self.invocation
        if self._output is not None:
            self._close_output()
        journal, request_id = dispatcher.journal, invocation.request_id
        # What most handlers return is bytes, of which there is nothing to ask.
        failed = not isinstance(outcome, bytes) and self._failed(outcome)
        if failed:
            journal.error(request_id, self._error_body(outcome))
        journal.end(self._phase.word, request_id, failed=failed)
        if self._phase is not invocation.phase:
            journal.start(invocation.phase.word, request_id)
            journal.end(invocation.phase.word, request_id, failed=failed)
        dispatcher.lease_ended(self)
        worker = self.worker
        if invocation.is_measured:
            # While the process is there to be asked.
            invocation.peak_memory_mb = worker.peak_memory_mb()
        worker.last_nonce = self._nonce
        if worker.is_sending:
            # It answered without having taken all of its request, whose other half
            # must not become the beginning of the next one.
            worker.stop_sending()
            spoilt = True
        if is_gone:
            worker.holder = None
        else:
            self._give_back(worn_out=worn_out, spoilt=spoilt)
        invocation.done(outcome)

    def _error_body(self, outcome: Outcome) -> bytes:
        if isinstance(outcome, Response):
            return bytes(outcome.body[:_MAX_LOGGED])
        assert isinstance(outcome, Exception)
        return self._dispatcher.error_body(outcome)

    def _give_back(self, *, worn_out: bool, spoilt: bool) -> None:
        worker, pool = self.worker, self._dispatcher.pool
        if spoilt or self._is_dirty or not worker.is_quiet:
            worker.holder = None
            pool.kill(worker)
            return
        if self._head is not None:
            # Its end may have come along with a piece that had it wait.
            worker.resume_reply()
        counts = self.invocation.phase is _INVOKE
        pool.release(worker, worn_out=worn_out, counts=counts)


def _death(verdict: Verdict, excess: tuple[str, int] | None) -> WorkerDied:
    """Return the error that says why a worker is dead, as far as it is known."""
    if excess is None:
        return WorkerDied(verdict)
    of, used = excess
    if of == "processes":
        return WorkerDied(
            verdict,
            f"it was killed with {used} processes and threads, more than it may have "
            "(--max-processes)",
        )
    return MemoryLimitExceeded(
        verdict,
        f"it was killed when it used {used / 1024:.2f}MB, its memory limit is "
        f"{verdict.memory_limit_mb}MB (--memory)",
    )


def _read_head(meta: bytes) -> ResponseHead:
    try:
        return _heads.read(meta)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(f"an HTTP response that is none: {error}") from None


def _number(meta: bytes) -> int:
    try:
        return int(meta)
    except ValueError:
        raise ProtocolViolation("a size or code that is no number") from None


def _last_words(log_tail: str) -> str:
    """Return the end of a log for a message: whole lines, if they are short enough."""
    words = log_tail.strip()
    if len(words) <= _MAX_LAST_WORDS:
        return words
    _, _, lines = words[-_MAX_LAST_WORDS:].partition("\n")
    return f"... {lines or words[-_MAX_LAST_WORDS:]}"


def _user_stack(trace: str) -> str:
    """Return a faulthandler dump without the frames below the handler, our own."""
    ours = "/isoruntime/"
    lines = [
        line
        for line in trace.splitlines()
        if not (line.startswith("  File ") and ours in line)
    ]
    if not any(line.startswith("  File ") for line in lines):
        # A command hangs, and nothing of Python's but us.
        return ""
    return "\n".join(lines).strip()
