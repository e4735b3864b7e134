"""What `isoruntime invoke` makes of its words, and what it tells of results."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from isoruntime.cli.invoke.command import OWN, TAKEN
from isoruntime.cli.invoke.fields import BadFields, headers_of
from isoruntime.cli.invoke.local import exit_code_of
from isoruntime.cli.invoke.report import Report, Result, latencies
from isoruntime.cli.invoke.target import Target
from isoruntime.contract.headers import encode_context
from isoruntime.errors import (
    DeadlineExceeded,
    HandlerNotLoaded,
    HandlerRaised,
    MemoryLimitExceeded,
    RuntimeFault,
    Verdict,
    WorkerDied,
)
from isoruntime.settings import DECLARED
from isoruntime.worker.context import Context

#: What `Context.to_json` writes, with a value of its own everywhere.
CONTEXT = {
    "requestId": "rid",
    "credentials": {
        "accessKeyId": "id",
        "accessKeySecret": "secret",
        "securityToken": "token",
    },
    "function": {"name": "f", "handler": "a.b", "memory": 128, "timeout": 9},
    "service": {
        "name": "s",
        "logProject": "p",
        "logStore": "ls",
        "qualifier": "q",
        "versionId": "v",
    },
    "region": "r",
    "accountId": "42",
    "retryCount": 2,
    "tracing": {
        "openTracingSpanContext": "span",
        "openTracingSpanBaggages": {"k": "v"},
        "jaegerEndpoint": "http://j",
    },
}


def context_from(text: str) -> Context:
    """Return the context that a handler would get."""
    found = headers_of([], text, is_remote=False)
    upper = {name.upper().replace("-", "_"): value for name, value in found.items()}
    request_id = found.get("x-fc-request-id", "").encode()
    return Context(b"%b\n-1\n%b" % (request_id, encode_context(upper)), 0)


def test_what_a_context_says_of_itself_makes_the_same_context() -> None:
    assert json.loads(context_from(json.dumps(CONTEXT)).to_json()) == CONTEXT


def test_fields_go_by_the_names_a_handler_reads_as_well() -> None:
    context = context_from(
        '{"request_id": "rid", "log_project": "p", "credentials": {"access_key_id": "k"},'
        ' "function": {"version_id": "3", "qualifier": "q"}}'
    )
    assert context.request_id == "rid"
    assert context.log_project == "p"
    assert context.credentials.access_key_id == "k"
    assert (context.function.version_id, context.function.qualifier) == ("3", "q")


def test_a_header_wins_over_a_field() -> None:
    found = headers_of(["x-fc-region=b"], '{"region": "a"}', is_remote=False)
    assert found == {"x-fc-region": "b"}


def test_other_headers_are_for_others() -> None:
    assert headers_of(["A=b=c"], None, is_remote=True) == {"a": "b=c"}
    assert headers_of(["A: b=c"], None, is_remote=True) == {"a": "b=c"}
    with pytest.raises(BadFields, match="does not reach a handler"):
        headers_of(["a=b"], None, is_remote=False)


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        ("{", "is not JSON"),
        ("[]", "is no JSON object"),
        ('{"regoin": "x"}', "did you mean region?"),
        ('{"function": {"nme": "x"}}', "did you mean function.name?"),
        ('{"function": "x"}', "has function, which is no field of context"),
        ('{"qqqq": "x"}', "the fields are request_id, region"),
        ('{"region": ["x"]}', "is neither text nor a whole number"),
        ('{"region": true}', "is neither text nor a whole number"),
    ],
)
def test_what_is_no_context_is_told(context: str, problem: str) -> None:
    with pytest.raises(BadFields) as caught:
        headers_of([], context, is_remote=False)
    assert len(caught.value.problems) == 1
    assert problem in caught.value.problems[0]


def test_every_bad_header_is_told() -> None:
    with pytest.raises(BadFields) as caught:
        headers_of(["novalue", None, "x-fc-region=a\nb"], None, is_remote=False)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("url", "called"),
    [
        ("localhost:9000", "http://localhost:9000/invoke"),
        ("http://h/", "http://h/invoke"),
        ("http://h:1/invoke", "http://h:1/invoke"),
        ("http://h/2023-03-30/functions/f/invocations?qualifier=1", None),
        ("https://h/2016-08-15/services/s/functions/f/invocations", None),
    ],
)
def test_a_target_is_called_where_it_takes_events(url: str, called: str | None) -> None:
    target = Target(url, is_async=False, timeout_s=None)
    assert target.url == (called or url)
    assert target.is_gateway == (called is None)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://h", "is no ftp URL"),
        ("http://", "names no host"),
        ("h:port", "has a port that is none"),
        ("http://h/else", "leads to /else"),
    ],
)
def test_a_target_that_cannot_be_one_is_told(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Target(url, is_async=False, timeout_s=None)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (b"", 0),
        (HandlerRaised("ProcessExitedError", b"{}"), 1),
        (HandlerNotLoaded("ImportModuleError", b"{}"), 1),
        (RuntimeFault("ours"), 1),
        (WorkerDied(Verdict("exit")), 3),
        (DeadlineExceeded(Verdict("timeout")), 4),
        (MemoryLimitExceeded(Verdict("out-of-memory")), 5),
    ],
    ids=repr,
)
def test_an_outcome_has_its_exit_code(outcome: object, code: int) -> None:
    assert exit_code_of(outcome) == code  # type: ignore[arg-type]


def test_every_key_of_the_json_is_documented(capfdbinary: Any) -> None:
    Report(as_json=True, repeat=2).tell(Result("r", b"x"))
    told = json.loads(capfdbinary.readouterr().out)
    page = (Path(__file__).parents[2] / "docs" / "invoke.md").read_text()
    table = page[page.index("| key |") : page.index("## Event")]
    keys = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.M)))
    assert keys == list(told)


def test_time_is_billed_by_the_millisecond_begun() -> None:
    assert Result("r", b"", duration_ms=18.42).billed_ms == 19
    assert Result("r", b"", duration_ms=19.0).billed_ms == 19
    assert Result("r", b"", duration_ms=0.2).billed_ms == 1


def test_percentiles_are_values_that_were_measured() -> None:
    durations = [float(number) for number in range(100, 0, -1)]
    count, line = latencies(durations, {"ValueError": 2, "ProcessExitedError": 1})
    assert count == "100 invocations, 3 failed (2 ValueError, 1 ProcessExitedError)"
    assert line == (
        "Duration: min 1.00 ms  p50 50.00 ms  p90 90.00 ms  p99 99.00 ms  max 100.00 ms"
    )
    assert latencies([2.0], {})[1].count("2.00 ms") == 5


def test_every_setting_that_one_worker_can_use_is_taken() -> None:
    taken = {setting.name for setting in TAKEN}
    assert {"timeout_s", "memory_mb", "sandbox", "code_dir", "env", "command"} <= taken
    assert {"host", "port", "max_workers", "reload", "upstream"}.isdisjoint(taken)
    assert {setting.flag for setting in TAKEN}.isdisjoint(
        flag for option in OWN for flag in option.flags
    )
    assert taken <= {setting.name for setting in DECLARED}


def test_baggages_go_as_the_platform_sends_them() -> None:
    text = '{"tracing": {"span_baggages": {"k": 1}}}'
    found = headers_of([], text, is_remote=False)
    (encoded,) = found.values()
    assert json.loads(base64.b64decode(encoded)) == {"k": 1}
