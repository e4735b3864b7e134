"""One piece of work for a worker: an event or a hook, and who waits for it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from isoruntime.errors import InvocationError, RuntimeFault
from isoruntime.wire.frames import Kind
from isoruntime.wire.pipes import Body

#: Bytes that the handler returned, or the error that stands for them.
Outcome = bytes | bytearray | InvocationError | RuntimeFault


class Phase(enum.Enum):
    """What of the function is run: the word in the log lines."""

    INVOKE = "Invoke"
    INITIALIZE = "Initialize"
    PRE_STOP = "PreStop"
    PRE_FREEZE = "PreFreeze"


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
    """

    __slots__ = (
        "arrived_at",
        "context",
        "done",
        "event",
        "is_retry",
        "phase",
        "platform_timeout_s",
        "queued_at",
        "request_id",
        "started",
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
    ) -> None:
        self.phase = phase
        self.request_id = request_id
        self.context = context
        self.event = event
        self.done = done
        self.arrived_at = arrived_at
        self.queued_at = arrived_at
        self.platform_timeout_s = platform_timeout_s
        self.is_retry = False
        #: what of it has its Start line in the log
        self.started: Phase | None = None

    def __repr__(self) -> str:
        return f"<Invocation {self.phase.value} {self.request_id}>"

    def deadline(self, now: float, timeout_s: float) -> tuple[float, float]:
        """Return when it has to be over, and the limit to name if it is not.

        The smaller of `timeout_s` and the platform's limit holds.
        """
        theirs = self.platform_timeout_s
        if theirs is None:
            return now + timeout_s, timeout_s
        margin_s = min(_MARGIN_S + theirs * _MARGIN_SHARE, _MAX_MARGIN_S, theirs / 2)
        deadline = min(now + timeout_s, self.arrived_at + theirs - margin_s)
        return deadline, min(timeout_s, theirs)
