"""Frames: every way to cut a stream, every way to lie in a header."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoruntime.errors import FrameTooLarge, ProtocolViolation
from isoruntime.wire.frames import (
    HEADER_BYTES,
    LEFTOVERS,
    MAX_META,
    NO_NONCE,
    NONCE_BYTES,
    OUTPUT_PENDING,
    WORN_OUT,
    Frame,
    FrameDecoder,
    Kind,
    head,
)

MB = 1 << 20
FIRST_UNKNOWN_FLAG = 8
NONCE = bytes(range(NONCE_BYTES))

frames = st.builds(
    Frame,
    st.sampled_from([int(kind) for kind in Kind]),
    st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES),
    st.binary(max_size=200),
    # Around the size above which a body grows in place, and small.
    st.one_of(
        st.binary(max_size=300),
        st.integers(65_530, 65_545).map(lambda size: bytes(size - 1) + b"!"),
        st.integers(100_000, 200_000).map(lambda size: b"?" + bytes(size - 1)),
    ),
    st.integers(0, OUTPUT_PENDING | WORN_OUT | LEFTOVERS),
)


def encoded(frame: Frame) -> bytes:
    return (
        head(frame.kind, frame.nonce, frame.meta, len(frame.body), frame.flags)
        + frame.body
    )


def decoded(decoder: FrameDecoder, pieces: list[bytes]) -> list[Frame]:
    found = []
    for piece in pieces:
        frame = decoder.feed(piece)
        while frame is not None:
            found.append(frame)
            frame = decoder.feed(b"")
    return found


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def header(
    version: int = 1, kind: int = 7, flags: int = 0, meta: int = 0, body: int = 0
) -> bytes:
    return struct.pack("!BBHIQ16s", version, kind, flags, meta, body, NONCE)


def test_the_format_is_the_drawn_one() -> None:
    data = head(Kind.RESULT, NONCE, b"meta", 4, OUTPUT_PENDING) + b"body"
    assert data[:1] == b"\x01"
    assert data[1:2] == b"\x07"
    assert data[2:4] == b"\x00\x01"
    assert data[4:8] == (4).to_bytes(4, "big")
    assert data[8:16] == (4).to_bytes(8, "big")
    assert data[16:32] == NONCE
    assert data[32:] == b"metabody"


def test_the_numbers_of_the_kinds_are_the_format() -> None:
    assert {kind.name: int(kind) for kind in Kind} == {
        "READY": 1,
        "FAILED": 2,
        "INVOKE": 3,
        "INITIALIZE": 4,
        "PRE_STOP": 5,
        "PRE_FREEZE": 6,
        "RESULT": 7,
        "FAULT": 8,
        "TOO_LARGE": 9,
        "HTTP": 10,
        "RESPONSE": 11,
        "RESPONSE_HEAD": 12,
        "CHUNK": 13,
        "END": 14,
        "EXITED": 15,
        "NOT_HTTP": 16,
        "CANCELLED": 17,
    }


@given(
    st.lists(frames, min_size=1, max_size=3),
    st.lists(st.integers(0, 1 << 20), max_size=12),
)
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    sent: list[Frame], at: list[int]
) -> None:
    data = b"".join(map(encoded, sent))
    decoder = FrameDecoder(MB)
    assert decoded(decoder, cut(data, at)) == sent
    assert not decoder.has_more


@given(frames)
def test_one_byte_at_a_time_makes_the_same_frame(sent: Frame) -> None:
    small = sent._replace(body=sent.body[:300])
    decoder = FrameDecoder(MB)
    assert decoded(decoder, [bytes([byte]) for byte in encoded(small)]) == [small]


@given(frames, st.binary(min_size=1, max_size=100))
def test_bytes_behind_a_frame_are_noticed_and_kept(sent: Frame, behind: bytes) -> None:
    decoder = FrameDecoder(MB)
    assert decoder.feed(encoded(sent) + behind) == sent or sent.body == b""
    whole = FrameDecoder(MB)
    first = whole.feed(encoded(sent) + encoded(sent)[:1])
    assert first == sent
    assert whole.has_more
    assert whole.feed(encoded(sent)[1:]) == sent
    assert not whole.has_more


@given(frames, st.integers(0, 1 << 20))
def test_half_a_frame_is_no_frame_but_is_held(sent: Frame, at: int) -> None:
    data = encoded(sent)
    part = data[: at % len(data)]
    decoder = FrameDecoder(MB)
    assert decoder.feed(part) is None
    assert decoder.has_more == bool(part)


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_random_bytes_make_a_violation_or_nothing_worse(pieces: list[bytes]) -> None:
    decoder = FrameDecoder(1000)
    try:
        found = decoded(decoder, pieces)
    except ProtocolViolation:
        return
    assert all(frame.kind in set(Kind) for frame in found)


@given(frames, st.integers(0, HEADER_BYTES - 1), st.integers(1, 255))
def test_a_bent_header_is_a_violation_or_another_sound_frame(
    sent: Frame, at: int, bend: int
) -> None:
    data = bytearray(encoded(sent))
    data[at] ^= bend
    decoder = FrameDecoder(MB)
    try:
        frame = decoder.feed(bytes(data))
    except ProtocolViolation:
        return
    # What is not judged here: the nonce is the lease's to compare, and a kind or a
    # length may turn into another valid one.
    assert at in range(1, HEADER_BYTES)
    assert frame is None or frame != sent


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(header(version=0), id="version 0"),
        pytest.param(header(version=2), id="a version of the future"),
        pytest.param(header(kind=0), id="kind 0"),
        pytest.param(header(kind=18), id="a kind of the future"),
        pytest.param(header(kind=255), id="kind 255"),
        pytest.param(header(flags=FIRST_UNKNOWN_FLAG), id="an unknown flag"),
        pytest.param(header(flags=0x8000), id="the highest flag"),
    ],
)
@pytest.mark.parametrize("step", [1, HEADER_BYTES], ids=["in pieces", "whole"])
def test_a_header_that_is_not_ours_is_a_violation(data: bytes, step: int) -> None:
    decoder = FrameDecoder(MB)
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    with pytest.raises(ProtocolViolation, match="a frame of version"):
        decoded(decoder, pieces)


@pytest.mark.parametrize("step", [1, HEADER_BYTES], ids=["in pieces", "whole"])
@pytest.mark.parametrize(
    ("data", "size", "limit"),
    [
        pytest.param(header(body=1001), 1001, 1000, id="a body one over"),
        pytest.param(header(body=2**64 - 1), 2**64 - 1, 1000, id="the longest body"),
        pytest.param(header(meta=MAX_META + 1), MAX_META + 1, MAX_META, id="meta"),
    ],
)
def test_a_size_is_judged_before_anything_waits_for_it(
    data: bytes, size: int, limit: int, step: int
) -> None:
    decoder = FrameDecoder(1000)
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    with pytest.raises(FrameTooLarge) as caught:
        decoded(decoder, pieces)
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (size, limit)


def test_sizes_at_their_limits_pass() -> None:
    sent = Frame(Kind.RESULT, NONCE, bytes(MAX_META), bytes(1000))
    assert FrameDecoder(1000).feed(encoded(sent)) == sent


@pytest.mark.parametrize("tail", [0, 5], ids=["ends there", "more behind it"])
def test_a_large_body_grows_in_place_and_says_what_is_missing(tail: int) -> None:
    body = bytes(range(256)) * (3 * MB // 256)
    sent = Frame(Kind.RESULT, NO_NONCE, b"m", body)
    data = encoded(sent) + b"\x01" * tail
    decoder = FrameDecoder(4 * MB)
    assert decoder.missing == 0
    assert decoder.feed(data[:100_000]) is None
    assert decoder.missing == len(body) - 100_000 + HEADER_BYTES + 1
    assert decoder.has_more
    frame = None
    for at in range(100_000, len(data), 65_536):
        assert frame is None
        frame = decoder.feed(data[at : at + 65_536])
    assert frame == sent
    assert decoder.missing == 0
    assert decoder.has_more == bool(tail)
