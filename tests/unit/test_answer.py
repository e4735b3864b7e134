"""Every outcome's answer: the table of `interface.md` section 3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from isoruntime.contract.answer import STATUS, answer_of
from isoruntime.errors import (
    CommandFailed,
    DeadlineExceeded,
    Draining,
    EventTooLarge,
    FrameTooLarge,
    HandlerNotLoaded,
    HandlerRaised,
    IllegalTransition,
    InvocationError,
    IsoruntimeError,
    MemoryLimitExceeded,
    NotAnHttpFunction,
    NoWorkerAvailable,
    ProtocolViolation,
    ResponseTooLarge,
    RuntimeFault,
    Verdict,
    WorkerDied,
    WorkerOutOfTurn,
    ZygoteDied,
)

if TYPE_CHECKING:
    from isoruntime.contract.answer import Details, Mode

BODY = b'{\n    "errorMessage": "no",\n    "errorType": "ValueError"\n}'
CRASH = Verdict(
    cause="signal",
    signal="SIGSEGV",
    exit_code=None,
    duration_ms=12,
    max_memory_mb=21.504,
    memory_limit_mb=512,
    timeout_s=60.0,
    log_tail="last words \ud800",
    traceback='File "/code/index.py", line 3',
)

#: outcome, status with `--errors fc`, status with `--errors http`, errorType
OUTCOMES: list[Any] = [
    (HandlerRaised("ValueError", BODY), 404, 500, "ValueError"),
    (HandlerNotLoaded("ValueError", BODY), 404, 500, "ValueError"),
    (WorkerDied(CRASH), 404, 502, "ProcessExitedError"),
    (DeadlineExceeded(CRASH), 404, 504, "FunctionTimeoutError"),
    (MemoryLimitExceeded(CRASH), 404, 502, "FunctionOOMError"),
    (ResponseTooLarge(7, 5), 404, 502, "ResponseTooLarge"),
    (CommandFailed(CRASH, "no such file"), 404, 500, "CommandFailed"),
    (NotAnHttpFunction(), 404, 404, "NotAnHttpFunction"),
    (EventTooLarge(5, 7), 413, 413, "EventTooLarge"),
    (NoWorkerAvailable("all busy"), 429, 503, "ResourceExhausted"),
    (Draining(), 503, 503, "Draining"),
    (WorkerOutOfTurn("wrong nonce", CRASH), 404, 502, "RuntimeFault"),
    (RuntimeFault("secret inside"), 404, 502, "RuntimeFault"),
    (ProtocolViolation("secret inside"), 404, 502, "RuntimeFault"),
    (FrameTooLarge(7, 5), 404, 502, "RuntimeFault"),
    (IllegalTransition("secret inside"), 404, 502, "RuntimeFault"),
    (ZygoteDied("secret inside"), 404, 502, "RuntimeFault"),
]

DETAILS: list[Details] = ["none", "summary", "full"]


def name_of(value: object) -> str:
    return type(value).__name__ if isinstance(value, Exception) else str(value)


def leaves_of(cls: type[IsoruntimeError]) -> set[type[IsoruntimeError]]:
    children = [sub for sub in cls.__subclasses__() if sub.__module__ == cls.__module__]
    return {leaf for sub in children for leaf in leaves_of(sub)} or {cls}


def test_every_error_that_can_end_an_invocation_has_an_answer() -> None:
    for leaf in leaves_of(InvocationError) | leaves_of(RuntimeFault):
        assert set(leaf.__mro__) & STATUS.keys(), f"{leaf.__name__} has no answer"


def test_every_error_that_can_end_an_invocation_is_in_the_table_above() -> None:
    shown = {type(row[0]) for row in OUTCOMES}
    assert leaves_of(InvocationError) | leaves_of(RuntimeFault) <= shown


@pytest.mark.parametrize("details", DETAILS)
@pytest.mark.parametrize(
    ("outcome", "in_fc", "in_http", "error_type"), OUTCOMES, ids=name_of
)
def test_a_failure_has_the_status_and_type_of_the_table(
    outcome: InvocationError,
    in_fc: int,
    in_http: int,
    error_type: str,
    details: Details,
) -> None:
    modes: list[tuple[Mode, int]] = [("fc", in_fc), ("http", in_http)]
    for mode, status in modes:
        answer = answer_of(outcome, mode, details)
        assert answer.status == status
        assert answer.fc_status == "404"
        assert answer.content_type == "application/json"
        assert json.loads(bytes(answer.body))["errorType"] == error_type


@pytest.mark.parametrize("body", [b"", b"\0\xff", bytearray(b"x"), memoryview(b"x")])
def test_what_the_handler_returned_is_answered_as_it_is(body: Any) -> None:
    modes: list[Mode] = ["fc", "http"]
    for mode in modes:
        answer = answer_of(body, mode, "summary")
        assert answer.body is body
        assert (answer.status, answer.fc_status) == (200, "200")
        assert answer.content_type == "application/octet-stream"
        assert (answer.headers, answer.close) == ([], False)


@pytest.mark.parametrize("details", DETAILS)
@pytest.mark.parametrize("kind", [HandlerRaised, HandlerNotLoaded])
def test_what_the_handler_raised_is_answered_byte_for_byte(
    kind: type[HandlerRaised], details: Details
) -> None:
    assert answer_of(kind("ValueError", BODY), "fc", details).body is BODY


@pytest.mark.parametrize(
    "outcome", [NoWorkerAvailable("busy"), Draining()], ids=name_of
)
def test_who_is_refused_is_told_when_to_come_back(outcome: InvocationError) -> None:
    modes: list[Mode] = ["fc", "http"]
    for mode in modes:
        ((name, value),) = answer_of(outcome, mode, "summary").headers
        assert name == "Retry-After"
        assert int(value) >= 1


def test_only_draining_closes_the_connection() -> None:
    closing = {
        type(row[0]) for row in OUTCOMES if answer_of(row[0], "fc", "summary").close
    }
    assert closing == {Draining}


def test_an_answer_s_headers_are_its_own() -> None:
    answer_of(b"", "fc", "summary").headers.append(("x", "y"))
    assert answer_of(b"", "fc", "summary").headers == []
    answer_of(Draining(), "fc", "summary").headers.append(("x", "y"))
    assert len(answer_of(Draining(), "fc", "summary").headers) == 1


def test_a_crash_is_written_as_the_page_shows_it() -> None:
    body = answer_of(WorkerDied(CRASH), "fc", "summary").body
    assert bytes(body).decode() == (
        "{\n"
        '    "details": {\n'
        '        "cause": "signal",\n'
        '        "durationMs": 12,\n'
        '        "exitCode": null,\n'
        '        "maxMemoryMB": 21.5,\n'
        '        "memoryLimitMB": 512,\n'
        '        "signal": "SIGSEGV",\n'
        '        "timeoutSeconds": 60\n'
        "    },\n"
        '    "errorMessage": "Process exited unexpectedly before completing request '
        '(duration: 12ms, maxMemoryUsage: 21.50MB)",\n'
        '    "errorType": "ProcessExitedError"\n'
        "}"
    )


def test_full_details_add_output_and_traceback() -> None:
    full = json.loads(bytes(answer_of(WorkerDied(CRASH), "fc", "full").body))
    summary = json.loads(bytes(answer_of(WorkerDied(CRASH), "fc", "summary").body))
    assert full["details"].pop("logTail") == CRASH.log_tail
    assert full["details"].pop("traceback") == CRASH.traceback
    assert full == summary


@pytest.mark.parametrize("outcome", [row[0] for row in OUTCOMES], ids=name_of)
def test_no_details_are_shown_where_none_are_wanted(outcome: InvocationError) -> None:
    assert b"details" not in answer_of(outcome, "fc", "none").body


def test_a_timeout_of_half_a_second_is_told_as_such() -> None:
    late = DeadlineExceeded(CRASH._replace(timeout_s=0.5))
    body = json.loads(bytes(answer_of(late, "fc", "summary").body))
    assert body["details"]["timeoutSeconds"] == 0.5


@pytest.mark.parametrize(
    "outcome",
    [row[0] for row in OUTCOMES if isinstance(row[0], RuntimeFault)],
    ids=name_of,
)
def test_our_own_failure_shows_nothing_of_our_inside(outcome: RuntimeFault) -> None:
    body = json.loads(bytes(answer_of(outcome, "fc", "full").body))
    assert body.keys() == {"errorMessage", "errorType"}
    assert str(outcome) not in body["errorMessage"]


def test_an_error_nobody_thought_of_is_still_answered() -> None:
    class Unforeseen(InvocationError):
        code = "unforeseen"

    answer = answer_of(Unforeseen("what"), "http", "summary")
    assert (answer.status, answer.fc_status) == (502, "404")
