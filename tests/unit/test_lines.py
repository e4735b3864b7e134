"""Lines: nothing is lost, nothing is too long, however the stream was split."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoruntime.observe.lines import (
    CUT_MARK,
    MAX_LINE_BYTES,
    LineSplitter,
    TailBuffer,
)

#: Small enough that a few dozen bytes are a long line.
SMALL = 32

# Newlines are common and so are halves of characters; the mark itself never occurs.
pieces_of_output = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.sampled_from([b"\n", b"\n\n", b"short\n", b"x" * 100, b"\xe4\xbd", b"\x80"]),
        st.text("aé中😀", max_size=60).map(str.encode),
    ),
    max_size=12,
).filter(lambda pieces: CUT_MARK not in b"".join(pieces))


def split(pieces: list[bytes], max_line: int = SMALL) -> bytes:
    splitter = LineSplitter(max_line)
    return b"".join([splitter.feed(piece) for piece in pieces] + [splitter.end()])


def without_marks(output: bytes) -> bytes:
    return output.replace(CUT_MARK + b"\n", b"")


def as_lines(stream: bytes) -> bytes:
    return stream if not stream or stream.endswith(b"\n") else stream + b"\n"


@given(pieces_of_output)
def test_nothing_is_lost_whatever_is_written(pieces: list[bytes]) -> None:
    assert without_marks(split(pieces)) == as_lines(b"".join(pieces))


@given(pieces_of_output)
def test_no_line_is_longer_than_the_limit(pieces: list[bytes]) -> None:
    assert all(len(line) <= SMALL for line in split(pieces).splitlines(keepends=True))


@given(pieces_of_output)
def test_the_lines_do_not_depend_on_how_the_stream_was_split(
    pieces: list[bytes],
) -> None:
    whole = b"".join(pieces)
    bytewise = [whole[i : i + 1] for i in range(len(whole))]
    assert split(pieces) == split([whole]) == split(bytewise)


@given(pieces_of_output)
def test_every_block_holds_whole_lines(pieces: list[bytes]) -> None:
    splitter = LineSplitter(SMALL)
    blocks = [splitter.feed(piece) for piece in pieces] + [splitter.end()]
    assert all(block.endswith(b"\n") for block in blocks if block)


@given(st.text("aé中😀", min_size=30, max_size=200))
def test_a_character_is_never_cut(text: str) -> None:
    for line in split([text.encode()]).splitlines():
        line.decode()


@given(st.lists(st.binary(max_size=SMALL - 1).filter(lambda b: b"\n" not in b)))
def test_lines_that_fit_come_out_as_they_went_in(lines: list[bytes]) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    assert split([stream]) == stream


def test_a_line_of_exactly_the_limit_is_not_cut() -> None:
    fits = b"x" * (MAX_LINE_BYTES - 1) + b"\n"
    assert split([fits], MAX_LINE_BYTES) == fits
    assert CUT_MARK in split([b"x" + fits], MAX_LINE_BYTES)


def test_a_long_line_between_short_ones_leaves_them_alone() -> None:
    output = split([b"before\n" + b"x" * 40 + b"\nafter\n"])
    assert output.splitlines() == [
        b"before",
        b"x" * 14 + CUT_MARK,
        b"x" * 26,
        b"after",
    ]


def test_an_unfinished_line_waits_for_its_end() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"one\ntw") == b"one\n"
    assert splitter.feed(b"o") == b""
    assert splitter.feed(b"\nthree") == b"two\n"
    assert splitter.end() == b"three\n"
    assert splitter.end() == b""


def test_a_block_of_whole_lines_is_passed_on_uncopied() -> None:
    block = b"a line\n" * 1000
    assert LineSplitter().feed(block) is block


def test_broken_utf8_is_cut_where_the_limit_is() -> None:
    first = split([b"\x80" * 40]).splitlines()[0]
    assert first == b"\x80" * (SMALL - len(CUT_MARK) - 1) + CUT_MARK


def test_memory_does_not_grow_with_the_length_of_a_line() -> None:
    splitter = LineSplitter()
    chunk = b"x" * 65536
    tracemalloc.start()
    try:
        for _ in range(160):
            splitter.feed(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_a_limit_without_room_for_the_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        LineSplitter(len(CUT_MARK) + 1)


@given(st.lists(st.binary(max_size=40)), st.integers(1, 20))
def test_the_tail_is_the_end_of_everything_fed(
    chunks: list[bytes], size_bytes: int
) -> None:
    tail = TailBuffer(size_bytes)
    for chunk in chunks:
        tail.feed(chunk)
    assert tail.tail() == b"".join(chunks)[-size_bytes:]


@given(st.lists(st.text("aé中😀", max_size=9)), st.integers(4, 20))
def test_the_tail_of_text_is_text(chunks: list[str], size_bytes: int) -> None:
    tail = TailBuffer(size_bytes)
    for chunk in chunks:
        tail.feed(chunk.encode())
    assert "".join(chunks).endswith(tail.text())


def test_the_tail_replaces_what_is_no_text() -> None:
    tail = TailBuffer()
    tail.feed(b"\x80 bad \xff")
    assert tail.text() == "\N{REPLACEMENT CHARACTER} bad \N{REPLACEMENT CHARACTER}"
