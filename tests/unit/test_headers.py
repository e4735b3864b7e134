"""What is read from `x-fc-*` headers: fc-contract.md 1.2."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoruntime.contract import headers
from isoruntime.contract.headers import (
    CONTEXT_HEADERS,
    control_path,
    encode_context,
    function_timeout_s,
    initialization_timeout_s,
    request_id,
)


@pytest.mark.parametrize(
    "given_id",
    [
        "1-67a59f35-150c1267-f381ba1c085c",
        "8ef3a1b2-4b1c-4f2e-9a51-6d9f0c3f0a11",
        "x",
        "~!",
        "r" * 256,
    ],
)
def test_the_caller_s_request_id_is_kept(given_id: str) -> None:
    assert request_id({"X_FC_REQUEST_ID": given_id}) == given_id


@pytest.mark.parametrize(
    "refused",
    [
        "",
        " ",
        "two words",
        "line\nbreak",
        "trailing\n",
        "tab\t",
        "nul\0",
        "caf\xe9",
        "r" * 257,
        "a, b",
    ],
)
def test_a_request_id_that_could_spoil_a_line_is_replaced(refused: str) -> None:
    made = request_id({"X_FC_REQUEST_ID": refused})
    assert re.fullmatch(r"1-[0-9a-f]{8}-[0-9a-f]{24}", made)


def test_new_request_ids_differ() -> None:
    assert len({request_id({}) for _ in range(1000)}) == 1000


def test_context_headers_are_keyed_by_their_short_names() -> None:
    sent = {name: f"value of {name}" for name in CONTEXT_HEADERS}
    fields = json.loads(encode_context(sent))
    assert len(fields) == len(CONTEXT_HEADERS)
    assert fields["access-key-id"] == "value of X_FC_ACCESS_KEY_ID"
    assert fields["service-logproject"] == "value of X_FC_SERVICE_LOGPROJECT"
    assert (
        fields["tracing-opentracing-span-baggages"]
        == "value of X_FC_TRACING_OPENTRACING_SPAN_BAGGAGES"
    )


def test_an_empty_header_is_the_same_as_none() -> None:
    empty = dict.fromkeys(CONTEXT_HEADERS, "")
    assert encode_context(empty) == encode_context({}) == b"{}"


def test_only_context_headers_reach_the_context() -> None:
    sent = {
        "X_FC_REQUEST_ID": "id",
        "X_FC_CONTROL_PATH": "/invoke",
        "X_FC_REGION": "cn-hangzhou",
        "AUTHORIZATION": "secret",
    }
    assert encode_context(sent) == b'{"region":"cn-hangzhou"}'


@given(
    st.dictionaries(
        st.sampled_from(CONTEXT_HEADERS),
        st.text(st.characters(max_codepoint=255), max_size=20),
    )
)
def test_the_encoding_is_one_line_that_holds_every_value(sent: dict[str, str]) -> None:
    encoded = encode_context(sent)
    assert b"\n" not in encoded
    assert sorted(json.loads(encoded).values()) == sorted(filter(None, sent.values()))
    assert encode_context(dict(sent)) == encoded


def test_values_that_repeat_are_encoded_once() -> None:
    sent = {"X_FC_FUNCTION_NAME": "repeats"}
    assert encode_context(sent) is encode_context(dict(sent))


def test_the_cache_is_bounded_in_number_and_in_size() -> None:
    for number in range(1000):
        encode_context({"X_FC_ACCOUNT_ID": str(number)})
    assert len(headers._cache) <= headers._MAX_CACHED
    huge = {"X_FC_SECURITY_TOKEN": "t" * 100_000}
    assert json.loads(encode_context(huge)) == {"security-token": "t" * 100_000}
    assert max(map(len, headers._cache.values())) <= headers._MAX_CACHED_BYTES
    assert encode_context(huge) is not encode_context(huge)


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("86400", 86400.0), ("1e2", 100.0)],
)
def test_a_timeout_is_a_positive_number_of_seconds(sent: str, seconds: float) -> None:
    assert function_timeout_s({"X_FC_FUNCTION_TIMEOUT": sent}) == seconds
    assert initialization_timeout_s({"X_FC_INITIALIZATION_TIMEOUT": sent}) == seconds


@pytest.mark.parametrize(
    "sent",
    ["", " ", "0", "-0.0", "-1", "nan", "inf", "-inf", "1e999", "3s", "1_0", "\xb2"],
)
def test_what_is_no_timeout_is_none(sent: str) -> None:
    assert function_timeout_s({"X_FC_FUNCTION_TIMEOUT": sent}) is None
    assert initialization_timeout_s({"X_FC_INITIALIZATION_TIMEOUT": sent}) is None


def test_absent_timeouts_and_control_paths_are_none_and_empty() -> None:
    assert function_timeout_s({}) is None
    assert initialization_timeout_s({}) is None
    assert control_path({}) == ""
    assert control_path({"X_FC_CONTROL_PATH": "/http-invoke"}) == "/http-invoke"
