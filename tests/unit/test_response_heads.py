"""Requests and heads of responses between the front end and functions that speak HTTP.

A head is judged twice: where the function can be blamed for it, and where it is sent.
"""

from __future__ import annotations

import json
import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoruntime.contract import http
from isoruntime.contract.http import (
    MAX_HEAD_BYTES,
    Request,
    Response,
    ResponseHead,
    ResponseHeads,
    encode_head,
    fields_of,
    header_name,
)

TOKEN = st.text(
    st.sampled_from(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"),
    min_size=1,
    max_size=40,
)
VALUE = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF).filter(
        lambda char: not 0x7F <= ord(char) < 0x80
    ),
    max_size=60,
)


def read(meta: bytes) -> ResponseHead:
    return ResponseHeads().read(meta)


def head_of(*headers: tuple[str, str], status: int = 200) -> ResponseHead:
    return read(encode_head(status, "OK", headers, with_length=True))


def raw(status: Any = 200, reason: Any = "OK", headers: Any = ()) -> bytes:
    """Return what a worker may send that is not ours any more."""
    return json.dumps((status, reason, headers)).encode()


REQUEST = Request.with_headers(
    {"HOST": "h", "X_SNOW": "\xe4: b"},
    0,
    method="PUT",
    target="/a%20b?c=d",
    path="/a\nb",
    query="c=d",
    scheme="https",
    client="192.0.2.1",
    may_stream=True,
)


def test_a_request_arrives_as_it_was() -> None:
    assert Request.decode(REQUEST.encode()) == REQUEST
    assert REQUEST.headers() == {
        "HOST": "h",
        "X_SNOW": "\xe4: b",
        "CONTENT_LENGTH": "0",
    }


@given(
    st.dictionaries(
        st.from_regex(r"X_[A-Z0-9_]{1,20}", fullmatch=True), VALUE, max_size=8
    )
)
def test_headers_of_a_request_arrive_as_they_were(headers: dict[str, str]) -> None:
    request = Request("GET", "/", "/", "", "http", "", True, fields_of(headers, None))
    assert request.headers() == headers


@pytest.mark.parametrize(
    ("method", "body_bytes", "given", "length"),
    [
        ("GET", 0, {}, None),
        ("GET", 0, {"CONTENT_LENGTH": "0"}, "0"),
        ("GET", 3, {}, "3"),
        ("POST", 0, {}, "0"),
        # A hook's body is not passed on; what said how long it was is not either.
        ("POST", 0, {"CONTENT_LENGTH": "7"}, "0"),
    ],
)
def test_a_request_says_how_long_its_body_is_for_us(
    method: str, body_bytes: int, given: dict[str, str], length: str | None
) -> None:
    request = Request.with_headers(
        given, body_bytes, method=method, target="/", path="/"
    )
    assert request.headers().get("CONTENT_LENGTH") == length


def test_names_that_nobody_has_seen_are_not_all_kept() -> None:
    for number in range(1000):
        line = b"X-%d: x\r\n" % number
        assert fields_of({f"X_{number}": "x"}, None) == line
    long = "L" * 10_000
    assert fields_of({long: "x"}, None) == f"{long.title()}: x\r\n".encode()
    assert long not in http._beginnings
    assert len(http._beginnings) < 300


def test_a_value_of_several_lines_adds_no_header() -> None:
    fields = fields_of({"X_A": "b\r\nX-C: d", "X_E": "f\ng"}, None)
    assert fields == b"X-A: b X-C: d\r\nX-E: f g\r\n"


def test_a_value_that_latin_1_cannot_say_is_sent_as_utf_8() -> None:
    fields = fields_of({"X_A": "\xe4", "X_B": "\u96ea"}, None)
    assert fields == b"X-A: \xe4\r\nX-B: \xe9\x9b\xaa\r\n"


@given(st.lists(st.tuples(TOKEN, VALUE), max_size=8), st.integers(200, 999))
def test_what_one_side_encodes_the_other_reads(
    headers: list[tuple[str, str]], status: int
) -> None:
    head = head_of(*headers, status=status)
    assert head.status == status
    others = {name for name, _ in head.headers}
    for name, value in head.headers:
        assert (name, value) in headers
    for name, _ in headers:
        lowered = name.lower()
        is_ours = lowered.startswith("x-fc-") or lowered in {
            *("connection", "keep-alive", "te", "trailer", "upgrade", "date"),
            *("content-length", "content-type", "transfer-encoding"),
            *("proxy-authenticate", "proxy-authorization", "proxy-connection"),
        }
        assert is_ours or name in others


def test_what_is_not_a_function_s_to_say_is_left_out() -> None:
    head = head_of(
        ("Connection", "close"),
        ("Transfer-Encoding", "chunked"),
        ("Date", "today"),
        ("X-Fc-Request-Id", "another"),
        ("X-Kept", "1"),
        ("X-Kept", "2"),
    )
    assert head.headers == (("X-Kept", "1"), ("X-Kept", "2"))


def test_type_length_and_status_are_read_out_of_the_headers() -> None:
    head = head_of(
        ("content-TYPE", "text/plain"), ("content-length", "12"), ("X-Fc-Status", "404")
    )
    assert head.headers == ()
    assert (head.content_type, head.length, head.fc_status) == ("text/plain", 12, "404")


@pytest.mark.parametrize("length", ["-1", "+1", "1e3", "one", "", " 1", "\xb2"])
def test_a_length_that_is_no_number_is_none(length: str) -> None:
    assert read(raw(headers=[["Content-Length", length]])).length == -1


def test_the_length_is_left_to_whoever_sends_the_body() -> None:
    length = [("Content-Length", "12")]
    assert read(encode_head(200, "OK", length, with_length=False)).length == -1
    assert read(encode_head(200, "OK", length, with_length=True)).length == 12


@pytest.mark.parametrize(
    ("status", "reason", "headers", "named"),
    [
        pytest.param(100, "", (), "100", id="a status that is not final"),
        pytest.param(1000, "", (), "1000", id="a status beyond all"),
        pytest.param(200, "a\r\nb", (), "reason", id="a phrase of two lines"),
        pytest.param(200, "", (("a b", "c"),), "'a b'", id="a name of two words"),
        pytest.param(200, "", (("", "c"),), "''", id="no name"),
        pytest.param(200, "", (("a:", "c"),), "'a:'", id="a colon in a name"),
        pytest.param(200, "", (("ä", "c"),), "'ä'", id="a name beyond ASCII"),
        pytest.param(200, "", (("a", "b\r\nc: d"),), "a has", id="a line break"),
        pytest.param(200, "", (("a", "b\0"),), "a has", id="a null"),
        pytest.param(200, "", (("a", "☃"),), "a has", id="a value beyond latin-1"),
        pytest.param(200, "", (("a", 1),), "a has", id="a value that is a number"),
        pytest.param(200, "", ((b"a", "b"),), "b'a'", id="a name of bytes"),
        pytest.param(
            *(200, "", (("a", "b" * MAX_HEAD_BYTES),), str(MAX_HEAD_BYTES)),
            id="more than may be",
        ),
    ],
)
def test_a_function_is_told_what_is_wrong_with_its_head(
    status: int, reason: str, headers: Any, named: str
) -> None:
    for _ in range(2):  # the second time it might be known
        with pytest.raises(ValueError, match=re.escape(named)):
            encode_head(status, reason, headers, with_length=True)


def test_pairs_may_be_lists() -> None:
    pairs: Any = [["A", "b"]]
    for _ in range(2):
        assert read(encode_head(200, "", pairs, with_length=True)).headers == (
            ("A", "b"),
        )


def test_heads_that_differ_in_little_are_not_taken_for_one_another() -> None:
    heads = {
        encode_head(*head, with_length=with_length)
        for head in (
            (200, "OK", (("Content-Length", "1"),)),
            (201, "OK", (("Content-Length", "1"),)),
            (200, "Ok", (("Content-Length", "1"),)),
            (200, "OK", (("Content-Length", "2"),)),
            (200, "OK", (("Content-Length", "1"), ("A", "b"))),
        )
        for with_length in (True, False)
    }
    # Without their length, the first and the fourth are the same.
    assert len(heads) == 9


def test_of_many_different_heads_not_all_are_kept() -> None:
    heads = ResponseHeads()
    for number in range(1000):
        meta = encode_head(200, "OK", [("A", str(number))], with_length=True)
        assert heads.read(meta).headers == (("A", str(number)),)
    assert len(heads._known) <= 256


@pytest.mark.parametrize(
    "meta",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{}", id="no array"),
        pytest.param(b"[200,", id="half of one"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(b"[" * 100_000, id="a deep one"),
        pytest.param(b'[200,"OK"]', id="too short an array"),
        pytest.param(raw(status="200"), id="a status that is text"),
        pytest.param(raw(status=True), id="a status that is true"),
        pytest.param(raw(status=200.0), id="a status that is a fraction"),
        pytest.param(raw(status=100), id="a status that is not final"),
        pytest.param(raw(status=10**40), id="a status beyond all"),
        pytest.param(raw(reason=None), id="no phrase"),
        pytest.param(raw(reason="a\r\nSet-Cookie: b"), id="a phrase of two lines"),
        pytest.param(raw(headers={"a": "b"}), id="headers that are an object"),
        pytest.param(raw(headers=["ab"]), id="a header that is text"),
        pytest.param(raw(headers=[["a"]]), id="half a header"),
        pytest.param(raw(headers=[["a", "b\r\nc: d"]]), id="a header of two lines"),
        pytest.param(raw(headers=[["a", None]]), id="a header without a value"),
        pytest.param(raw(headers=[["a\n", "b"]]), id="a name of two lines"),
        pytest.param(
            raw(headers=[["a", "b" * 1000]] * 200), id="more headers than may be"
        ),
        pytest.param(
            raw(headers=[["Content-Length", "9" * 5000]]),
            id="a length with more digits than Python reads",
        ),
    ],
)
def test_a_head_that_is_none_is_refused_whoever_sends_it(meta: bytes) -> None:
    heads = ResponseHeads()
    for _ in range(2):
        with pytest.raises((ValueError, RecursionError)):
            heads.read(meta)


@pytest.mark.parametrize(
    ("status", "fc_status", "is_failure"),
    [
        (200, "", False),
        (399, "", False),
        (400, "", True),
        (500, "200", False),
        (200, "404", True),
        (500, "500", True),
    ],
)
def test_whether_an_event_failed_is_the_function_s_to_say(
    status: int, fc_status: str, is_failure: bool
) -> None:
    head = head_of(("X-Fc-Status", fc_status), status=status)
    assert Response(head).is_failure is is_failure


def test_the_platform_refuses_what_elsewhere_passes() -> None:
    head = head_of(
        ("Server", "mine"),
        ("Content-Disposition", "Attachment; filename=a"),
        ("Content-Disposition", "inline"),
    )
    assert len(head.headers_for(on_platform=False)) == 3
    assert head.headers_for(on_platform=True) == [("Content-Disposition", "inline")]


def test_what_concerns_one_connection_is_not_passed_on_to_another_server() -> None:
    names = (
        "HOST",
        "CONNECTION",
        "TRANSFER_ENCODING",
        "CONTENT_LENGTH",
        "EXPECT",
        "TE",
    )
    for _ in ("unknown", "known"):
        assert fields_of(dict.fromkeys(names, "x"), None) == b"Host: x\r\n"
    assert header_name("X_FC_REQUEST_ID") == "X-Fc-Request-Id"
