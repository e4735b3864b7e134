"""A head whose lines are known is read exactly as waitress reads it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from waitress.adjustments import Adjustments

from isoruntime.contract.headers import CONTEXT_HEADERS
from isoruntime.frontend import heads
from isoruntime.frontend.http import Parser

FIRST_LINES = [
    b"POST /invoke HTTP/1.1",
    b"GET /a%20b?x=1#y HTTP/1.1",
    b"GET //twice HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"GET http://host:80/path HTTP/1.1",
    b"POST /invoke HTTP/1.0",
    b"POST /invoke",
    b"post /invoke HTTP/1.1",
    b"POST /in voke HTTP/1.1",
    b"",
]
LINES = [
    b"Host: here",
    b"host:there",
    b"x-fc-request-id: 1-2",
    b"X-Fc-Request-Id:\t1-3 \t",
    b"x_fc_request_id: forged",
    b"Content-Length: 3",
    b"Content-Length: 0",
    b"Content-Length: 00003",
    b"Content-Length: +3",
    b"Content-Length: 3, 3",
    b"Content-Length: \xb2",
    b"Content-Length: " + b"9" * 30,
    b"Content-Length: " + b"9" * 5000,
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Expect: 100-continue",
    b"Connection: close",
    b"Connection: Keep-Alive",
    b"Connection: CLOSE",
    b"Empty:",
    b"Empty: ",
    b"Latin: \xe9\xff",
    b"Nothing",
    b": nothing",
    b"Two Words: x",
    b" folded",
    b"\tfolded",
    b"Bare: \n x",
    b"Bare: \r x",
    b"Control: \x01",
    b"Long: " + b"x" * 5000,
    # Here a head ends, whatever comes behind.
    b"",
]

SEEN = (
    *("command", "path", "version", "headers", "content_length", "connection_close"),
    *("chunked", "expect_continue", "completed", "empty", "is_too_large"),
    *("request_uri", "query", "fragment", "proxy_scheme", "proxy_netloc"),
)


class Anew(Parser):
    """Takes every head apart anew."""

    def _parse_known(self, head: bytes) -> bool:
        return False


def adjustments() -> Adjustments:
    adjusted = Adjustments()
    adjusted.max_event_bytes = 1024
    return adjusted


def seen(parser: Parser, data: bytes) -> dict[str, Any]:
    while data and not parser.completed:
        data = data[parser.received(data) :]
    found = {name: getattr(parser, name, None) for name in SEEN}
    found["error"] = type(parser.error), getattr(parser.error, "body", "")
    found["event"] = None if parser.error else parser.event()
    found["rest"] = data
    return found


def seen_at_once(parser: Parser, data: bytes) -> dict[str, Any]:
    """Take in data as a connection does with the first that comes."""
    return seen(parser, b"" if parser.take_whole(data) else data)


@settings(phases=set(Phase) - {Phase.explain}, deadline=None, max_examples=400)
@given(
    first=st.sampled_from(FIRST_LINES),
    lines=st.lists(st.sampled_from(LINES), max_size=6),
    earlier=st.lists(st.sampled_from(LINES), max_size=6),
    changed=st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(LINES)), min_size=1, max_size=5
    ),
    body=st.sampled_from([b"", b"ab", b"abc", b"abcd", b"abcPOST /invoke HTTP/1.1"]),
)
def test_known_lines_mean_what_waitress_says(
    first: bytes,
    lines: list[bytes],
    earlier: list[bytes],
    changed: list[tuple[int, bytes]],
    body: bytes,
) -> None:
    later = list(lines)
    for at, line in changed:
        later[at : at + 1] = [line]
    for some in (earlier, lines, lines, later, lines):
        data = b"\r\n".join([first, *some, b"", body])
        expected = seen(Anew(adjustments()), data)
        assert seen(Parser(adjustments()), data) == expected
        assert seen_at_once(Parser(adjustments()), data) == expected


def request_of(body: bytes, *lines: bytes, length: int | None = None) -> bytes:
    told = b"Content-Length: %d" % (len(body) if length is None else length)
    return b"\r\n".join([b"POST /invoke HTTP/1.1", told, *lines, b"", body])


@pytest.mark.parametrize(
    ("data", "is_whole"),
    [
        pytest.param(request_of(b"abc"), True, id="usual"),
        pytest.param(request_of(b""), True, id="no body"),
        pytest.param(request_of(b"x" * 1024), True, id="as large as may be"),
        pytest.param(request_of(b"x" * 1025), False, id="too large"),
        pytest.param(request_of(b"ab", length=3), False, id="half a body"),
        pytest.param(request_of(b"abc") + request_of(b"d"), False, id="two"),
        pytest.param(request_of(b"abc")[:30], False, id="half a head"),
        pytest.param(b"\r\n" + request_of(b"abc"), False, id="an empty line first"),
        pytest.param(
            request_of(b"abc", b"x: " + b"y" * 300_000), False, id="a head too long"
        ),
        pytest.param(request_of(b"abc", b"Expect: 100-continue"), False, id="asks"),
    ],
)
def test_what_is_taken_at_once_is_all_of_one_usual_request(
    data: bytes, is_whole: bool
) -> None:
    seen(Parser(adjustments()), request_of(b"so that the first line is known"))
    assert Parser(adjustments()).take_whole(data) is is_whole
    expected = seen(Anew(adjustments()), data)
    assert seen_at_once(Parser(adjustments()), data) == expected


def test_a_usual_request_is_not_taken_apart_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def again(self: Parser, head: bytes) -> None:
        raise AssertionError(f"taken apart again: {head!r}")

    def data(number: int) -> bytes:
        return (
            b"POST /invoke HTTP/1.1\r\nHost: here\r\nConnection: keep-alive\r\n"
            b"x-fc-request-id: 1-%d\r\nContent-Length: 3\r\n\r\nabc" % number
        )

    seen(Parser(adjustments()), data(1))
    monkeypatch.setattr(Parser, "_parse_anew", again)
    found = seen(Parser(adjustments()), data(2))
    assert found["headers"]["X_FC_REQUEST_ID"] == "1-2"
    assert found["event"] == b"abc"


def test_a_head_that_came_before_its_body_is_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen(Parser(adjustments()), request_of(b"so that the first line is known"))
    read: list[bytes] = []
    original = heads.KnownLines.read

    def note(self: heads.KnownLines, head: bytes) -> Any:
        read.append(head)
        return original(self, head)

    monkeypatch.setattr(heads.KnownLines, "read", note)
    parser, data = Parser(adjustments()), request_of(b"abc")
    assert not parser.take_whole(data[:-3])
    parser.received(data[:-3])
    assert seen(parser, data[-3:])["event"] == b"abc"
    assert read == [data[:-3]]


FIRST = heads.FirstLine("GET", "/", "", "", "/", "", "")


def head_of(**headers: object) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(["GET / HTTP/1.1", *lines, "", ""]).encode()


def usual(number: int, **others: object) -> bytes:
    sent = {"host": "here", "x_fc_request_id": f"1-{number}", "x_fc_region": "a"}
    return head_of(**{**sent, "content_length": number, "accept": "*/*", **others})


def knowing(*seen: bytes) -> heads.KnownLines:
    known = heads.KnownLines()
    known.learn(b"GET / HTTP/1.1\r\n", FIRST)
    for head in seen:
        assert known.read(head) is not None
    return known


def test_only_lines_that_have_differed_are_looked_at() -> None:
    known = knowing(usual(1))
    (head,) = known._heads.values()
    assert head.start >= head.end
    known.read(usual(1, x_fc_request_id="1-2"))
    assert (head.start, head.end) == (2, 3)
    known.read(usual(3))
    # The region between the two belongs to it.
    assert (head.start, head.end) == (2, 5)
    for others in [{}, {"x_fc_region": "b"}, {"host": "there"}, {"accept": ""}]:
        found = known.read(usual(22, **others))
        assert found is not None
        assert found[1]["X_FC_REQUEST_ID"] == "1-22"
        expected = knowing().read(usual(22, **others))
        assert expected is not None
        assert found[1] == expected[1]
    assert known._heads == {(b"GET / HTTP/1.1", 7): head}


def test_notes_are_for_all_that_tells_the_same_of_the_function() -> None:
    def notes(number: int, **others: object) -> heads.Notes:
        found = known.read(usual(number, **others))
        assert found is not None
        return found[2]

    known = knowing()
    first = notes(1)
    first["context"] = "a's"
    assert notes(2) is notes(1) is first
    # Of other credentials there are others, also later on.
    renewed = notes(3, x_fc_region="b")
    assert renewed == {}
    assert notes(4, x_fc_region="b") is renewed
    assert notes(5) is first
    assert notes(6, x_fc_region="c", host="there") == {}
    (head,) = known._heads.values()
    for number in range(100):
        notes(number, x_fc_region=number)
    assert len(head.notes) <= heads._MAX_NOTES


def test_nothing_that_is_noted_depends_on_what_each_request_has_anew() -> None:
    assert not heads._OF_ONE_REQUEST & {*CONTEXT_HEADERS}


def test_what_is_kept_is_bounded() -> None:
    known = heads.KnownLines()
    first = FIRST
    for number in range(5000):
        head = b"GET /%d HTTP/1.1\r\nx-fc-request-id: %d\r\n" % (number, number)
        known.learn(head, first)
        assert known.read(head + b"\r\n") is not None
        long_line = b"x-%d: %b\r\n" % (number, b"y" * heads._MAX_LINE_BYTES)
        assert known.read(head + long_line + b"\r\n") is not None
    assert len(known._first) <= heads._MAX_FIRST_LINES
    assert len(known._pairs) <= heads._MAX_LINES
    assert len(known._heads) <= heads._MAX_FIRST_LINES
    assert {*known._usual.values()} <= {*known._heads.values()}
    assert max(map(len, known._pairs)) <= heads._MAX_LINE_BYTES
    many = [b"x-%d: %b" % (number, b"y" * 1000) for number in range(20)]
    long_head = b"\r\n".join([b"GET /4999 HTTP/1.1", *many, b"", b""])
    assert known.read(long_head) is not None
    sizes = [sum(map(len, head.lines)) for head in known._heads.values()]
    assert max(sizes) <= heads._MAX_HEAD_BYTES
