"""The adapter to waitress: the one module that knows its inside.

waitress parses requests and keeps connections; what it does with threads is
replaced. When a request is complete it calls `add_task(channel)` on the task
dispatcher it was given. Ours notes the channel and looks at it after the events of
this turn, since waitress holds a lock during the call. The request is then an
`Exchange`; when its answer is known, now or a minute later, `channel.service()`
runs with a task that has nothing to do but to write it, and waitress goes on with
the connection as usual: the next pipelined request, keep-alive, or the close.

What is relied upon, and tested in `tests/frontend/test_http.py`, of waitress 3.0:
`create_server(_dispatcher=)`, `HTTPChannel.{request, requests, received, service, send, write_soon,
outbufs, handle_close}`, `HTTPRequestParser.{received, parse_header, body_rcv}`,
`wasyncore.readwrite`.
"""

from __future__ import annotations

import logging
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.buffers import OverflowableBuffer, ReadOnlyFileBasedBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver, FixedStreamReceiver
from waitress.server import TcpWSGIServer
from waitress.utilities import InternalServerError, build_http_date

from isoruntime.contract.answer import Answer
from isoruntime.contract.http import BODILESS
from isoruntime.frontend.heads import FirstLine, Known, KnownLines, Notes
from isoruntime.loop import Loop
from isoruntime.typed import Any, Final
from isoruntime.wire.pipes import Body, EventFile

#: The platform reuses connections that were idle for long, and reports a closed one
#: as "Process exited unexpectedly" (fc-contract.md 2.4).
_KEEP_ALIVE_S: Final = 24 * 3600
_UPKEEP_S: Final = 60.0
#: How long a refused client may go on sending before the connection is cut.
_LINGER_S: Final = 2.0
#: A request that stays incomplete without a further byte is given up after so long.
_STUCK_S: Final = 120.0
#: The platform's own limit is 8 KB; proxies in front of other deployments add theirs.
_MAX_HEADER_BYTES: Final = 64 * 1024
#: Events up to here stay in memory, larger ones go to a file on their way.
_SPILL_BYTES: Final = 1 << 20
_RECV_BYTES: Final = 128 * 1024
#: What one connection may send in a turn, so that a fast reader of a large answer
#: does not hold up everybody else.
_SEND_BYTES: Final = 1 << 20
#: So much of an answer in pieces may wait for its reader before its worker has to.
_STREAM_BYTES: Final = 256 * 1024
#: A refused body up to this size is read and dropped, so that its sender gets to
#: read the answer; above it the connection is closed.
_MAX_DISCARD_BYTES: Final = 1 << 30
#: No length of a body has more.
_MAX_DIGITS: Final = 18
#: Never reached: waitress would wait on a lock for the buffer to empty.
_UNLIMITED: Final = 1 << 62


# A client that hangs up is no news for the operator.
logging.getLogger("waitress").setLevel(logging.WARNING)


class _Discarding(OverflowableBuffer):  # type: ignore[misc]
    """A body buffer that counts on, but stops keeping, beyond a limit."""

    def __init__(self, overflow: int, limit: int) -> None:
        super().__init__(overflow)
        self.limit = limit
        self.received = 0

    @property
    def is_over(self) -> bool:
        """Whether the body is larger than the limit."""
        return self.received > self.limit

    def append(self, data: bytes) -> None:
        """Keep the bytes, unless there are too many of them already."""
        self.received += len(data)
        if self.received <= self.limit:
            super().append(data)


_known_lines = KnownLines()


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """waitress's parser with a body limit that keeps the connection usable."""

    # What a request has that was not understood as far as its first line.
    command = ""
    path = ""
    #: a body that came along with its head
    _body = b""
    #: the head that `_parse_known` has read
    _known = b""
    #: what was worked out from these headers, but for those that every request has anew
    notes: Notes

    # waitress declares these without types.
    body_rcv: Any
    completed: bool
    content_length: int

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the head; then replace where the body is going to be kept."""
        if not self._parse_known(header_plus):
            self._parse_anew(header_plus)
        if self.body_rcv is None and not self.content_length:
            return
        limit = self.adj.max_event_bytes
        buffer = _Discarding(self.adj.inbuf_overflow, limit)
        if self.chunked:
            self.body_rcv = ChunkedReceiver(buffer)
        else:
            if self.content_length > limit:
                buffer.received = limit  # drop it from the first byte on
            self.body_rcv = FixedStreamReceiver(self.content_length, buffer)
        if self.is_too_large:
            # A client that asks first is told at once.
            self.expect_continue = False

    def take_whole(self, data: bytes) -> bool:
        """Take in a usual request that is all there; return whether it was one.

        That is nearly every one: a head whose lines are known, its body behind it, and
        nothing else. For any other `received` is to be called, as if nothing had been.
        """
        known = _known_lines.read(data)
        if known is None:
            return False
        size_bytes = known[-1]
        if size_bytes >= self.adj.max_request_header_size or not self._adopt(known):
            return False
        length = self.content_length
        if len(data) - size_bytes != length or length > self.adj.max_event_bytes:
            self._known = data[:size_bytes]
            return False
        self._body = data[size_bytes:]
        self.completed = self.headers_finished = True
        return True

    def _parse_known(self, head: bytes) -> bool:
        """Do as waitress does for the usual request; return whether this is one."""
        if head == self._known:
            # It came before its body.
            return True
        known = _known_lines.read(head)
        return known is not None and known[-1] == len(head) and self._adopt(known)

    def _adopt(self, known: Known) -> bool:
        """Be the request that has this head; return whether that is a usual one."""
        first, headers, notes, _ = known
        length = headers.get("CONTENT_LENGTH", "0")
        if not (length.isascii() and length.isdigit() and len(length) <= _MAX_DIGITS):
            return False
        self.headers, self.notes = headers, notes
        (
            self.command,
            self.request_uri,
            self.proxy_scheme,
            self.proxy_netloc,
            self.path,
            self.query,
            self.fragment,
        ) = first
        self.url_scheme = self.adj.url_scheme
        self.version = "1.1"
        connection = headers.get("CONNECTION")
        self.connection_close = connection is not None and connection.lower() == "close"
        self.content_length = int(length)
        return True

    def _parse_anew(self, head: bytes) -> None:
        self.notes = {}
        try:
            super().parse_header(head)
        except ValueError:
            # More digits than Python turns into a number.
            raise ParsingError("Content-Length is invalid") from None
        if self.version == "1.1":
            said = FirstLine._make(getattr(self, name) for name in FirstLine._fields)
            _known_lines.learn(head, said)

    @property
    def is_too_large(self) -> bool:
        """Whether the body is over the limit, as far as is known."""
        if self.body_rcv is None:
            return False
        buffer: _Discarding = self.body_rcv.getbuf()
        return self.content_length > buffer.limit or buffer.is_over

    def received(self, data: bytes) -> int:
        """Take in bytes; do not wait for the rest of a hopeless body."""
        try:
            consumed: int = super().received(data)
        except OSError as error:
            # The file a large event is spilled to, on a disk that is full.
            text = f"The event cannot be stored: {error.strerror}"
            self.error = InternalServerError(text)
            self.completed = True
            return len(data)
        receiver = self.body_rcv
        if receiver is not None and not self.completed and self.is_too_large:
            asked_first = self.headers.get("EXPECT", "").lower() == "100-continue"
            hopeless = max(self.content_length, receiver.getbuf().received)
            if asked_first or hopeless > _MAX_DISCARD_BYTES:
                self.completed = True
                self.connection_close = True
        return consumed

    def event(self) -> Body:
        """Return the body: bytes, or the file waitress has spilled it to."""
        if self.body_rcv is None:
            return self._body
        buffer = self.body_rcv.getbuf()
        if buffer.buf is None:
            return bytes(buffer.strbuf)
        if buffer.overflowed:
            file = buffer.getfile()
            file.flush()
            return EventFile(file.fileno(), len(buffer))
        value: bytes = buffer.getfile().getvalue()
        return value


class _Memory(ReadOnlyFileBasedBuffer):  # type: ignore[misc]
    """A large answer as an output buffer: sent from where it is, never copied."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data)
        self.remain = len(self._data)

    def __len__(self) -> int:
        return self.remain

    def get(self, numbytes: int = -1, skip: bool = False) -> memoryview:
        """Return the next bytes."""
        end = len(self._data) if numbytes < 0 else numbytes
        return self._data[:end]

    def skip(self, numbytes: int, allow_prune: int = 0) -> None:
        """Forget bytes that were sent."""
        self._data = self._data[numbytes:]
        self.remain = len(self._data)

    def close(self) -> None:
        """Let go of the answer."""
        self._data = memoryview(b"")
        self.remain = 0


class AnswerTask:
    """What `HTTPChannel.service` runs: writes the answer that is there already."""

    wrote_header = True
    close_on_finish = False

    def __init__(self, channel: Channel, request: Parser) -> None:
        self._channel = channel
        self.request = request

    def service(self) -> None:
        """Write head and body, in one system call if they are small."""
        channel = self._channel
        if channel.body is not None:
            self.close_on_finish = channel.end_body(self.request)
            return
        answer = channel.answer
        channel.answer = None
        if answer is None:
            self.close_on_finish = True
            return
        request = self.request
        self.close_on_finish = answer.close or request.connection_close
        channel.has_unread = request.error is not None or request.is_too_large
        head = _head_of(answer, request, self.close_on_finish)
        body = b"" if request.command == "HEAD" else answer.body
        if len(body) <= _RECV_BYTES:
            channel.write_soon(head + body)
        else:
            channel.write_soon(head)
            channel.write_soon(_Memory(body))


_REASONS: Final = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    301: "Moved Permanently",
    302: "Found",
    303: "See Other",
    304: "Not Modified",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class _Beginnings:
    """How heads begin, up to their `Date`, put together once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._date = ""
        self._known: dict[tuple[str, int, str, str], str] = {}

    def of(self, version: str, status: int, reason: str, content_type: str) -> str:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = build_http_date(second)
            self._known.clear()
        key = version, status, reason, content_type
        known = self._known.get(key)
        if known is None:
            phrase = reason or _REASONS.get(status, "Unknown")
            known = f"HTTP/{version} {status} {phrase}\r\nDate: {self._date}\r\n"
            if content_type:
                known += f"Content-Type: {content_type}\r\n"
            self._known[key] = known
        return known


_beginnings = _Beginnings()


def _head_of(
    answer: Answer, request: Parser, close: bool, framing: str | None = None
) -> bytes:
    """Return all of an answer but its body.

    `framing` says how the body's end is told where that is not by its length.
    """
    version = "1.0" if request.version == "1.0" else "1.1"
    status = answer.status
    head = _beginnings.of(version, status, answer.reason, answer.content_type)
    if framing is not None:
        head += f"{framing}\r\n" if framing else ""
    elif status not in BODILESS:
        length = len(answer.body)
        if request.command == "HEAD" and answer.length >= 0:
            length = answer.length
        head += f"Content-Length: {length}\r\n"
    for name, value in answer.headers:
        head += f"{name}: {value}\r\n"
    if close:
        head += "Connection: close\r\n"
    elif version == "1.0":
        head += "Connection: keep-alive\r\n"
    return (head + "\r\n").encode("latin-1")


class _Body:
    """The body of an answer that is sent while it comes, and how its end is told."""

    __slots__ = ("_left", "close", "framing", "is_chunked", "is_silent")

    def __init__(self, answer: Answer, request: Parser) -> None:
        self.close = answer.close or request.connection_close
        #: not a byte of it is sent
        self.is_silent = request.command == "HEAD" or answer.status in BODILESS
        #: bytes that were announced and have not come; -1 where none were
        self._left = answer.length
        self.is_chunked = False
        self.framing = ""
        if self.is_silent:
            # A HEAD's answer says what a GET's would have.
            self._left = -1
            if answer.length >= 0 and answer.status not in BODILESS:
                self.framing = f"Content-Length: {answer.length}"
        elif answer.length >= 0:
            self.framing = f"Content-Length: {answer.length}"
        elif request.version == "1.0":
            # Its end is the connection's.
            self.close = True
        else:
            self.is_chunked = True
            self.framing = "Transfer-Encoding: chunked"

    def piece(self, data: bytes | bytearray) -> list[bytes | bytearray]:
        """Return what is to be written for a piece of the body."""
        if self.is_silent or not data:
            return []
        if self.is_chunked:
            return [b"%x\r\n" % len(data), data, b"\r\n"]
        if self._left >= 0:
            # More than was announced would be taken for the next answer.
            data = data[: self._left]
            self._left -= len(data)
        return [data]

    @property
    def is_whole(self) -> bool:
        """Whether all has come that was announced."""
        return self._left <= 0


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that is answered when the answer is there."""

    task_class = AnswerTask
    error_task_class = AnswerTask
    parser_class = Parser
    request: Any
    requests: list[Any]
    #: set for the time between the outcome and its writing
    answer: Answer | None = None
    exchange: Exchange | None = None
    #: of an answer that is being sent while it comes
    body: _Body | None = None
    _sent = 0

    #: set once all is sent that will be, and the client may still be sending
    is_lingering = False
    #: set where an answer was given without reading all of the request
    has_unread = False

    def handle_write(self) -> None:
        """Send more of what is buffered."""
        self._sent = 0
        if self.close_when_flushed and self.has_unread and not self.total_outbufs_len:
            self._linger()
            return
        super().handle_write()
        exchange = self.exchange
        if self.body is not None and exchange is not None:
            exchange.relieve(self.total_outbufs_len)
        if self.postponed and not self.total_outbufs_len:
            self.postponed = False
            self.server.loop.call_soon(self.begin_next)

    #: a pipelined request that waits for the last answer to be read
    postponed = False

    def _linger(self) -> None:
        """Close our side only, and read on until the client closes its own.

        Closing a socket that has unread input resets the connection, and the client
        would lose the answer that says what was wrong.
        """
        self.close_when_flushed = False
        self.is_lingering = True
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.handle_close()
            return
        self.server.loop.call_later(_LINGER_S, self._stop_lingering)

    def _stop_lingering(self) -> None:
        if self._fileno is not None:
            self.handle_close()

    def readable(self) -> bool:
        """Return whether input is wanted."""
        return self.is_lingering or bool(super().readable())

    def handle_read(self) -> None:
        """Take in what there is to read."""
        try:
            data = self.socket.recv(_RECV_BYTES)
        except OSError:
            # It will be met again, where it is dealt with.
            super().handle_read()
            return
        if data:
            self.last_activity = time.time()
            self.received(data)
        else:
            self.handle_close()
            self.connected = False

    # A connection neither accepts others nor is it being made.
    handle_read_event = handle_read

    def received(self, data: bytes) -> bool:
        """Take in what was received, or drop it if nobody wants it any more."""
        if self.is_lingering:
            return False
        if not (
            self.request is not None
            or self.requests
            or self.will_close
            or self.close_when_flushed
        ):
            request = self.parser_class(self.adj)
            if request.take_whole(data):
                self.requests.append(request)
                loop = self.server.loop
                loop.call_soon(self.begin_next)
                if not self.total_outbufs_len:
                    # It can be read on for a second request, as before.
                    loop.leave(self._fileno)
                return True
            self.request = request
        return bool(super().received(data))

    def send(self, data: bytes | memoryview, do_close: bool = True) -> int:
        """Send as much as a connection may in one turn."""
        room = _SEND_BYTES - self._sent
        if room <= 0:
            return 0
        if len(data) > room:
            data = data[:room]
        sent: int = super().send(data, do_close=do_close)
        self._sent += sent
        return sent

    def begin_next(self) -> None:
        """Have the request that is first in line dealt with, unless another one is."""
        if not self.connected:
            # The client has gone; what it had asked for is not begun.
            for request in self.requests:
                request.close()
            self.requests = []
        if not self.requests or self.exchange is not None:
            return
        if self.total_outbufs_len:
            # A client that pipelines and does not read must not fill the memory.
            self.postponed = True
            return
        self.server.on_request(Exchange(self, self.requests[0]))

    def finish(self, answer: Answer) -> None:
        """Answer the request that is first in line."""
        self.exchange = None
        self._sent = 0
        if self._answer_at_once(answer):
            return
        self.answer = answer
        self.service()
        if self._fileno is not None:
            self.server.loop.touch(self._fileno)

    # An answer that is sent while it comes.

    def begin(self, answer: Answer) -> None:
        """Send the head of an answer to the request that is first in line."""
        request = self.requests[0]
        self._sent = 0
        self.body = body = _Body(answer, request)
        self.write_soon(_head_of(answer, request, body.close, body.framing))
        self.server.loop.touch(self._fileno)

    def send_piece(self, data: bytes | bytearray) -> bool:
        """Send a piece of the body; return whether there is room for another one."""
        assert self.body is not None
        self._sent = 0
        pieces = self.body.piece(data)
        if pieces:
            self.write_soon(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            self.server.loop.touch(self._fileno)
        return bool(self.total_outbufs_len < _STREAM_BYTES)

    def end_body(self, request: Parser) -> bool:
        """Tell the end of a body that is complete; return whether to close."""
        body, self.body = self.body, None
        assert body is not None
        if body.is_chunked and not body.is_silent:
            self.write_soon(b"0\r\n\r\n")
        return body.close or not body.is_whole

    def end(self) -> None:
        """Finish an answer that was sent while it came."""
        self.exchange = None
        self._sent = 0
        self.service()
        if self._fileno is not None:
            self.server.loop.touch(self._fileno)

    def cut_off(self) -> None:
        """End the connection so that the client sees that the answer is not whole."""
        self.exchange = None
        body, self.body = self.body, None
        for request in self.requests:
            request.close()
        self.requests = []
        if self._fileno is None or body is None:
            return
        if body.is_chunked or not body.is_whole:
            # What has come is delivered; the end is missing for all to see.
            self.close_when_flushed = True
            self.server.loop.touch(self._fileno)
            return
        # Only a reset tells that this was not the end.
        with suppress(OSError):
            self.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self.handle_close()

    def _answer_at_once(self, answer: Answer) -> bool:
        """Do what `service` does for the usual answer; return whether this is one.

        That is a small one to the only request there is, on a connection that stays and
        has nothing else to send. What the loop waits for on it is the same as before.
        """
        if len(self.requests) != 1 or self.request is not None or answer.close:
            return False
        request, body = self.requests[0], answer.body
        if (
            self.total_outbufs_len
            or not self.connected
            or self.will_close
            or self.close_when_flushed
            or request.error is not None
            or request.connection_close
            or request.command == "HEAD"
            or len(body) > _RECV_BYTES
            or request.is_too_large
        ):
            return False
        try:
            data = _head_of(answer, request, False) + body
            sent = self.socket.send(data)
        except (OSError, ValueError):
            # Whatever it is, it will be met again, where it is dealt with.
            return False
        if sent < len(data):
            self.write_soon(data[sent:])
            self.server.loop.touch(self._fileno)
        self.has_unread = False
        self.requests.clear()
        request.close()
        self.last_activity = time.time()
        return True

    def close_if_stuck(self) -> None:
        """Close the connection if its client stopped in the middle of a request."""
        is_midway = self.request is not None and not self.requests
        if is_midway and time.time() - self.last_activity > _STUCK_S:
            self.handle_close()

    def handle_close(self) -> None:
        """Tell whoever works for this client that it has gone."""
        super().handle_close()
        # The file of a half-sent event would stay open until it is collected.
        if self.request is not None:
            self.request.close()
            self.request = None
        server = self.server
        if server.in_connection_overflow and server.socket is not None:
            # There is room for one more now.
            server.loop.touch(server._fileno)
        exchange = self.exchange
        if exchange is not None:
            exchange.client_left()


class Exchange:
    """One request, and the duty to answer it exactly once."""

    __slots__ = (
        "_address",
        "_channel",
        "_is_congested",
        "on_client_left",
        "on_relief",
        "request",
    )

    def __init__(self, channel: Channel, request: Parser) -> None:
        self._channel: Channel | None = channel
        self.request = request
        self._address = channel.addr
        self.on_client_left: Callable[[], object] | None = None
        #: called when there is room again for pieces of an answer
        self.on_relief: Callable[[], object] | None = None
        self._is_congested = False
        channel.exchange = self

    @property
    def client(self) -> str:
        """The address of who asks, as far as the socket knows."""
        address = self._address
        return str(address[0]) if isinstance(address, tuple) else ""

    def answer(self, answer: Answer) -> None:
        """Send the answer; a second one is ignored."""
        channel, self._channel = self._channel, None
        self.on_client_left = None
        if channel is not None:
            channel.finish(answer)

    # In pieces: `begin`, `send` …, and at last `end` or `cut_off`.

    def begin(self, answer: Answer) -> None:
        """Send an answer's head; its own body is not looked at."""
        if self._channel is not None and self._channel.connected:
            self._channel.begin(answer)

    def send(self, data: bytes | bytearray) -> bool:
        """Send a piece of the body.

        Return whether there is room for the next one; `on_relief` tells when there is.
        """
        if self._channel is None or not self._channel.connected:
            return True
        self._is_congested = not self._channel.send_piece(data)
        return not self._is_congested

    def relieve(self, waiting_bytes: int) -> None:
        """Ask for more, if there is room again."""
        if self._is_congested and waiting_bytes < _STREAM_BYTES // 2:
            self._is_congested = False
            if self.on_relief is not None:
                self.on_relief()

    def end(self) -> None:
        """Tell that the body is complete."""
        channel, self._channel = self._channel, None
        self.on_client_left = self.on_relief = None
        if channel is not None:
            channel.end()

    def cut_off(self) -> None:
        """Have the client see that the rest of the body is never going to come."""
        channel, self._channel = self._channel, None
        self.on_client_left = self.on_relief = None
        if channel is not None:
            channel.cut_off()

    def client_left(self) -> None:
        """Hand the news on, once."""
        callback, self.on_client_left = self.on_client_left, None
        if callback is not None:
            callback()


class _TaskDispatcher:
    """Takes complete requests from waitress, for after this turn's events."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def add_task(self, channel: Channel) -> None:
        """Note a request; called with the channel's lock held."""
        self._loop.call_soon(channel.begin_next)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """Do nothing: there are no threads."""
        return False


class _Adjustments(Adjustments):  # type: ignore[misc]
    # waitress would look its default address up, whatever sockets it is given.
    listen: tuple[str, ...] = ()
    max_event_bytes: int


class _Server(TcpWSGIServer):  # type: ignore[misc]
    channel_class = Channel
    loop: Loop
    on_request: Callable[[Exchange], object]

    def pull_trigger(self) -> None:
        """Do nothing: waitress wakes its loop from threads, and there are none."""


class HttpServer:
    """waitress's server objects on our loop."""

    def __init__(
        self,
        loop: Loop,
        sockets: Iterable[socket.socket],
        on_request: Callable[[Exchange], object],
        *,
        max_event_bytes: int,
        connection_limit: int,
    ) -> None:
        self._loop = loop
        loop.dispatch = wasyncore.readwrite
        self._on_request = on_request
        dispatcher = _TaskDispatcher(loop)
        adjustments = _Adjustments(
            sockets=list(sockets),
            channel_timeout=_KEEP_ALIVE_S,
            cleanup_interval=int(_UPKEEP_S),
            connection_limit=connection_limit,
            channel_request_lookahead=1,
            max_request_header_size=_MAX_HEADER_BYTES,
            max_request_body_size=_UNLIMITED,
            inbuf_overflow=_SPILL_BYTES,
            outbuf_overflow=_UNLIMITED,
            outbuf_high_watermark=_UNLIMITED,
            recv_bytes=_RECV_BYTES,
            clear_untrusted_proxy_headers=False,
            log_socket_errors=False,
            ident=None,
        )
        adjustments.max_event_bytes = max_event_bytes
        self._servers = [
            self._serve(sock, adjustments, dispatcher) for sock in adjustments.sockets
        ]
        self._upkeep()

    def _serve(
        self,
        sock: socket.socket,
        adjustments: _Adjustments,
        dispatcher: _TaskDispatcher,
    ) -> _Server:
        server = _Server(
            _no_application,
            self._loop.connections,
            True,
            sock,
            dispatcher=dispatcher,
            adj=adjustments,
            bind_socket=False,
            sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
        )
        server.loop = self._loop
        server.on_request = self._on_request
        return server

    def _upkeep(self) -> None:
        # `readable()` of a server is where waitress closes connections that were
        # idle for too long, and notices that there is room for new ones.
        for server in self._servers:
            if server.socket is not None:
                self._loop.touch(server._fileno)
            for channel in list(server.active_channels.values()):
                channel.close_if_stuck()
        self._loop.call_later(_UPKEEP_S, self._upkeep)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return sum(len(server.active_channels) for server in self._servers)

    def stop_listening(self) -> None:
        """Refuse new connections; those that are there go on."""
        for server in self._servers:
            if server.socket is not None:
                server.close()

    @property
    def has_unsent(self) -> bool:
        """Whether an answer is still on its way to a client."""
        return any(
            channel.total_outbufs_len
            for server in self._servers
            for channel in server.active_channels.values()
        )

    def close_connections(self) -> None:
        """Close every connection, whatever is on it."""
        for server in self._servers:
            for channel in list(server.active_channels.values()):
                channel.handle_close()


def _no_application(environ: Any, start_response: Any) -> Iterable[bytes]:
    raise AssertionError("requests are dispatched, not handed to an application")


# waitress's own constants are those of poll; the loop hands on those of epoll.
assert (select.EPOLLIN, select.EPOLLOUT) == (select.POLLIN, select.POLLOUT)
