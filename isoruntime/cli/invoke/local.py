"""Invocations through a worker of our own: the runtime, without its HTTP server.

Everything between the request and the handler is what `serve` has: zygote, pool,
dispatcher, sandbox, limits. There is one worker at a time, since one invocation follows
the other; and the last one is retired before anything is told of it, because what a
process took at most is known for certain only when it has ended.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Mapping

from isoruntime.cli.invoke.report import (
    BY_SIGNAL,
    EXITED,
    FUNCTION_ERROR,
    OUT_OF_MEMORY,
    RETURNED,
    TIMED_OUT,
    Result,
)
from isoruntime.contract import headers as fc
from isoruntime.contract.answer import answer_of
from isoruntime.dispatch.invocation import Invocation, Outcome, Phase
from isoruntime.errors import (
    DeadlineExceeded,
    EventTooLarge,
    HandlerNotLoaded,
    InvocationError,
    MemoryLimitExceeded,
    WorkerDied,
)
from isoruntime.observe.lines import TailBuffer
from isoruntime.runtime import Begun, Runtime, is_same_file
from isoruntime.typed import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from isoruntime.contract.answer import Details
    from isoruntime.pool.worker import ExitReport, Worker
    from isoruntime.settings import Settings
    from isoruntime.zygote.spawn import Spawned

#: Of one invocation's log, so much is kept for `--json`.
_LOG_BYTES: Final = 256 * 1024
#: A person who has waited for so long wonders what is going on.
_SLOW_S: Final = 1.0
_EXIT_CODES: Final = (
    (MemoryLimitExceeded, OUT_OF_MEMORY),
    (WorkerDied, EXITED),
    (DeadlineExceeded, TIMED_OUT),
)


class Request(NamedTuple):
    """What is sent, over and over."""

    event: bytes
    #: by names in lower case
    headers: Mapping[str, str]
    repeat: int = 1


class Local:
    """Runs invocations one after another, and tells of each when it is over."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        spawned: Spawned | None,
        tell: Callable[[Result], object],
        *,
        started_at: float,
        debug_port: int = 0,
    ) -> None:
        """`started_at` is when somebody began to wait, in monotonic seconds."""
        self._settings = settings
        self._tell = tell
        self._started_at = started_at
        self._is_debugged = debug_port > 0
        self._log = TailBuffer(_LOG_BYTES)
        self._runtime = runtime = Runtime(
            settings,
            environ,
            Begun([], spawned),
            log_fd=2,
            on_log=self._note,
            debug_port=debug_port,
        )
        runtime.on_stop = self._interrupt
        runtime.pool.on_exit = self._note_exit
        # On a terminal the answer to a failure stands right below the log.
        runtime.dispatcher.journal.tells_failures = not is_same_file(1, 2)
        logging.getLogger("isoruntime.pool").addFilter(_is_no_promise)
        self._request = Request(b"", {})
        self._left = 0
        self._start_ms: float | None = None
        self._invocation: Invocation | None = None
        self._outcome: Outcome = b""
        self._duration_ms = 0.0
        #: workers that have ended, by slot: the most memory each of them took
        self._peaks_mb: dict[int, float] = {}
        self._awaited: Callable[[], object] | None = None
        self._signal = 0

    def run(self, request: Request) -> int:
        """Invoke, and tell; return 0, or what a shell makes of the signal that ended it."""
        self._request, self._left = request, request.repeat
        runtime = self._runtime
        try:
            runtime.begin()
            if sys.stderr.isatty() and not self._is_debugged:
                runtime.loop.call_later(_SLOW_S, self._ask_for_patience)
            self._begin()
            runtime.loop.run()
        finally:
            runtime.close()
        return BY_SIGNAL + self._signal if self._signal else 0

    def say(self, line: str) -> None:
        """Write a line to stderr, after all that was printed before."""
        self._runtime.log.write(line.encode("utf-8", "backslashreplace") + b"\n")
        self.flush()

    @property
    def withheld(self) -> list[str]:
        """Variables that the handler did not get, as they look like credentials."""
        return self._runtime.withheld

    def flush(self) -> None:
        """See to it that what was printed is on stderr, before stdout is written to."""
        self._runtime.log.drain(1.0)

    # One invocation.

    def _begin(self) -> None:
        self._log = TailBuffer(_LOG_BYTES)
        dispatcher, loop = self._runtime.dispatcher, self._runtime.loop
        limit, size = self._settings.max_event_bytes, len(self._request.event)
        if size > limit:
            self._invocation = self._prepare(Phase.INVOKE, b"", self._done)
            loop.call_soon(lambda: self._done(EventTooLarge(limit, size)))
        elif self._settings.initializer is not None and self._start_ms is None:
            # By itself, as the platform calls it, so that it is not part of what the
            # handler took.
            self._invocation = self._prepare(Phase.INITIALIZE, b"", self._initialized)
            dispatcher.submit(self._invocation)
        else:
            self._invoke()

    def _initialized(self, outcome: Outcome) -> None:
        if isinstance(outcome, Exception):
            self._done(outcome)
        elif not self._signal:
            self._runtime.loop.call_soon(self._invoke)

    def _invoke(self) -> None:
        event = self._request.event
        self._invocation = self._prepare(Phase.INVOKE, event, self._done)
        self._runtime.dispatcher.submit(self._invocation)

    def _prepare(
        self, phase: Phase, event: bytes, done: Callable[[Outcome], object]
    ) -> Invocation:
        headers = {
            name.upper().replace("-", "_"): value
            for name, value in self._request.headers.items()
        }
        return Invocation(
            phase,
            fc.request_id(headers),
            fc.encode_context(_filled_in(headers, self._settings)),
            event,
            done,
            self._runtime.loop.now(),
            fc.function_timeout_s(headers) if phase is Phase.INVOKE else None,
        )

    def _done(self, outcome: Outcome) -> None:
        invocation = self._invocation
        if self._signal or invocation is None:
            return
        self._outcome = outcome
        if invocation.began_at:
            now = self._runtime.loop.now()
            self._duration_ms = (now - invocation.began_at) * 1000
            if self._start_ms is None:
                taken_ms = (time.monotonic() - self._started_at) * 1000
                self._start_ms = taken_ms - self._duration_ms
        self._left -= 1
        if isinstance(outcome, HandlerNotLoaded):
            # It will not load the next time either.
            self._left = 0
        # Not from within the lease, which has this worker to let go of.
        self._runtime.loop.call_soon(self._go_on if self._left else self._end)

    def _go_on(self) -> None:
        invocation = self._invocation
        worker = invocation.worker if invocation is not None else None
        if worker is None or worker.slot in self._peaks_mb:
            self._tell_and_begin()
        elif worker in self._runtime.pool.idle:
            # So far, that is: it goes on.
            self._peaks_mb[worker.slot] = worker.peak_memory_mb()
            self._tell_and_begin()
            del self._peaks_mb[worker.slot]
        else:
            self._awaited = self._tell_and_begin

    def _tell_and_begin(self) -> None:
        self._tell(self._result())
        self._begin()

    def _end(self) -> None:
        self._runtime.pool.stop(self._tell_and_stop)

    def _tell_and_stop(self) -> None:
        self._tell(self._result())
        self._runtime.loop.stop()

    def _result(self) -> Result:
        outcome, invocation = self._outcome, self._invocation
        assert invocation is not None
        details: Details = self._settings.error_details  # type: ignore[assignment]
        error_type = None
        if isinstance(outcome, InvocationError):
            error_type = outcome.error_type
        elif isinstance(outcome, Exception):
            error_type = "RuntimeFault"
        return Result(
            invocation.request_id,
            bytes(answer_of(outcome, "fc", details).body),
            exit_code_of(outcome),
            error_type,
            self._duration_ms,
            self._start_ms,
            self._settings.memory_mb,
            self._peak_mb(invocation, outcome),
            self._log.text(),
        )

    def _peak_mb(self, invocation: Invocation, outcome: Outcome) -> float | None:
        """Return the most memory that its worker took; None if it had none."""
        worker, verdict = invocation.worker, getattr(outcome, "verdict", None)
        peak_mb = 0.0 if worker is None else self._peaks_mb.get(worker.slot, 0.0)
        if verdict is not None:
            peak_mb = max(peak_mb, verdict.max_memory_mb)
        return peak_mb or None

    # What is heard meanwhile.

    def _note(self, data: bytes) -> None:
        self._log.feed(data)

    def _note_exit(self, worker: Worker, report: ExitReport) -> None:
        self._peaks_mb[worker.slot] = report.peak_memory_mb
        invocation = self._invocation
        if invocation is not None and invocation.worker is worker:
            awaited, self._awaited = self._awaited, None
            if awaited is not None:
                self._runtime.loop.call_soon(awaited)

    def _ask_for_patience(self) -> None:
        if self._runtime.pool.is_warming:
            self.say(
                f"isoruntime: still importing {self._settings.handler}, which may take "
                f"up to {self._settings.init_timeout_s:g} s (--init-timeout)"
            )

    def _interrupt(self, number: int) -> None:
        runtime = self._runtime
        if self._signal:
            # Whoever asks twice does not want to wait for exit functions.
            runtime.loop.stop()
            return
        self._signal = number
        runtime.dispatcher.journal.tells_failures = False
        self.say(f"isoruntime: ended by {signal.Signals(number).name}")
        runtime.dispatcher.drain(lambda: None)
        runtime.dispatcher.give_up()
        runtime.pool.stop(runtime.loop.stop)


def exit_code_of(outcome: Outcome) -> int:
    """Return the exit code that says how an invocation ended."""
    if not isinstance(outcome, Exception):
        return RETURNED
    for kind, code in _EXIT_CODES:
        if isinstance(outcome, kind):
            return code
    return FUNCTION_ERROR


def _filled_in(headers: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return headers with what the platform would say of a function like this one."""
    name = settings.code_dir.rstrip("/").rpartition("/")[2] or "function"
    return {
        "X_FC_FUNCTION_NAME": name,
        "X_FC_FUNCTION_HANDLER": settings.handler,
        # Without a limit it is not said.
        "X_FC_FUNCTION_MEMORY": str(settings.memory_mb or ""),
        "X_FC_FUNCTION_TIMEOUT": str(max(1, int(settings.timeout_s))),
        **headers,
    }


def _is_no_promise(record: logging.LogRecord) -> bool:
    """Keep quiet about the next attempt to load the handler: there will be none."""
    return "trying again" not in str(record.msg)
