"""From the outcome of an invocation to what the caller is answered.

This is the only place where an error becomes a status and a body. The table and
the bodies are those of `interface.md` section 3.
"""

from __future__ import annotations

import json
from contextlib import suppress

from isoruntime.contract.http import BODILESS, Response
from isoruntime.errors import (
    CommandFailed,
    DeadlineExceeded,
    Draining,
    EventTooLarge,
    HandlerNotLoaded,
    HandlerRaised,
    InvocationError,
    NotAnHttpFunction,
    NoWorkerAvailable,
    ResponseTooLarge,
    RuntimeFault,
    WorkerDied,
    WorkerOutOfTurn,
)
from isoruntime.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal, TypeAlias

    from isoruntime.errors import IsoruntimeError, Verdict

    Body: TypeAlias = bytes | bytearray | memoryview
    Mode: TypeAlias = Literal["fc", "http"]
    Details: TypeAlias = Literal["none", "summary", "full"]

_OCTETS: Final = "application/octet-stream"
_JSON: Final = "application/json"

#: error -> status with `--errors fc`, status with `--errors http`. A subclass that is
#: not listed is answered as the class it comes from.
STATUS: Final[Mapping[type[IsoruntimeError], tuple[int, int]]] = {
    HandlerRaised: (404, 500),
    HandlerNotLoaded: (404, 500),
    WorkerDied: (404, 502),
    DeadlineExceeded: (404, 504),
    ResponseTooLarge: (404, 502),
    CommandFailed: (404, 500),
    NotAnHttpFunction: (404, 404),
    EventTooLarge: (413, 413),
    NoWorkerAvailable: (429, 503),
    Draining: (503, 503),
    WorkerOutOfTurn: (404, 502),
    RuntimeFault: (404, 502),
}

# A worker comes free, or another instance takes over, sooner than a whole number of
# seconds can say.
_RETRY_AFTER: Final = ("Retry-After", "1")


class Answer:
    """What is sent back for one request, apart from what every answer carries.

    `headers` holds only what is special to this answer: the request id, the length,
    `content_type` and `fc_status` (the value of `x-fc-status`) are added by the front
    end, and of `content_type` nothing where it is empty. `length` is said where it is
    not that of the body, and -1 otherwise. `close` asks to end the connection afterwards.
    """

    __slots__ = (
        "body",
        "close",
        "content_type",
        "fc_status",
        "headers",
        "length",
        "reason",
        "status",
    )

    def __init__(
        self,
        status: int,
        body: Body,
        content_type: str,
        fc_status: str,
        headers: list[tuple[str, str]],
        close: bool = False,
        reason: str = "",
        length: int = -1,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.fc_status = fc_status
        self.headers = headers
        self.close = close
        #: in place of the usual phrase for the status
        self.reason = reason
        self.length = length

    def __repr__(self) -> str:
        return f"<Answer {self.status} of {len(self.body)} bytes>"


def answer_of(
    outcome: Body | Response | InvocationError | RuntimeFault,
    mode: Mode,
    details: Details,
) -> Answer:
    """Return the answer to an invocation that ended with `outcome`."""
    if isinstance(outcome, (bytes, bytearray, memoryview)):
        return Answer(200, outcome, _OCTETS, "200", [])
    if isinstance(outcome, Response):
        answer = answer_with(outcome, on_platform=False)
        # Also where the server leaves it to its status to say so.
        answer.fc_status = "404" if outcome.is_failure else "200"
        return answer
    body = (
        outcome.body
        if isinstance(outcome, HandlerRaised)
        else _failure_body(outcome, details)
    )
    retry = isinstance(outcome, (NoWorkerAvailable, Draining))
    return Answer(
        _status_of(type(outcome), mode),
        body,
        _JSON,
        "404",
        [_RETRY_AFTER] if retry else [],
        close=isinstance(outcome, Draining),
    )


def http_answer_of(
    outcome: Body | Response | InvocationError | RuntimeFault,
    details: Details,
    *,
    on_platform: bool,
) -> Answer:
    """Return the answer to an HTTP request that ended with `outcome`.

    Its status is HTTP's own, whatever `--errors` says: there is no API in between to
    turn ours into another. Who sees it may be anybody, so of what the application
    raised only type and message are told, and its stack with `--error-details full`.
    """
    if isinstance(outcome, Response):
        return answer_with(outcome, on_platform=on_platform)
    answer = answer_of(outcome, "http", details)
    if isinstance(outcome, HandlerRaised) and details != "full":
        answer.body = _without_stack(outcome, details)
    return answer


def answer_with(response: Response, *, on_platform: bool) -> Answer:
    """Return a function's own answer as it is sent."""
    head = response.head
    return Answer(
        head.status,
        b"" if head.status in BODILESS else response.body,
        head.content_type,
        head.fc_status or "200",
        head.headers_for(on_platform=on_platform),
        reason=head.reason,
        length=head.length,
    )


def _without_stack(outcome: HandlerRaised, details: Details) -> bytes:
    message = "The application failed; its log says why"
    if details != "none":
        # Whatever the worker sent: what is no failure's body has no message.
        with suppress(ValueError, KeyError, TypeError):
            message = str(json.loads(outcome.body)["errorMessage"])
    failure = {"errorMessage": message, "errorType": outcome.error_type}
    return json.dumps(failure, indent=4, sort_keys=True).encode("ascii")


def _status_of(kind: type[IsoruntimeError], mode: Mode) -> int:
    for cls in kind.__mro__:
        if cls in STATUS:
            break
    else:
        # A test sees to it that this is not reached; a caller still gets an answer.
        cls = RuntimeFault
    in_fc, in_http = STATUS[cls]
    return in_http if mode == "http" else in_fc


def _failure_body(outcome: InvocationError | RuntimeFault, details: Details) -> bytes:
    failure: dict[str, object]
    if isinstance(outcome, RuntimeFault):
        # Its own text is about our insides; the log has it.
        failure = {
            "errorMessage": "The runtime failed while it held this invocation",
            "errorType": "RuntimeFault",
        }
    else:
        failure = {"errorMessage": str(outcome), "errorType": outcome.error_type}
        if outcome.verdict is not None and details != "none":
            failure["details"] = _details_of(outcome.verdict, full=details == "full")
    return json.dumps(failure, indent=4, sort_keys=True).encode("ascii")


def _details_of(verdict: Verdict, *, full: bool) -> dict[str, object]:
    timeout_s = float(verdict.timeout_s)
    shown: dict[str, object] = {
        "cause": verdict.cause,
        "signal": verdict.signal,
        "exitCode": verdict.exit_code,
        "durationMs": verdict.duration_ms,
        "maxMemoryMB": round(verdict.max_memory_mb, 2),
        "memoryLimitMB": verdict.memory_limit_mb,
        "timeoutSeconds": int(timeout_s) if timeout_s.is_integer() else timeout_s,
    }
    if full:
        shown["logTail"] = verdict.log_tail
        shown["traceback"] = verdict.traceback
    return shown
