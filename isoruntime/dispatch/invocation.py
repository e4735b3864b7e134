"""One piece of work for a worker: an event or a hook, and who waits for it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import lru_cache

from isoruntime.contract.http import Response, ResponseHead
from isoruntime.errors import InvocationError, RuntimeFault
from isoruntime.typed import TYPE_CHECKING, Final, Protocol
from isoruntime.wire.frames import Kind
from isoruntime.wire.pipes import Body

if TYPE_CHECKING:
    from isoruntime.pool.worker import Worker

#: What the handler returned or answered, or the error that stands for it.
Outcome = bytes | bytearray | Response | InvocationError | RuntimeFault


def is_failure(outcome: Outcome) -> bool:
    """Return whether an event or a hook has failed."""
    if isinstance(outcome, Response):
        return outcome.is_failure
    return isinstance(outcome, Exception)


class Stream(Protocol):
    """Who takes an answer piece by piece, before the outcome is known."""

    def begin(self, head: ResponseHead) -> None:
        """Take status and headers."""

    def send(self, data: bytes | bytearray) -> bool:
        """Take a piece of the body; return whether the next one may follow at once."""


class Phase(enum.Enum):
    """What of the function is run: the word in the log lines."""

    INVOKE = "Invoke"
    INITIALIZE = "Initialize"
    PRE_STOP = "PreStop"
    PRE_FREEZE = "PreFreeze"

    def __init__(self, word: str) -> None:
        """`word` is the value, for which Enum itself goes through a function."""
        self.word = word

    # By identity, for tables looked into on the way of every invocation: the hash of an
    # Enum is a function in Python.
    __hash__ = object.__hash__


FRAME_KINDS: Final = {
    Phase.INVOKE: Kind.INVOKE,
    Phase.INITIALIZE: Kind.INITIALIZE,
    Phase.PRE_STOP: Kind.PRE_STOP,
    Phase.PRE_FREEZE: Kind.PRE_FREEZE,
}

#: With a limit of the platform's own we answer a little before it gives up.
_MARGIN_S: Final = 0.1
_MARGIN_SHARE: Final = 0.01
_MAX_MARGIN_S: Final = 1.0


class Invocation:
    """What is asked for, by whom, and how long it may take.

    `context` is the JSON of `contract.headers.encode_context`. `platform_timeout_s`
    is the limit that came with the request, counted from its arrival; the
    runtime's own limit is counted from the moment a worker has it.

    `request` is an HTTP request's own line (`contract.http.Request`), for functions that
    speak HTTP; its answer goes to `stream` where that is given, in pieces if it comes so.
    """

    __slots__ = (
        "arrived_at",
        "began_at",
        "context",
        "done",
        "event",
        "is_measured",
        "is_retry",
        "peak_memory_mb",
        "phase",
        "platform_timeout_s",
        "queued_at",
        "request",
        "request_id",
        "started",
        "stream",
        "worker",
    )

    def __init__(
        self,
        phase: Phase,
        request_id: str,
        context: bytes,
        event: Body,
        done: Callable[[Outcome], object],
        arrived_at: float,
        platform_timeout_s: float | None = None,
        request: bytes | None = None,
        stream: Stream | None = None,
    ) -> None:
        self.phase = phase
        self.request_id = request_id
        self.context = context
        self.event = event
        self.done = done
        self.arrived_at = arrived_at
        self.queued_at = arrived_at
        self.platform_timeout_s = platform_timeout_s
        self.request = request
        self.stream = stream
        self.is_retry = False
        #: whether `peak_memory_mb` is wanted of the worker when it has answered: the
        #: most it has ever taken, or 0 where nobody can tell
        self.is_measured = False
        self.peak_memory_mb = 0.0
        #: the worker that has it, or had it last, and since when
        self.worker: Worker | None = None
        self.began_at = 0.0
        #: what of it has its Start line in the log
        self.started: Phase | None = None

    def __repr__(self) -> str:
        return f"<Invocation {self.phase.word} {self.request_id}>"

    def deadline(self, now: float, timeout_s: float) -> tuple[float, float]:
        """Return when it has to be over, and the limit to name if it is not.

        The smaller of `timeout_s` and the platform's limit holds.
        """
        theirs = self.platform_timeout_s
        if theirs is None:
            return now + timeout_s, timeout_s
        ours, platform = now + timeout_s, self.arrived_at + _before_giving_up_s(theirs)
        # On the way of every invocation, where a function for it would be felt.
        return (
            ours if ours < platform else platform,
            timeout_s if timeout_s < theirs else theirs,
        )


@lru_cache(maxsize=64)
def _before_giving_up_s(limit_s: float) -> float:
    """Return how long we have with a limit of the platform's."""
    margin_s = min(_MARGIN_S + limit_s * _MARGIN_SHARE, _MAX_MARGIN_S, limit_s / 2)
    return limit_s - margin_s
