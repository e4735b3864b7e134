"""Frames in and out of real pipes: non-blocking in front, blocking in a worker."""

from __future__ import annotations

import os

from isoruntime.bare import signal
from isoruntime.typed import IO, Final
from isoruntime.wire.frames import (
    HEADER_BYTES,
    NONCE_BYTES,
    Frame,
    frame_of,
    head,
    split_head,
)

#: One read from a pipe; a pipe holds 64 KiB unless it was enlarged.
READ_BYTES: Final = 64 * 1024

#: Asks a worker to write its Python stack to its trace. A real-time signal near the
#: end of the range, where neither libraries nor users look for one.
STACK_SIGNAL: Final = signal.SIGRTMAX - 2


#: Where in a worker's trace it leaves the nonce of a request, once it has read all of
#: it and before it begins. Far behind any stack; a memory file has holes.
ACKNOWLEDGEMENT_AT: Final = 1 << 20
#: Where behind it the nonce of a request is left that came to nothing: by the front end
#: when the client that was being sent an answer has gone, by a worker that cancels its
#: handler at the deadline.
CANCELLATION_AT: Final = ACKNOWLEDGEMENT_AT + NONCE_BYTES


class PeerClosed(Exception):
    """The other end of the pipe is closed. Says nothing about its process."""


class EventFile:
    """An event that lives in a file, so that it never has to be in memory."""

    __slots__ = ("fd", "size_bytes")

    def __init__(self, fd: int, size_bytes: int) -> None:
        self.fd = fd
        self.size_bytes = size_bytes

    def __len__(self) -> int:
        return self.size_bytes


Body = bytes | bytearray | memoryview | EventFile


class FrameSender:
    """Writes frames to a non-blocking pipe, one at a time, as far as it takes them."""

    __slots__ = ("_fd", "_file", "_offset", "_rest")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest: memoryview | None = None
        self._file: EventFile | None = None
        self._offset = 0

    @property
    def is_busy(self) -> bool:
        """Whether part of a frame has still to be written."""
        return self._rest is not None or self._file is not None

    def send(self, frame_head: bytes, body: Body) -> bool:
        """Begin a frame; return whether all of it is in the pipe.

        Raises:
            PeerClosed: nobody can read it any more.
        """
        if isinstance(body, EventFile):
            self._rest, self._file, self._offset = memoryview(frame_head), body, 0
            return self.resume()
        if len(body) > READ_BYTES:
            # Written apart: joining would copy a large event for nothing.
            self._rest = memoryview(frame_head)
            if not self._write_rest():
                self._rest = memoryview(frame_head[-len(self._rest) :] + bytes(body))
                return False
            self._rest = memoryview(body)
            return self.resume()
        data = frame_head + bytes(body) if body else frame_head
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            written = 0
        except BrokenPipeError:
            raise PeerClosed from None
        if written == len(data):
            return True
        self._rest = memoryview(data)[written:]
        return False

    def cancel(self) -> None:
        """Send no more; what is half sent stays so, and the pipe is of no more use."""
        self._rest = self._file = None

    def resume(self) -> bool:
        """Go on with a frame; return whether all of it is in the pipe.

        Raises:
            PeerClosed: nobody can read it any more.
        """
        return self._write_rest() and self._write_file()

    def _write_rest(self) -> bool:
        while self._rest is not None:
            try:
                written = os.write(self._fd, self._rest)
            except BlockingIOError:
                return False
            except BrokenPipeError:
                raise PeerClosed from None
            rest = self._rest[written:]
            self._rest = rest if rest else None
        return True

    def _write_file(self) -> bool:
        while self._file is not None:
            left = self._file.size_bytes - self._offset
            if left == 0:
                self._file = None
                break
            try:
                sent = os.sendfile(self._fd, self._file.fd, self._offset, left)
            except BlockingIOError:
                return False
            except OSError:
                sent = 0
            if sent == 0:
                # The reader is gone, or the file is not what it was; either way this
                # frame will never be whole.
                raise PeerClosed
            self._offset += sent
        return True


def read_frame(stream: IO[bytes]) -> Frame | None:
    """Wait for the next frame of a worker's request pipe; None at its end.

    `stream` must be a `BufferedReader`: its `read(n)` allocates the body once and
    lets the kernel fill it, and a small frame costs one system call.

    Raises:
        ProtocolViolation: these bytes are not the front end's.
    """
    data = stream.read(HEADER_BYTES)
    if len(data) < HEADER_BYTES:
        return None
    kind, flags, meta_bytes, body_bytes, nonce = split_head(data)
    meta = stream.read(meta_bytes)
    body = stream.read(body_bytes) if body_bytes else b""
    if len(meta) < meta_bytes or len(body) < body_bytes:
        return None
    return frame_of((kind, nonce, meta, body, flags))


def write_frame(
    fd: int,
    kind: int,
    nonce: bytes,
    meta: bytes = b"",
    body: bytes | bytearray | memoryview = b"",
    flags: int = 0,
) -> None:
    """Write one frame to a blocking pipe, all of it."""
    frame_head = head(kind, nonce, meta, len(body), flags)
    if len(body) <= READ_BYTES:
        whole = frame_head + body if body else frame_head
        written = os.write(fd, whole)
        if written == len(whole):
            return
        data = memoryview(whole)
    else:
        written = os.writev(fd, [frame_head, body])
        if written < len(frame_head):
            _write_all(fd, memoryview(frame_head)[written:])
            written = len(frame_head)
        data = memoryview(body)
        written -= len(frame_head)
    _write_all(fd, data[written:])


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]
