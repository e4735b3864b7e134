"""`context`: the attributes and texts of fc-contract.md 4.2."""

from __future__ import annotations

import base64
import copy
import json
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from isoruntime.contract.headers import CONTEXT_HEADERS, encode_context
from isoruntime.worker import context as context_module
from isoruntime.worker.context import Context

if TYPE_CHECKING:
    from types import FrameType

SENT = {
    "X_FC_ACCESS_KEY_ID": "STS.key",
    "X_FC_ACCESS_KEY_SECRET": "hidden secret",
    "X_FC_SECURITY_TOKEN": "hidden token",
    "X_FC_ACCOUNT_ID": "123456789",
    "X_FC_REGION": "cn-shenzhen",
    "X_FC_QUALIFIER": "LATEST",
    "X_FC_VERSION_ID": "7",
    "X_FC_FUNCTION_NAME": "hello",
    "X_FC_FUNCTION_HANDLER": "index.handler",
    "X_FC_FUNCTION_MEMORY": "1024",
    "X_FC_FUNCTION_TIMEOUT": "30",
    "X_FC_FUNCTION_INITIALIZER": "index.init",
    "X_FC_INITIALIZATION_TIMEOUT": "20",
    "X_FC_SERVICE_NAME": "service",
    "X_FC_SERVICE_LOGPROJECT": "project",
    "X_FC_SERVICE_LOGSTORE": "store",
    "X_FC_RETRY_COUNT": "2",
    "X_FC_TRACING_OPENTRACING_SPAN_CONTEXT": "5f22:57:0:1",
    "X_FC_TRACING_OPENTRACING_SPAN_BAGGAGES": base64.b64encode(b'{"k": "v"}').decode(),
    "X_FC_TRACING_JAEGER_ENDPOINT": "http://jaeger:14268",
}


def meta_of(
    sent: dict[str, str], request_id: str = "1-2-3", left_ms: int = -1
) -> bytes:
    """Return what the front end sends along with a request."""
    return b"%b\n%d\n%b" % (request_id.encode(), left_ms, encode_context(sent))


def context_of(sent: dict[str, str]) -> Context:
    return Context(meta_of(sent), 0)


@pytest.fixture
def full() -> Context:
    return context_of(SENT)


@pytest.fixture
def bare() -> Context:
    return context_of({})


def test_these_headers_are_all_there_are() -> None:
    assert SENT.keys() == set(CONTEXT_HEADERS)


def test_every_header_has_its_attributes(full: Context) -> None:
    assert full.request_id == full.requestId == "1-2-3"
    keys = full.credentials
    assert keys.access_key_id == keys.accessKeyId == "STS.key"
    assert keys.access_key_secret == keys.accessKeySecret == "hidden secret"
    assert keys.security_token == keys.securityToken == "hidden token"
    assert vars(full.function) == {
        "name": "hello",
        "handler": "index.handler",
        "memory": 1024,
        "timeout": 30,
        "version_id": "7",
        "qualifier": "LATEST",
        "initializer": "index.init",
        "initialization_timeout": 20,
    }
    assert vars(full.service) == {
        "name": "service",
        "log_project": "project",
        "log_store": "store",
        "qualifier": "LATEST",
        "version_id": "7",
    }
    assert vars(full.tracing) == {
        "span_context": "5f22:57:0:1",
        "span_baggages": {"k": "v"},
        "jaeger_endpoint": "http://jaeger:14268",
    }
    assert (full.region, full.account_id) == ("cn-shenzhen", "123456789")
    assert (full.log_project, full.log_store) == ("project", "store")
    assert full.retry_count == 2


def test_vars_of_a_context_are_the_built_in_runtime_s_and_the_newer_one_s(
    full: Context,
) -> None:
    assert vars(full).keys() == {
        "account_id",
        "credentials",
        "function",
        "logger",
        "region",
        "requestId",
        "request_id",
        "retry_count",
        "service",
        "tracing",
        "log_project",
        "log_store",
    }


def test_without_headers_every_attribute_is_there(bare: Context, full: Context) -> None:
    assert vars(bare).keys() == vars(full).keys()
    assert vars(bare.credentials) == dict.fromkeys(vars(full.credentials), "")
    assert vars(bare.service) == dict.fromkeys(vars(full.service), "")
    assert vars(bare.tracing) == dict.fromkeys(vars(full.tracing))
    assert (bare.region, bare.account_id, bare.retry_count) == ("", "", 0)
    assert (bare.function.memory, bare.function.timeout) == (512, 3)
    assert bare.function.initialization_timeout == 0


@pytest.mark.parametrize("value", ["", "x", "1.5", "-1", "0x10", "\xb2", "9" * 5000])
def test_a_number_that_is_none_has_its_default(value: str) -> None:
    context = context_of(
        {
            "X_FC_FUNCTION_MEMORY": value,
            "X_FC_FUNCTION_TIMEOUT": value,
            "X_FC_INITIALIZATION_TIMEOUT": value,
            "X_FC_RETRY_COUNT": value,
        }
    )
    assert context.function.memory == 512
    assert context.function.timeout == 3
    assert context.function.initialization_timeout == 0
    assert context.retry_count == 0


@pytest.mark.parametrize(
    "baggage",
    [
        "not base64!",
        "abc",
        "\xe9",
        base64.b64encode(b"not json").decode(),
        base64.b64encode(b"\xff\xfe").decode(),
        base64.b64encode(b"[1]").decode(),
        base64.b64encode(b"null").decode(),
        base64.b64encode(b"[" * 100_000).decode(),
    ],
)
def test_broken_baggage_is_no_baggage(baggage: str) -> None:
    sent = {"X_FC_TRACING_OPENTRACING_SPAN_BAGGAGES": baggage}
    assert context_of(sent).tracing.span_baggages == {}


def test_broken_baggage_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    context = context_of({"X_FC_TRACING_OPENTRACING_SPAN_BAGGAGES": "abc"})
    assert context.tracing.span_baggages == {}
    assert "unreadable baggage" in caplog.text


def test_to_json_has_the_built_in_runtime_s_keys(full: Context) -> None:
    assert json.loads(full.to_json()) == {
        "requestId": "1-2-3",
        "credentials": {
            "accessKeyId": "STS.key",
            "accessKeySecret": "hidden secret",
            "securityToken": "hidden token",
        },
        "function": {
            "name": "hello",
            "handler": "index.handler",
            "memory": 1024,
            "timeout": 30,
        },
        "service": {
            "name": "service",
            "logProject": "project",
            "logStore": "store",
            "qualifier": "LATEST",
            "versionId": "7",
        },
        "region": "cn-shenzhen",
        "accountId": "123456789",
        "retryCount": 2,
        "tracing": {
            "openTracingSpanContext": "5f22:57:0:1",
            "openTracingSpanBaggages": {"k": "v"},
            "jaegerEndpoint": "http://jaeger:14268",
        },
    }


def test_to_json_of_a_bare_context_has_null_where_there_is_no_trace(
    bare: Context,
) -> None:
    assert json.loads(bare.to_json())["tracing"] == {
        "openTracingSpanContext": None,
        "openTracingSpanBaggages": None,
        "jaegerEndpoint": None,
    }


def test_the_logger_is_the_one_whose_records_are_formatted(bare: Context) -> None:
    assert bare.getLogger() is bare.logger is logging.getLogger()


def test_remaining_time_falls_and_is_never_negative() -> None:
    now = 100.0
    context = Context(meta_of({}, left_ms=3500), now, clock=lambda: now)
    assert context.get_remaining_time_in_millis() == 3500
    now = 103.4999
    assert context.get_remaining_time_in_millis() == 0
    now = 1000.0
    assert context.get_remaining_time_in_millis() == 0


def test_without_a_deadline_a_day_remains(bare: Context) -> None:
    assert bare.get_remaining_time_in_millis() == 86_400_000


def test_no_repr_shows_an_id_or_a_key(full: Context) -> None:
    parts = (full, full.credentials, full.function, full.service, full.tracing)
    shown = " ".join(f"{part!r} {part}" for part in parts)
    assert "hello" in shown
    for secret in ("STS.key", "hidden", "123456789", "1-2-3", "5f22"):
        assert secret not in shown


def test_what_one_invocation_changes_the_next_does_not_see() -> None:
    first: Any = Context(meta_of(SENT, "first"), 0)
    first.credentials.access_key_id = "changed"
    first.function.memory = 0
    first.service.name = "changed"
    first.tracing.span_baggages["more"] = "items"
    first.tracing.span_context = "changed"
    first.region = first.extra = "changed"
    second = Context(meta_of(SENT, "second"), 0)
    # In other bytes, which nobody has read yet.
    untouched = Context(meta_of(SENT, "second").replace(b"{", b"{ ", 1), 0)
    assert second.to_json() == untouched.to_json()
    assert not hasattr(second, "extra")


def test_other_fields_make_another_context() -> None:
    first, second = context_of(SENT), context_of({"X_FC_REGION": "cn-beijing"})
    assert second.region == "cn-beijing"
    assert second.credentials.access_key_id == ""
    assert first.region == "cn-shenzhen"


def test_a_context_can_be_copied(full: Context) -> None:
    assert copy.copy(full).to_json() == full.to_json()
    assert copy.deepcopy(full).get_remaining_time_in_millis() == 86_400_000


def test_what_a_handler_sets_or_deletes_first_stays_so(full: Context) -> None:
    full.request_id = "mine"
    del full.credentials
    assert full.request_id == "mine"
    assert full.requestId == "1-2-3"
    assert not hasattr(full, "credentials")
    assert "credentials" not in vars(full)


def test_threads_that_look_at_the_same_time_see_the_same() -> None:
    contexts = [context_of(SENT | {"X_FC_REGION": str(at)}) for at in range(200)]
    together = threading.Barrier(4)

    def look(_: int) -> list[tuple[object, str]]:
        together.wait()
        return [(context.credentials, context.region) for context in contexts]

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            seen = list(threads.map(look, range(4)))
    finally:
        sys.setswitchinterval(usual)
    for at, context in enumerate(contexts):
        assert {id(one[at][0]) for one in seen} == {id(context.credentials)}
        assert {one[at][1] for one in seen} == {str(at)}


def test_another_context_looked_at_between_any_two_lines_changes_nothing() -> None:
    # A thread that an earlier invocation left behind looks at its own context whenever it
    # likes: here, between any two lines of the code that reads the other one.
    others = (context_of(SENT | {"X_FC_REGION": f"other-{at}"}) for at in count())
    interruptions = 0

    def interrupt(frame: FrameType, event: str, _: object) -> object:
        nonlocal interruptions
        if frame.f_code.co_filename != context_module.__file__:
            return None
        if event == "line":
            interruptions += 1
            assert next(others).region.startswith("other-")
        return interrupt

    context = context_of(SENT | {"X_FC_REGION": "mine"})
    usual = sys.gettrace()
    sys.settrace(interrupt)
    try:
        region = context.region
    finally:
        sys.settrace(usual)
    assert interruptions > 20
    assert region == "mine"
