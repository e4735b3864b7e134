"""The sink: real pipes, terminals, sockets and files, and never a wait.

A test that would block here fails by its timeout.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isoruntime.observe.sink import CONGESTED_BYTES, RELIEVED_BYTES, LogSink

MIB = 1024 * 1024


class PollLoop:
    """The smallest real loop: what is watched, on `select.poll`."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[int], object]] = {}

    def watch(
        self,
        fd: int,
        callback: Callable[[int], object],
        *,
        read: bool = False,
        write: bool = True,
    ) -> None:
        assert (read, write) == (False, True)
        self.watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        del self.watched[fd]

    def turn(self, wait_s: float = 0) -> None:
        poll = select.poll()
        for fd in self.watched:
            poll.register(fd, select.POLLOUT)
        for fd, mask in poll.poll(wait_s * 1000):
            self.watched[fd](mask)


class Pipe:
    """A pipe whose reader is as slow as a test wants."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self.received = bytearray()

    def read(self, most: int = 65536) -> int:
        try:
            data = os.read(self.read_fd, most)
        except BlockingIOError:
            return 0
        self.received += data
        return len(data)

    def read_all(self) -> None:
        while self.read():
            pass

    def close_reader(self) -> None:
        os.close(self.read_fd)
        self.read_fd = -1

    def close(self) -> None:
        for fd in (self.read_fd, self.write_fd):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def loop() -> PollLoop:
    return PollLoop()


@contextmanager
def a_sink(
    fd: int, loop: PollLoop | None = None
) -> Iterator[tuple[LogSink, list[str]]]:
    told: list[str] = []
    sink = LogSink(fd, loop, on_loss=told.append)
    yield sink, told
    sink.close()


@contextmanager
def without_the_right_to_reopen(fd: int) -> Iterator[None]:
    """As after a change of user: the pipe is ours to write, not to open."""
    os.fchmod(fd, 0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def numbered_lines(count: int) -> bytes:
    return b"".join(b"line %07d of the output\n" % number for number in range(count))


def is_nonblocking(fd: int) -> bool:
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)


def turn_until_written(sink: LogSink, loop: PollLoop, read: Callable[[], int]) -> None:
    deadline = time.monotonic() + 10
    while sink.backlog:
        assert time.monotonic() < deadline, f"{sink!r} never finished"
        read()
        loop.turn()
        sink.flush()


def test_what_a_turn_wrote_goes_out_in_one_write(pipe: Pipe) -> None:
    os.set_blocking(pipe.read_fd, True)
    with a_sink(pipe.write_fd) as (sink, _):
        sink.write(b"one\n")
        sink.write(b"two\n")
        sink.flush()
        assert os.read(pipe.read_fd, 100) == b"one\ntwo\n"


def test_a_reader_that_stops_neither_blocks_us_nor_loses_a_line(
    pipe: Pipe, loop: PollLoop
) -> None:
    lines = numbered_lines(40_000)
    with a_sink(pipe.write_fd, loop) as (sink, _):
        for start in range(0, len(lines), 50_000):
            sink.write(lines[start : start + 50_000])
            sink.flush()
        assert sink.backlog > 900_000
        turn_until_written(sink, loop, lambda: pipe.read(10_000))
        pipe.read_all()
        assert pipe.received == lines
        assert loop.watched == {}


def test_the_shared_descriptor_keeps_its_flags(pipe: Pipe, loop: PollLoop) -> None:
    with a_sink(pipe.write_fd, loop) as (sink, _):
        sink.write(b"x" * MIB)
        sink.flush()
        assert not is_nonblocking(pipe.write_fd)


def test_a_waiting_sink_leaves_the_pipe_alone_until_it_is_writable(
    pipe: Pipe, loop: PollLoop
) -> None:
    with a_sink(pipe.write_fd, loop) as (sink, _):
        sink.write(b"x" * MIB)
        sink.flush()
        before = sink.backlog
        loop.turn()
        sink.flush()
        assert sink.backlog == before
        pipe.read_all()
        sink.flush()
        assert sink.backlog == before
        loop.turn()
        assert sink.backlog < before


def test_room_for_much_does_not_hold_one_flush_for_long(
    pipe: Pipe, loop: PollLoop
) -> None:
    fcntl.fcntl(pipe.write_fd, fcntl.F_SETPIPE_SZ, MIB)
    with a_sink(pipe.write_fd, loop) as (sink, _):
        sink.write(b"x" * 2 * MIB)
        sink.flush()
        assert sink.backlog == 3 * MIB // 2
        loop.turn()
        assert sink.backlog == MIB


def test_congestion_is_announced_and_so_is_its_end(pipe: Pipe, loop: PollLoop) -> None:
    relieved: list[int] = []
    with a_sink(pipe.write_fd, loop) as (sink, _):
        sink.on_relief = lambda: relieved.append(sink.backlog)
        sink.write(b"x" * CONGESTED_BYTES)
        assert not sink.is_congested
        sink.write(b"\n")
        sink.flush()
        while sink.backlog >= RELIEVED_BYTES:
            assert (sink.is_congested, relieved) == (True, [])
            pipe.read_all()
            loop.turn()
        assert not sink.is_congested
        turn_until_written(sink, loop, pipe.read)
        assert len(relieved) == 1
        assert relieved[0] < RELIEVED_BYTES


def test_a_reader_that_left_costs_the_output_and_one_message(
    pipe: Pipe, loop: PollLoop
) -> None:
    with a_sink(pipe.write_fd, loop) as (sink, told):
        sink.write(b"x" * MIB)
        sink.flush()
        unsent = sink.backlog
        pipe.close_reader()
        loop.turn()
        assert (sink.backlog, sink.dropped_bytes) == (0, unsent)
        sink.write(b"more\n")
        sink.flush()
        assert sink.dropped_bytes == unsent + 5
        assert sink.is_gone
        assert loop.watched == {}
        assert len(told) == 1
        assert "Broken pipe" in told[0]


def test_a_reader_that_left_ends_congestion(pipe: Pipe, loop: PollLoop) -> None:
    relieved: list[bool] = []
    with a_sink(pipe.write_fd, loop) as (sink, _):
        sink.on_relief = lambda: relieved.append(sink.is_congested)
        sink.write(b"x" * (CONGESTED_BYTES + 1))
        pipe.close_reader()
        sink.flush()
        assert relieved == [False]


def test_a_closed_stdout_is_no_reason_to_fail(pipe: Pipe) -> None:
    closed = os.dup(pipe.write_fd)
    os.close(closed)
    with a_sink(closed) as (sink, told):
        sink.write(b"lost\n")
        sink.flush()
        assert sink.is_gone
        assert sink.dropped_bytes == 5
        assert len(told) == 1


def test_a_file_is_continued_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, b"the shell\n")
        with a_sink(fd) as (sink, _):
            sink.write(numbered_lines(100_000))
            sink.flush()
            assert sink.backlog == 0
        os.write(fd, b"the shell again\n")
    finally:
        os.close(fd)
    expected = b"the shell\n" + numbered_lines(100_000) + b"the shell again\n"
    assert path.read_bytes() == expected


def test_a_full_disk_is_tried_again_and_never_holds_workers_up() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with a_sink(fd) as (sink, told):
            sink.write(b"first\n")
            sink.flush()
            assert sink.backlog == 6
            for _ in range(2 * CONGESTED_BYTES // MIB):
                sink.write(b"x" * MIB)
                sink.flush()
            assert RELIEVED_BYTES - MIB < sink.backlog <= RELIEVED_BYTES
            assert sink.dropped_bytes == 2 * CONGESTED_BYTES + 6 - sink.backlog
            assert not sink.is_congested
            assert not sink.drain(5)
            assert len(told) == 1
            assert os.strerror(errno.ENOSPC) in told[0]
    finally:
        os.close(fd)


def test_a_disk_that_fills_up_ends_congestion() -> None:
    relieved: list[bool] = []
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with a_sink(fd) as (sink, _):
            sink.on_relief = lambda: relieved.append(sink.is_congested)
            sink.write(b"x" * (CONGESTED_BYTES + 1))
            sink.flush()
            assert sink.backlog > RELIEVED_BYTES
            assert relieved == [False]
    finally:
        os.close(fd)


def test_a_disk_that_has_room_again_gets_the_lines_that_waited(tmp_path: Path) -> None:
    path = tmp_path / "log"
    full = os.open("/dev/full", os.O_WRONLY)
    room = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        with a_sink(full) as (sink, _):
            sink.write(b"one\n")
            sink.flush()
            sink.write(b"two\n")
            os.dup2(room, full)  # somebody cleaned up
            sink.flush()
            assert sink.backlog == 0
    finally:
        os.close(full)
        os.close(room)
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_terminal_on_hold_does_not_block(loop: PollLoop) -> None:
    controller, terminal = pty.openpty()
    os.set_blocking(controller, False)
    received = bytearray()

    def read() -> int:
        try:
            received.extend(os.read(controller, 65536))
        except BlockingIOError:
            return 0
        return 1

    try:
        with a_sink(terminal, loop) as (sink, _):
            sink.write(numbered_lines(5_000))
            sink.flush()
            assert sink.backlog > 0
            assert not is_nonblocking(terminal)
            turn_until_written(sink, loop, read)
            deadline = time.monotonic() + 10
            while len(received) < len(numbered_lines(5_000)) + 5_000:
                assert time.monotonic() < deadline
                read()
    finally:
        os.close(controller)
        os.close(terminal)
    assert received.replace(b"\r\n", b"\n") == numbered_lines(5_000)


def test_a_socket_is_written_without_waiting(loop: PollLoop) -> None:
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    received = bytearray()

    def read() -> int:
        try:
            received.extend(reader.recv(65536))
        except BlockingIOError:
            return 0
        return 1

    with reader, writer:
        with a_sink(writer.fileno(), loop) as (sink, _):
            sink.write(numbered_lines(40_000))
            sink.flush()
            assert sink.backlog > 0
            assert not is_nonblocking(writer.fileno())
            turn_until_written(sink, loop, read)
        while read():
            pass
    assert received == numbered_lines(40_000)


def test_a_socket_whose_peer_left_is_gone(loop: PollLoop) -> None:
    reader, writer = socket.socketpair()
    with writer, a_sink(writer.fileno(), loop) as (sink, told):
        reader.close()
        sink.write(b"lost\n")
        sink.flush()
        assert sink.is_gone
        assert len(told) == 1


def test_a_named_pipe_is_written_without_waiting(
    tmp_path: Path, loop: PollLoop
) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "fifo", os.O_WRONLY)
    received = bytearray()

    def read() -> int:
        received.extend(os.read(reader, 65536))
        return 1

    try:
        with a_sink(writer, loop) as (sink, _):
            sink.write(numbered_lines(10_000))
            sink.flush()
            assert sink.backlog > 0
            turn_until_written(sink, loop, read)
            while len(received) < len(numbered_lines(10_000)):
                read()
    finally:
        os.close(reader)
        os.close(writer)
    assert received == numbered_lines(10_000)


def test_a_pipe_that_may_not_be_reopened_is_written_in_small_pieces(
    pipe: Pipe, loop: PollLoop
) -> None:
    lines = numbered_lines(10_000)
    with without_the_right_to_reopen(pipe.write_fd):
        sink = LogSink(pipe.write_fd, loop)
    assert "polled" in repr(sink)
    sink.write(lines)
    sink.flush()
    assert sink.backlog > 0
    turn_until_written(sink, loop, pipe.read)
    pipe.read_all()
    sink.close()
    assert pipe.received == lines


def test_a_pipe_that_may_not_be_reopened_can_lose_its_reader(
    pipe: Pipe, loop: PollLoop
) -> None:
    with without_the_right_to_reopen(pipe.write_fd):
        sink = LogSink(pipe.write_fd, loop, on_loss=lambda _: None)
    pipe.close_reader()
    sink.write(b"lost\n")
    sink.flush()
    assert sink.is_gone


def test_draining_waits_for_a_slow_reader(pipe: Pipe) -> None:
    os.set_blocking(pipe.read_fd, True)
    received: list[bytes] = []

    def read_slowly() -> None:
        while data := os.read(pipe.read_fd, 30_000):
            received.append(data)

    lines = numbered_lines(40_000)
    reader = threading.Thread(target=read_slowly)
    with a_sink(pipe.write_fd) as (sink, _):
        sink.write(lines)
        sink.flush()
        reader.start()
        assert sink.drain(10)
    os.close(pipe.write_fd)
    pipe.write_fd = -1
    reader.join()
    assert b"".join(received) == lines


def test_draining_ends_when_its_time_is_up(pipe: Pipe, loop: PollLoop) -> None:
    with a_sink(pipe.write_fd, loop) as (sink, _):
        sink.write(b"x" * MIB)
        before = time.monotonic()
        assert not sink.drain(0.05)
        assert 0.05 <= time.monotonic() - before < 2
        assert sink.backlog > 0


def test_a_loop_can_come_later(pipe: Pipe, loop: PollLoop) -> None:
    with a_sink(pipe.write_fd) as (sink, _):
        sink.write(numbered_lines(10_000))
        sink.flush()
        sink.attach(loop)
        turn_until_written(sink, loop, pipe.read)
        pipe.read_all()
    assert pipe.received == numbered_lines(10_000)


def test_a_closed_sink_leaves_the_descriptor_open(pipe: Pipe, loop: PollLoop) -> None:
    with a_sink(pipe.write_fd, loop) as (sink, _):
        sink.write(b"x" * MIB)
        sink.flush()
    assert loop.watched == {}
    os.fstat(pipe.write_fd)
