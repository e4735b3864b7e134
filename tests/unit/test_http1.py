"""Responses of servers: every way to cut them up, every way to get them wrong."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoruntime.worker import http1
from isoruntime.worker.http1 import Malformed, ResponseReader

OK = b"HTTP/1.1 200 OK\r\n"


class Read(NamedTuple):
    """What a reader made of some bytes."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    is_complete: bool
    keeps_alive: bool


def read(*pieces: bytes, method: str = "POST", closes: bool = False) -> Read:
    reader = ResponseReader(method)
    body = b"".join(map(reader.feed, pieces))
    if closes:
        reader.end()
    return Read(
        reader.status,
        reader.reason,
        reader.headers,
        body,
        reader.is_complete,
        reader.keeps_alive,
    )


def byte_by_byte(data: bytes) -> list[bytes]:
    return [bytes([one]) for one in data]


# How the end of a body is known.


def test_a_length_says_where_the_body_ends() -> None:
    found = read(OK + b"Content-Length: 5\r\nX-Mine:  yes \t\r\n\r\nhello")
    headers = (("Content-Length", "5"), ("X-Mine", "yes"))
    assert found == (200, "OK", headers, b"hello", True, True)


def test_a_length_that_is_said_twice_is_one() -> None:
    for twice in (b"2, 2", b"2\r\nContent-Length: 2"):
        found = read(OK + b"Content-Length: " + twice + b"\r\n\r\nok")
        assert (found.body, found.is_complete) == (b"ok", True)


def test_without_a_length_the_end_of_the_connection_is_the_end() -> None:
    assert not read(OK + b"\r\nhel", b"lo").is_complete
    found = read(OK + b"\r\nhel", b"lo", closes=True)
    assert (found.body, found.is_complete, found.keeps_alive) == (b"hello", True, False)


CHUNKED = OK + b"Transfer-Encoding: Chunked\r\n\r\n"


def test_chunks_may_have_extensions_and_trailers() -> None:
    data = (
        b'5;name="a value"\r\nhello\r\n00A ; x\r\n, everyone\r\n000\r\nX-Sum: 1\r\n\r\n'
    )
    for pieces in ([CHUNKED + data], byte_by_byte(CHUNKED + data)):
        found = read(*pieces)
        assert found.body == b"hello, everyone"
        assert (found.is_complete, found.keeps_alive) == (True, True)
        # A trailer is no header: nobody has judged it when the head is passed on.
        assert found.headers == (("Transfer-Encoding", "Chunked"),)


def test_chunks_count_more_than_a_length_which_is_forgotten() -> None:
    head = OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    found = read(head + b"5\r\nhello\r\n0\r\n\r\n")
    assert (found.body, found.is_complete) == (b"hello", True)
    assert found.headers == (("Transfer-Encoding", "chunked"),)


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)]
)
def test_some_answers_have_no_body_whatever_they_say(method: str, status: int) -> None:
    head = b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status
    for _ in ("unknown", "known"):
        found = read(head, method=method)
        assert (found.body, found.is_complete, found.keeps_alive) == (b"", True, True)
        # One is sent all the same: it must not become the next answer.
        found = read(head + b"hello", method=method)
        assert (found.body, found.keeps_alive) == (b"", False)


def test_an_interim_answer_is_none() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
    final = OK + b"Content-Length: 2\r\n\r\n"
    data = b"HTTP/1.1 100 Continue\r\n\r\n" + early + final + b"ok"
    expected = Read(200, "OK", (("Content-Length", "2"),), b"ok", True, True)
    assert read(*byte_by_byte(data)) == expected
    for cut in range(len(data)):
        assert read(data[:cut], data[cut:]) == expected


def test_an_interim_answer_that_is_known_is_none_either() -> None:
    interim = b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n"
    for _ in ("unknown", "known"):
        assert not read(interim).is_complete


def test_a_known_head_says_as_much_as_an_unknown_one() -> None:
    sent = OK + b"Content-Length: 4\r\nX-Known: once\r\n\r\n"
    first = read(sent + b"body")
    assert first.body == b"body"
    assert read(sent + b"body") == first
    assert read(sent + b"bo", b"dy") == first
    # Less than it said, and more.
    assert not read(sent + b"bod").is_complete
    longer = read(sent + b"body!")
    assert (longer.body, longer.keeps_alive) == (b"body", False)


def test_heads_that_are_all_different_are_not_all_kept() -> None:
    for number in range(1000):
        sent = OK + b"Content-Length: 1\r\nX-Number: %d\r\n\r\n1" % number
        assert read(sent).headers[1] == ("X-Number", str(number))
    assert len(http1._known) < 100


@pytest.mark.parametrize(
    ("head", "keeps_alive"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: x\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", True),
    ],
)
def test_the_server_says_whether_it_keeps_the_connection(
    head: bytes, keeps_alive: bool
) -> None:
    found = read(head + b"Content-Length: 0\r\n\r\n")
    assert (found.is_complete, found.keeps_alive) == (True, keeps_alive)


def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    found = read(OK + b"Content-Length: 2\r\n\r\nok" + OK)
    assert (found.body, found.is_complete, found.keeps_alive) == (b"ok", True, False)


# What is no answer.


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/2 200 OK\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 000 OK\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 2\xb20 OK\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "nobody asked for"),
        (OK + b"no colon\r\n\r\n", "no header"),
        (OK + b": no name\r\n\r\n", "no header"),
        (OK + b"X : a space before the colon\r\n\r\n", "no header"),
        (OK + b"X: folded\r\n onto a second line\r\n\r\n", "no header"),
        (OK + b"X: folded\r\n\tonto: a second line\r\n\r\n", "no header"),
        (OK + b"Content-Length: -1\r\n\r\n", "Content-Length"),
        (OK + b"Content-Length: +1\r\n\r\n", "Content-Length"),
        (OK + b"Content-Length: 0x1\r\n\r\n", "Content-Length"),
        (OK + b"Content-Length:\r\n\r\n", "Content-Length"),
        (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", "Content-Length"),
        (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "Content-Length"),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "transfer encoding"),
        (CHUNKED + b"\r\n", "a chunk has the size"),
        (CHUNKED + b"-1\r\n", "a chunk has the size"),
        (CHUNKED + b"0x5\r\n", "a chunk has the size"),
        (CHUNKED + b"1_0\r\n", "a chunk has the size"),
        (CHUNKED + b"5 5\r\n", "a chunk has the size"),
        (CHUNKED + b"xyz\r\n", "a chunk has the size"),
        (CHUNKED + b"2\r\nhello\r\n", "longer than it said"),
        (CHUNKED + b"1" * 5000, "no end"),
        (OK + b"X: " + b"y" * (256 * 1024), "no end"),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        read(data)
    with pytest.raises(Malformed, match=reason):
        read(*(data[at : at + 7] for at in range(0, len(data), 7)))


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"", "unanswered"),
        (b"HTTP/1.1 2", "in the middle of its answer"),
        (OK + b"Content-Length: 5\r\n\r\nhell", "in the middle of its answer"),
        (CHUNKED + b"5\r\nhello\r\n", "in the middle of its answer"),
        (CHUNKED + b"5\r\nhello\r\n0\r\n", "in the middle of its answer"),
    ],
)
def test_an_early_close_is_told_from_an_end(data: bytes, where: str) -> None:
    with pytest.raises(Malformed, match=where):
        read(*([data] if data else []), closes=True)


def test_a_close_after_the_end_is_fine() -> None:
    found = read(OK + b"Content-Length: 2\r\n\r\nok", closes=True)
    assert (found.is_complete, found.keeps_alive) == (True, False)


# Whatever it is, and however it is cut.

bodies = st.binary(max_size=300)


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, bytes, bool]:
    """Return an answer's bytes, its body, and whether only the close ends it."""
    framing = draw(st.sampled_from(["length", "chunks", "close"]))
    if framing == "chunks":
        chunks = draw(st.lists(st.binary(min_size=1, max_size=60), max_size=6))
        sent = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks)
        return CHUNKED + sent + b"0\r\n\r\n", b"".join(chunks), False
    body = draw(bodies)
    if framing == "length":
        return OK + b"content-length: %d\r\n\r\n" % len(body) + body, body, False
    return OK + b"\r\n" + body, body, True


@given(answers(), st.data())
def test_cuts_do_not_matter(
    answer: tuple[bytes, bytes, bool], data: st.DataObject
) -> None:
    sent, body, closes = answer
    places = st.sets(st.integers(1, len(sent) - 1), max_size=8)
    cuts = [0, *sorted(data.draw(places)), len(sent)]
    pieces = [sent[start:end] for start, end in pairwise(cuts)]
    found = read(*pieces, closes=closes)
    assert found == read(sent, closes=closes)
    assert (found.body, found.is_complete) == (body, True)
    assert found.keeps_alive is not closes


words = st.sampled_from(
    [
        *(
            b"HTTP/1.1",
            b" ",
            b"200",
            b"\r\n",
            b"\n",
            b":",
            b"Content-Length",
            b"5",
            b"0",
        ),
        *(b"Transfer-Encoding", b"chunked", b"\xff", b"-1", b"HTTP/1.0 204\r\n", b"\0"),
    ]
)


@given(st.lists(words | st.binary(max_size=5), max_size=40))
def test_no_bytes_are_more_than_refused(pieces: list[bytes]) -> None:
    reader = ResponseReader("GET")
    try:
        for piece in pieces:
            reader.feed(piece)
        reader.end()
    except Malformed:
        return
    assert reader.is_complete
    assert 200 <= reader.status <= 999
