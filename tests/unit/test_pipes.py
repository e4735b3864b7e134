"""Frames through real pipes: partial writes, files, large bodies, a peer that left."""

from __future__ import annotations

import fcntl
import io
import os
import select
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from isoruntime.errors import ProtocolViolation
from isoruntime.wire.frames import NONCE_BYTES, Frame, FrameDecoder, Kind, head
from isoruntime.wire.pipes import (
    READ_BYTES,
    EventFile,
    FrameSender,
    PeerClosed,
    read_frame,
    write_frame,
)
from tests.waiting import wait_until

MB = 1 << 20
NONCE = bytes(range(NONCE_BYTES))
SMALLEST_PIPE = 4096


class Pipe:
    """A pipe of the smallest size; the write end does not block."""

    def __init__(self) -> None:
        self.r, self.w = os.pipe()
        fcntl.fcntl(self.w, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
        os.set_blocking(self.w, False)
        os.set_blocking(self.r, False)
        self._open = {self.r, self.w}

    def read(self, size: int = READ_BYTES) -> bytes:
        return os.read(self.r, size)

    def close(self, fd: int) -> None:
        self._open.discard(fd)
        os.close(fd)

    def close_all(self) -> None:
        for fd in tuple(self._open):
            self.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close_all()


@pytest.fixture
def spilled() -> Iterator[Callable[[bytes], EventFile]]:
    """Make events that live in a file, as waitress spills them."""
    files: list[IO[bytes]] = []

    def make(content: bytes) -> EventFile:
        file = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed below
        file.write(content)
        file.flush()
        files.append(file)
        return EventFile(file.fileno(), len(content))

    yield make
    for file in files:
        file.close()


def carry_over(sender: FrameSender, pipe: Pipe, is_done: bool) -> list[Frame]:
    """Read and resume in turn until all is through; return the frames."""
    decoder, found = FrameDecoder(64 * MB), []
    while True:
        frame = decoder.feed(pipe.read())
        while frame is not None:
            found.append(frame)
            frame = decoder.feed(b"")
        if is_done and not decoder.has_more:
            return found
        if not is_done:
            assert sender.is_busy
            is_done = sender.resume()


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


SIZES = [
    0,
    1,
    SMALLEST_PIPE - 33,
    SMALLEST_PIPE - 32,
    SMALLEST_PIPE,
    READ_BYTES - 1,
    READ_BYTES,
    READ_BYTES + 1,
    MB + 7,
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind_of", [bytes, bytearray, memoryview])
def test_an_event_of_any_size_arrives_however_small_the_pipe(
    pipe: Pipe, size: int, kind_of: Callable[[bytes], bytes]
) -> None:
    body = pattern(size)
    sender = FrameSender(pipe.w)
    is_done = sender.send(head(Kind.INVOKE, NONCE, b"meta", size), kind_of(body))
    assert is_done is (32 + 4 + size <= SMALLEST_PIPE)
    (frame,) = carry_over(sender, pipe, is_done)
    assert frame == Frame(Kind.INVOKE, NONCE, b"meta", body)
    assert not sender.is_busy


@pytest.mark.parametrize("size", SIZES)
def test_an_event_in_a_file_arrives_likewise(
    pipe: Pipe, size: int, spilled: Callable[[bytes], EventFile]
) -> None:
    body = pattern(size)
    sender = FrameSender(pipe.w)
    event = spilled(body)
    assert len(event) == size
    is_done = sender.send(head(Kind.INVOKE, NONCE, b"meta", size), event)
    (frame,) = carry_over(sender, pipe, is_done)
    assert frame == Frame(Kind.INVOKE, NONCE, b"meta", body)
    assert not sender.is_busy


def test_an_event_is_read_from_the_start_of_its_file_wherever_that_stands(
    pipe: Pipe, spilled: Callable[[bytes], EventFile]
) -> None:
    event = spilled(b"from the start")
    assert os.lseek(event.fd, 0, os.SEEK_CUR) == len(event)
    sender = FrameSender(pipe.w)
    is_done = sender.send(head(Kind.INVOKE, NONCE, b"", len(event)), event)
    assert carry_over(sender, pipe, is_done)[0].body == b"from the start"
    assert os.lseek(event.fd, 0, os.SEEK_CUR) == len(event)


def test_a_head_larger_than_the_pipe_is_cut_and_goes_on(pipe: Pipe) -> None:
    meta, body = pattern(3 * SMALLEST_PIPE), pattern(READ_BYTES + 5)
    sender = FrameSender(pipe.w)
    assert not sender.send(head(Kind.INVOKE, NONCE, meta, len(body)), body)
    (frame,) = carry_over(sender, pipe, is_done=False)
    assert (frame.meta, frame.body) == (meta, body)


def test_one_frame_follows_another_through_the_same_sender(
    pipe: Pipe, spilled: Callable[[bytes], EventFile]
) -> None:
    sender = FrameSender(pipe.w)
    for body in (b"small", pattern(MB), b"small again"):
        is_done = sender.send(head(Kind.INVOKE, NONCE, b"", len(body)), body)
        assert carry_over(sender, pipe, is_done)[0].body == body
        event = spilled(body)
        is_done = sender.send(head(Kind.INVOKE, NONCE, b"", len(body)), event)
        assert carry_over(sender, pipe, is_done)[0].body == body


def test_nothing_goes_into_a_pipe_that_is_full(pipe: Pipe) -> None:
    os.write(pipe.w, bytes(SMALLEST_PIPE))
    sender = FrameSender(pipe.w)
    assert not sender.send(head(Kind.INVOKE, NONCE, b"", 5), b"event")
    assert not sender.resume()
    assert pipe.read(SMALLEST_PIPE) == bytes(SMALLEST_PIPE)
    assert sender.resume()
    assert FrameDecoder(MB).feed(pipe.read()) == Frame(
        Kind.INVOKE, NONCE, b"", b"event"
    )


@pytest.mark.parametrize("size", [0, 10, MB])
def test_a_peer_that_is_gone_at_the_start_is_told(pipe: Pipe, size: int) -> None:
    pipe.close(pipe.r)
    with pytest.raises(PeerClosed):
        FrameSender(pipe.w).send(head(Kind.INVOKE, NONCE, b"", size), bytes(size))


def test_a_peer_that_is_gone_at_the_start_is_told_with_a_file_too(
    pipe: Pipe, spilled: Callable[[bytes], EventFile]
) -> None:
    pipe.close(pipe.r)
    with pytest.raises(PeerClosed):
        FrameSender(pipe.w).send(head(Kind.INVOKE, NONCE, b"", MB), spilled(bytes(MB)))


@pytest.mark.parametrize("is_spilled", [False, True], ids=["in memory", "in a file"])
def test_a_peer_that_leaves_half_way_is_told(
    pipe: Pipe, spilled: Callable[[bytes], EventFile], is_spilled: bool
) -> None:
    body = spilled(bytes(MB)) if is_spilled else bytes(MB)
    sender = FrameSender(pipe.w)
    assert not sender.send(head(Kind.INVOKE, NONCE, b"", MB), body)
    pipe.close(pipe.r)
    with pytest.raises(PeerClosed):
        sender.resume()
    assert sender.is_busy, "what was not sent to the end was not taken either"


def test_a_file_that_was_closed_under_the_sender_costs_this_frame_alone(
    pipe: Pipe,
) -> None:
    # A lease may end, and its event's file close, while the pipe is still full.
    with tempfile.TemporaryFile("w+b") as file:
        file.write(bytes(MB))
        file.flush()
        sender = FrameSender(pipe.w)
        event = EventFile(file.fileno(), MB)
        assert not sender.send(head(Kind.INVOKE, NONCE, b"", MB), event)
    pipe.read()
    with pytest.raises(PeerClosed):
        sender.resume()


def test_a_file_that_is_shorter_than_it_said_does_not_hold_up_the_loop(
    pipe: Pipe, spilled: Callable[[bytes], EventFile]
) -> None:
    event = EventFile(spilled(b"short").fd, 100)
    sender = FrameSender(pipe.w)
    # The head fills the only buffer of this smallest pipe.
    assert not sender.send(head(Kind.INVOKE, NONCE, b"", 100), event)
    pipe.read()
    told: list[PeerClosed] = []

    def go_on() -> None:
        try:
            while not sender.resume():
                pipe.read()
        except PeerClosed as error:
            told.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    thread.join(1)
    is_stuck = thread.is_alive()
    # Lets a thread that is stuck go, whatever the verdict.
    os.ftruncate(event.fd, 100)
    thread.join(5)
    assert not is_stuck
    assert told


# The worker's side, which blocks.


@pytest.fixture
def blocking() -> Iterator[tuple[IO[bytes], int]]:
    r, w = os.pipe()
    with open(r, "rb", buffering=1 << 16) as stream:  # noqa: PTH123 - a pipe
        yield stream, w
        try:
            os.close(w)
        except OSError:
            assert stream.read() == b""


@pytest.mark.parametrize("size", [0, 1, READ_BYTES, READ_BYTES + 1, 10 * MB])
def test_a_frame_of_any_size_crosses_a_blocking_pipe(
    blocking: tuple[IO[bytes], int], size: int
) -> None:
    stream, w = blocking
    body = pattern(size)
    writer = threading.Thread(
        target=write_frame, args=(w, Kind.RESULT, NONCE, b"meta", body, 1)
    )
    writer.start()
    frame = read_frame(stream)
    writer.join(10)
    assert frame == Frame(Kind.RESULT, NONCE, b"meta", body, 1)


@pytest.mark.parametrize("kind_of", [bytearray, memoryview])
def test_a_body_need_not_be_bytes(
    blocking: tuple[IO[bytes], int], kind_of: Callable[[bytes], bytes]
) -> None:
    stream, w = blocking
    write_frame(w, Kind.RESULT, NONCE, b"", kind_of(b"small"))
    frame = read_frame(stream)
    assert frame is not None
    assert frame.body == b"small"


def test_a_meta_larger_than_the_pipe_crosses_it_in_pieces(
    blocking: tuple[IO[bytes], int],
) -> None:
    stream, w = blocking
    meta, body = pattern(200_000), pattern(200_000)
    writer = threading.Thread(
        target=write_frame, args=(w, Kind.FAULT, NONCE, meta, body)
    )
    writer.start()
    frame = read_frame(stream)
    writer.join(10)
    assert frame == Frame(Kind.FAULT, NONCE, meta, body)


@pytest.mark.parametrize(
    ("meta_bytes", "body_bytes"),
    [
        pytest.param(200_000, 200_000, id="in the head"),
        pytest.param(10, 400_000, id="in the body"),
        pytest.param(65_489, 15, id="in a small frame"),
    ],
)
def test_a_signal_in_the_middle_of_a_write_loses_nothing(
    blocking: tuple[IO[bytes], int], meta_bytes: int, body_bytes: int
) -> None:
    # A blocking write returns early only if a signal handler ran meanwhile.
    stream, w = blocking
    meta, body = pattern(meta_bytes), pattern(body_bytes)
    handled = threading.Event()
    found: list[Frame | None] = []
    main = threading.get_ident()
    os.write(w, b"before")

    def interrupt_and_read() -> None:
        wait_until(lambda: is_full(w), 5, "a full pipe")
        signal.pthread_kill(main, signal.SIGUSR1)
        handled.wait(5)
        assert stream.read(6) == b"before"
        found.append(read_frame(stream))

    before = signal.signal(signal.SIGUSR1, lambda number, frame: handled.set())
    reader = threading.Thread(target=interrupt_and_read)
    reader.start()
    try:
        write_frame(w, Kind.RESULT, NONCE, meta, body)
    finally:
        reader.join(10)
        signal.signal(signal.SIGUSR1, before)
    assert handled.is_set()
    assert found == [Frame(Kind.RESULT, NONCE, meta, body)]


def is_full(fd: int) -> bool:
    return not select.select([], [fd], [], 0)[1]


def test_frames_come_one_by_one_and_then_the_end(
    blocking: tuple[IO[bytes], int],
) -> None:
    stream, w = blocking
    for number in range(3):
        write_frame(w, Kind.INVOKE, NONCE, b"", b"%d" % number)
    os.close(w)
    found = [read_frame(stream) for _ in range(4)]
    assert [frame and frame.body for frame in found] == [b"0", b"1", b"2", None]


@pytest.mark.parametrize("at", [1, 31, 32, 35, 36, 40])
def test_a_frame_that_was_cut_off_is_the_end(at: int) -> None:
    data = head(Kind.INVOKE, NONCE, b"meta", 5) + b"event"
    assert read_frame(io.BufferedReader(io.BytesIO(data[:at]))) is None  # type: ignore[arg-type]


def test_a_header_that_is_not_the_front_ends_is_a_violation() -> None:
    with pytest.raises(ProtocolViolation):
        read_frame(io.BufferedReader(io.BytesIO(b"\xff" * 64)))  # type: ignore[arg-type]
