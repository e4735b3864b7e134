"""Every error isoruntime raises, in one tree.

IsoruntimeError
├── ConfigurationError
│   ├── InvalidSettings
│   ├── SandboxUnavailable
│   ├── CannotListen
│   ├── CannotRead
│   └── CannotPackage
├── InvocationError
│   ├── HandlerRaised
│   │   └── HandlerNotLoaded
│   ├── WorkerDied
│   │   └── MemoryLimitExceeded
│   ├── DeadlineExceeded
│   ├── EventTooLarge
│   ├── ResponseTooLarge
│   ├── CommandFailed
│   ├── NotAnHttpFunction
│   ├── NoWorkerAvailable
│   ├── Draining
│   └── WorkerOutOfTurn
└── RuntimeFault
    ├── ProtocolViolation
    │   └── FrameTooLarge
    ├── IllegalTransition
    └── ZygoteDied

The three branches say whose fault it is, which is what a reader acts on:
ConfigurationError is the operator's and is raised before we serve,
InvocationError belongs to one invocation and leaves the runtime healthy,
RuntimeFault is ours and is always worth a bug report.
"""

from __future__ import annotations

from collections.abc import Sequence

# Not dataclasses: importing these costs 15 ms of every cold start.
from isoruntime.typed import ClassVar, NamedTuple


class IsoruntimeError(Exception):
    """Base of everything this package raises on purpose."""

    #: Stable kebab-case name: logs and metrics carry it, so it outlives any
    #: rewording of the message.
    code: ClassVar[str] = "error"


class ConfigurationError(IsoruntimeError):
    """The operator asked for something that cannot be; nothing was started."""

    code = "configuration"


class InvalidSettings(ConfigurationError):
    """One or more settings were refused; all of them are listed."""

    code = "invalid-settings"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class SandboxUnavailable(ConfigurationError):
    """Isolation was asked for that cannot be given; less is no substitute."""

    code = "sandbox-unavailable"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class CannotListen(ConfigurationError):
    """The address to listen on could not be had."""

    code = "cannot-listen"


class CannotRead(ConfigurationError):
    """What a command was to look at is not there, or cannot be read."""

    code = "cannot-read"


class CannotPackage(ConfigurationError):
    """A folder cannot be deployed as it is; all that stands in the way is listed."""

    code = "cannot-package"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class ExitStatus(NamedTuple):
    """How a process ended: an exit code or a signal, never both.

    Both are None when nobody could find out.
    """

    code: int | None = None
    signal: int | None = None

    @classmethod
    def from_returncode(cls, returncode: int) -> ExitStatus:
        """Read the convention of `os.waitstatus_to_exitcode`."""
        if returncode < 0:
            return cls(signal=-returncode)
        return cls(code=returncode)

    @property
    def signal_name(self) -> str | None:
        """The name of the signal, such as `SIGSEGV`."""
        if self.signal is None:
            return None
        # Here, as what forks workers has no other use for it (`bare.py`).
        from signal import Signals

        try:
            return Signals(self.signal).name
        except ValueError:
            return f"signal {self.signal}"

    def __str__(self) -> str:
        if self.signal is not None:
            return f"killed by {self.signal_name}"
        if self.code is None:
            return "ended in an unknown way"
        return f"exited with code {self.code}"


class Verdict(NamedTuple):
    """What is known about one failed invocation; `details` of the answer.

    Durations are milliseconds, memory is MiB, limits of 0 mean "no limit".
    """

    #: exit, signal, timeout, out-of-memory, leftover or protocol
    cause: str
    signal: str | None = None
    exit_code: int | None = None
    duration_ms: int = 0
    max_memory_mb: float = 0.0
    memory_limit_mb: int = 0
    timeout_s: float = 0.0
    #: last output of this invocation, shown with `--error-details full` only
    log_tail: str = ""
    #: where Python was when it died or hung, shown likewise
    traceback: str = ""


def verdict_of_exit(
    status: ExitStatus, after_s: float, max_memory_mb: float = 0.0
) -> Verdict:
    """Return what is known of a process that ended before it was of any use."""
    return Verdict(
        "exit" if status.signal is None else "signal",
        signal=status.signal_name,
        exit_code=status.code,
        duration_ms=int(after_s * 1000),
        max_memory_mb=max_memory_mb,
    )


class InvocationError(IsoruntimeError):
    """One invocation failed; the runtime is healthy."""

    code = "invocation"
    #: `errorType` of the answer, from `interface.md` section 3
    error_type: str = "InvocationError"
    verdict: Verdict | None = None


class HandlerRaised(InvocationError):
    """User code raised, or returned what cannot be encoded.

    `body` is the whole answer as the worker wrote it: `errorMessage`,
    `errorType` and `stackTrace` in the built-in runtime's form.
    """

    code = "handler-raised"

    def __init__(self, error_type: str, body: bytes) -> None:
        super().__init__(f"the handler raised {error_type}")
        self.error_type = error_type
        self.body = body


class HandlerNotLoaded(HandlerRaised):
    """The handler could not be imported or found; `body` says why.

    `place` is the file and the line that broke, if known. All three come from where user
    code has run, so the sentence made of them is one line of bounded length.
    """

    code = "handler-not-loaded"

    def __init__(self, error_type: str, body: bytes, place: str = "") -> None:
        super().__init__(error_type, body)
        reason = _one_line(_reason_in(body) or error_type)
        #: for the person at the terminal
        self.reason = f"{reason} ({_one_line(place)})" if place else reason
        self.args = (f"the handler could not be loaded: {self.reason}",)


_LONGEST_REASON = 400


def _reason_in(body: bytes) -> str:
    """Return what an answer to a failed load says; empty if it cannot be read."""
    import json  # only where something has failed; the start does without

    try:
        fault = json.loads(body)
        message, stack = str(fault["errorMessage"]), fault.get("stackTrace", [])
        last = str(stack[-1]) if stack else ""
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return ""
    if not last or message.endswith(last):
        return message
    # The class and the text of what was raised; of these the platform's own sentence
    # is a repetition.
    is_raised = fault.get("errorType") in ("UserCodeError", "UserCodeSyntaxError")
    return last if is_raised else f"{message}: {last}"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    line = "".join(each if each.isprintable() else "?" for each in line)
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}..."


class WorkerDied(InvocationError):
    """The worker process ended while it held this invocation."""

    code = "worker-died"
    error_type = "ProcessExitedError"

    def __init__(self, verdict: Verdict, reason: str = "") -> None:
        # The sentence is the platform's own (fc-contract.md 4.5), so that alarms
        # and dashboards that look for it go on working.
        super().__init__(
            "Process exited unexpectedly before completing request "
            f"(duration: {verdict.duration_ms}ms, "
            f"maxMemoryUsage: {verdict.max_memory_mb:.2f}MB)"
            + (f": {reason}" if reason else "")
        )
        self.verdict = verdict


class MemoryLimitExceeded(WorkerDied):
    """The worker's tree used more memory than it may, and was killed."""

    code = "memory-limit-exceeded"
    error_type = "FunctionOOMError"


class DeadlineExceeded(InvocationError):
    """The invocation took longer than it may, and its worker was killed."""

    code = "deadline-exceeded"
    error_type = "FunctionTimeoutError"

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(
            f"Function timed out after {verdict.timeout_s:g} seconds "
            f"(maxMemoryUsage: {verdict.max_memory_mb:.2f}MB)"
        )
        self.verdict = verdict


class EventTooLarge(InvocationError):
    """The event is over `--max-event`; nothing was started for it."""

    code = "event-too-large"
    error_type = "EventTooLarge"

    def __init__(self, limit_bytes: int, size_bytes: int | None = None) -> None:
        size = "The event" if size_bytes is None else f"The event of {size_bytes} bytes"
        super().__init__(
            f"{size} is larger than the limit of {limit_bytes} bytes "
            "(raise it with --max-event, in MB)"
        )
        self.limit_bytes = limit_bytes


class ResponseTooLarge(InvocationError):
    """The handler returned more than `--max-response`."""

    code = "response-too-large"
    error_type = "ResponseTooLarge"

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"The response of {size_bytes} bytes is larger than the limit of "
            f"{limit_bytes} bytes (raise it with --max-response, in MB)"
        )


class CommandFailed(InvocationError):
    """The command ended with another exit code than 0.

    `last_words` is the end of what it wrote to its standard error.
    """

    code = "command-failed"
    error_type = "CommandFailed"

    def __init__(self, verdict: Verdict, last_words: str) -> None:
        super().__init__(
            f"The command exited with code {verdict.exit_code}"
            + (f": {last_words}" if last_words else " and wrote nothing to stderr")
        )
        self.verdict = verdict


class NotAnHttpFunction(InvocationError):
    """An HTTP request came for a function that takes events only."""

    code = "not-an-http-function"
    error_type = "NotAnHttpFunction"

    def __init__(self) -> None:
        super().__init__("The handler takes events, and no HTTP requests")


class NoWorkerAvailable(InvocationError):
    """Every worker is busy and the queue is full, or the wait was too long."""

    code = "no-worker-available"
    error_type = "ResourceExhausted"


class Draining(InvocationError):
    """The runtime is shutting down and takes no new work."""

    code = "draining"
    error_type = "Draining"

    def __init__(self) -> None:
        super().__init__("The runtime is shutting down and takes no new invocations")


class WorkerOutOfTurn(InvocationError):
    """The worker broke the protocol while it held this invocation."""

    code = "worker-out-of-turn"
    error_type = "RuntimeFault"

    def __init__(self, reason: str, verdict: Verdict) -> None:
        super().__init__(f"The worker broke the protocol and was killed: {reason}")
        self.verdict = verdict


class RuntimeFault(IsoruntimeError):
    """Our own failure."""

    code = "runtime-fault"


class ProtocolViolation(RuntimeFault):
    """Bytes on a pipe break the format; the stream cannot be trusted again."""

    code = "protocol-violation"


class FrameTooLarge(ProtocolViolation):
    """A frame announces more than its receiver accepts."""

    code = "frame-too-large"

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"a frame of {size_bytes} bytes, limit {limit_bytes}")
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class IllegalTransition(RuntimeFault):
    """A worker was asked for a move its state table does not have."""

    code = "illegal-transition"


class ZygoteDied(RuntimeFault):
    """The zygote ended, and its workers with it."""

    code = "zygote-died"
