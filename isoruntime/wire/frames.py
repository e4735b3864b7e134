"""Frames: the only bytes that cross a worker's request and reply pipes.

    0         1      2       4             8             16        32
    +---------+------+-------+-------------+-------------+---------+------ - - -
    | version | kind | flags | meta length | body length |  nonce  | meta, body
    +---------+------+-------+-------------+-------------+---------+------ - - -

Integers are big-endian. The front end draws a new nonce for every request frame
and takes a reply only if it repeats that nonce, so that late or forged words of
one invocation can never answer another.

`meta` is text and depends on the kind:

- requests (`INVOKE` … `PRE_FREEZE`): request id, time left in milliseconds (-1 for
  no limit), and the context as a JSON object, one a line. That is the same bytes
  for thousands of invocations, so both sides cache it. What `HTTP` has below
  is the request (`contract.http.Request`), whose body is the frame's.
- `FAULT` and `FAILED`: the error's type, after which `FAILED` has a line with the file
  and the line that broke, if known; the body is the answer to the caller.
- `RESPONSE` and `RESPONSE_HEAD`: status and headers (`contract.http`). After a
  `RESPONSE_HEAD` the body comes in `CHUNK`s up to an `END`; a `FAULT` or `TOO_LARGE`
  says in its place that there is no more to come.
- `EXITED`: the code that a command ended with, and its peak memory in KB.
- `READY`: mechanisms of the sandbox that were skipped, as a JSON object of name and
  reason; nothing if all are in force.
- `TOO_LARGE`: the size of the answer that was not sent, in bytes.

Nothing here touches a file descriptor: frames become bytes and bytes become
frames, so every rule of the format can be tested without a process.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from functools import partial

from isoruntime.errors import FrameTooLarge, ProtocolViolation
from isoruntime.typed import Final, NamedTuple

VERSION: Final = 1
HEADER: Final = struct.Struct("!BBHIQ16s")
HEADER_BYTES: Final = HEADER.size
NONCE_BYTES: Final = 16
#: Sent where no request is being answered (`READY`, `FAILED`).
NO_NONCE: Final = bytes(NONCE_BYTES)
#: More context than the platform's 8 KB of headers can ever make.
MAX_META: Final = 256 * 1024
#: Bodies up to this size are kept as `bytes`; larger ones grow in place.
_SMALL_BODY: Final = 64 * 1024


class Kind(IntEnum):
    """What a frame means. Numbers are the format: append, never renumber."""

    READY = 1  # worker: the handler is loaded
    FAILED = 2  # worker: the handler could not be loaded; it will exit
    INVOKE = 3  # front end: run the handler on this event
    INITIALIZE = 4  # front end: run the initializer
    PRE_STOP = 5  # front end: run the pre-stop hook
    PRE_FREEZE = 6  # front end: run the pre-freeze hook
    RESULT = 7  # worker: what the handler returned, encoded
    FAULT = 8  # worker: what the handler raised, encoded
    TOO_LARGE = 9  # worker: what the handler returned is over the limit
    HTTP = 10  # front end: answer this HTTP request
    RESPONSE = 11  # worker: a whole HTTP response
    RESPONSE_HEAD = 12  # worker: an HTTP response whose body follows in pieces
    CHUNK = 13  # worker: a piece of the body
    END = 14  # worker: the body is complete
    EXITED = 15  # worker: the command exited with another code than 0
    NOT_HTTP = 16  # worker: the handler is for events, not for HTTP requests
    CANCELLED = 17  # worker: the handler was cancelled at its deadline, and has ended


#: Flag of a reply: the worker's output pipe still holds something.
OUTPUT_PENDING: Final = 1
#: Flag of a reply: the worker must not be lent again.
WORN_OUT: Final = 2
#: Flag of a reply: processes that the handler started are still alive.
LEFTOVERS: Final = 4
_UNKNOWN_FLAGS: Final = ~(OUTPUT_PENDING | WORN_OUT | LEFTOVERS)

_KINDS: Final = frozenset(int(kind) for kind in Kind)


#: What a frame is made of.
FrameTuple = tuple[int, bytes, bytes, bytes | bytearray, int]


class Frame(NamedTuple):
    """One message."""

    kind: int
    nonce: bytes
    meta: bytes
    body: bytes | bytearray
    flags: int = 0


#: Makes a frame of a tuple, without the function of Python's that `Frame(…)` goes through.
frame_of: Final[Callable[[FrameTuple], Frame]] = partial(tuple.__new__, Frame)


def head(
    kind: int, nonce: bytes, meta: bytes, body_bytes: int, flags: int = 0
) -> bytes:
    """Return everything of a frame but its body."""
    return HEADER.pack(VERSION, kind, flags, len(meta), body_bytes, nonce) + meta


def split_head(data: bytes) -> tuple[int, int, int, int, bytes]:
    """Return kind, flags, meta length, body length and nonce of a header.

    Raises:
        ProtocolViolation: this is no header of ours.
    """
    version, kind, flags, meta_bytes, body_bytes, nonce = HEADER.unpack_from(data)
    if version != VERSION or kind not in _KINDS or flags & _UNKNOWN_FLAGS:
        raise ProtocolViolation(
            f"a frame of version {version}, kind {kind}, flags {flags:#x}"
        )
    if meta_bytes > MAX_META:
        raise FrameTooLarge(meta_bytes, MAX_META)
    return kind, flags, meta_bytes, body_bytes, nonce


class FrameDecoder:
    """Cuts a byte stream back into frames, however the kernel split it."""

    __slots__ = ("_body", "_body_bytes", "_buffer", "_head", "_max_body", "has_more")

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._buffer = bytearray()
        # Set while a large body is coming in: its header, what is there of it,
        # and how long it will be.
        self._head: tuple[int, int, bytes, bytes] | None = None
        self._body = bytearray()
        self._body_bytes = 0
        #: whether bytes are held that no returned frame contained
        self.has_more = False

    def feed(self, data: bytes) -> Frame | None:
        """Take in bytes; return a frame if they complete one.

        Bytes behind it are kept: `has_more` tells, and `feed(b"")` goes on.

        Raises:
            ProtocolViolation: the stream can no longer be trusted; drop it.
        """
        if not self.has_more and len(data) >= HEADER_BYTES:
            # The usual case, a whole frame in one read, copies nothing twice.
            kind, flags, meta_bytes, body_bytes, nonce = self._judge(data)
            start = HEADER_BYTES + meta_bytes
            if len(data) == start + body_bytes:
                meta = data[HEADER_BYTES:start]
                return frame_of((kind, nonce, meta, data[start:], flags))
        if self._head is not None:
            frame = self._feed_body(data)
        else:
            self._buffer += data
            frame = self._take()
        self.has_more = bool(self._buffer) or self._head is not None
        return frame

    def _judge(self, data: bytes) -> tuple[int, int, int, int, bytes]:
        parts = split_head(data)
        # Judged before anything waits for it, so that one corrupt header cannot
        # make its receiver set aside memory on a worker's behalf.
        if parts[3] > self._max_body:
            raise FrameTooLarge(parts[3], self._max_body)
        return parts

    def _take(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < HEADER_BYTES:
            return None
        kind, flags, meta_bytes, body_bytes, nonce = self._judge(
            bytes(buffer[:HEADER_BYTES])
        )
        start = HEADER_BYTES + meta_bytes
        if len(buffer) < start:
            return None
        end = start + body_bytes
        meta = bytes(buffer[HEADER_BYTES:start])
        if len(buffer) >= end:
            body = bytes(buffer[start:end])
            del buffer[:end]
            return Frame(kind, nonce, meta, body, flags)
        if body_bytes > _SMALL_BODY:
            self._head = (kind, flags, meta, nonce)
            self._body_bytes = body_bytes
            del buffer[:start]
            self._body, self._buffer = buffer, bytearray()
        return None

    def _feed_body(self, data: bytes) -> Frame | None:
        body = self._body
        room = self._body_bytes - len(body)
        if len(data) <= room:
            body += data
        else:
            body += data[:room]
            self._buffer += data[room:]
        if len(body) < self._body_bytes:
            return None
        assert self._head is not None
        kind, flags, meta, nonce = self._head
        self._head, self._body = None, bytearray()
        return Frame(kind, nonce, meta, body, flags)

    @property
    def missing(self) -> int:
        """How many bytes of a large body are still to come; 0 outside of one."""
        return self._body_bytes - len(self._body) if self._head is not None else 0
