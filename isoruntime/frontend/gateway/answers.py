"""Answers of the invocation API: what came of it in the body, the rest in headers."""

from __future__ import annotations

import base64

from isoruntime.contract.answer import Answer, answer_of, answer_with
from isoruntime.contract.http import Response
from isoruntime.dispatch.invocation import Phase, is_failure
from isoruntime.errors import (
    Draining,
    EventTooLarge,
    InvocationError,
    NotAnHttpFunction,
    NoWorkerAvailable,
    RuntimeFault,
)
from isoruntime.frontend.gateway.invocations import version_of
from isoruntime.frontend.gateway.paths import FC3
from isoruntime.frontend.gateway.refusals import Refusal
from isoruntime.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from isoruntime.contract.answer import Details
    from isoruntime.dispatch.invocation import Invocation, Outcome

_OCTETS: Final = "application/octet-stream"
_EXPOSED: Final = (
    "access-control-expose-headers",
    "Date,x-fc-request-id,x-fc-error-type,x-fc-code-checksum,x-fc-invocation-duration,"
    "x-fc-max-memory-usage,x-fc-log-result,x-fc-invocation-code-version",
)
_FUNCTION_FAILED: Final = "UnhandledInvocationError"
_INITIALIZER_FAILED: Final = "InitializationError"


def refusal_of(outcome: Outcome) -> Refusal | None:
    """Return what the platform says where it was not the function that failed."""
    if isinstance(outcome, NoWorkerAvailable):
        return Refusal("ResourceExhausted", str(outcome))
    if isinstance(outcome, Draining):
        return Refusal("ServiceUnavailable", str(outcome))
    if isinstance(outcome, EventTooLarge):
        return too_large(outcome.limit_bytes)
    if isinstance(outcome, RuntimeFault):
        return Refusal("InternalServerError", "the runtime failed; its log says why")
    return None


def too_large(limit_bytes: int) -> Refusal:
    """Return what is said of a body that is larger than it may be."""
    return Refusal(
        "EntityTooLarge",
        f"payload size exceeds maximum allowed size ({limit_bytes} bytes)",
    )


def body_of(outcome: Outcome, details: Details) -> bytes | bytearray | memoryview:
    """Return what the caller of an event's invocation gets of its outcome."""
    if isinstance(outcome, Response):
        # Status and headers are lost in between, on the platform too.
        return outcome.body
    return answer_of(outcome, "fc", details).body


def event_answer(invocation: Invocation, outcome: Outcome, details: Details) -> Answer:
    """Return the answer to the invocation of an event."""
    failed = is_failure(outcome)
    content_type = _OCTETS
    if failed:
        content_type = "application/json"
        if isinstance(outcome, Response):
            content_type = outcome.head.content_type or _OCTETS
    answer = Answer(200, body_of(outcome, details), content_type, "200", [])
    if failed:
        answer.fc_status = "404"
        answer.headers.append(("X-Fc-Error-Type", error_type_of(invocation)))
    return answer


def http_answer(outcome: Outcome, details: Details) -> Answer:
    """Return the answer to a request to an HTTP function."""
    if isinstance(outcome, Response):
        return answer_with(outcome, on_platform=True)
    answer = answer_of(outcome, "fc", details)
    if isinstance(outcome, NotAnHttpFunction):
        return answer
    answer.status = 502
    answer.headers.append(("X-Fc-Error-Type", _FUNCTION_FAILED))
    return answer


def error_type_of(invocation: Invocation) -> str:
    """Return what a failure is called, by what of the function was running."""
    if invocation.started is Phase.INITIALIZE:
        return _INITIALIZER_FAILED
    return _FUNCTION_FAILED


def add_facts(
    answer: Answer, invocation: Invocation, outcome: Outcome, now: float, qualifier: str
) -> None:
    """Add what is known of an invocation when it is over."""
    headers = answer.headers
    headers.append(_EXPOSED)
    headers.append(("X-Fc-Invocation-Service-Version", version_of(qualifier)))
    if invocation.worker is not None:
        headers.append(("X-Fc-Instance-Id", f"worker-{invocation.worker.pid}"))
    took_ms = (now - invocation.began_at) * 1000 if invocation.began_at else 0.0
    headers.append(("X-Fc-Invocation-Duration", str(round(took_ms))))
    peak_mb = peak_memory_mb(invocation, outcome)
    if peak_mb:
        headers.append(("X-Fc-Max-Memory-Usage", f"{peak_mb:.2f}"))


def peak_memory_mb(invocation: Invocation, outcome: Outcome) -> float:
    """Return the most memory its worker has taken, 0 if nobody could tell."""
    peak_mb = invocation.peak_memory_mb
    if isinstance(outcome, InvocationError) and outcome.verdict is not None:
        peak_mb = max(peak_mb, outcome.verdict.max_memory_mb)
    return peak_mb


def add_tail(answer: Answer, tail: bytes) -> None:
    """Add the end of an invocation's log."""
    answer.headers.append(("X-Fc-Log-Result", base64.b64encode(tail).decode("ascii")))


def task_header(version: str, task_id: str) -> tuple[str, str]:
    """Return the header that carries the id of a task."""
    name = (
        "X-Fc-Async-Task-Id" if version == FC3 else "X-Fc-Stateful-Async-Invocation-Id"
    )
    return name, task_id
