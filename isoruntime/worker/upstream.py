"""An HTTP server of the user's, started beside the worker and spoken to by it.

The server was written for the platform: it listens on a port that a variable names, and
answers `POST /invoke`. It stays as it is. Each worker has one of its own, so that a crash
costs one caller, a timeout ends what hangs, and output belongs to an invocation.

A worker stands for its server: when that ends, however it does, the worker ends in the
same way, and is judged and replaced like any other.
"""

from __future__ import annotations

import os
import select
import socket
import time

from isoruntime.contract.encoding import fault_body
from isoruntime.contract.http import Request, encode_head
from isoruntime.errors import ExitStatus
from isoruntime.typed import TYPE_CHECKING, Final
from isoruntime.wire.frames import Kind
from isoruntime.worker import program
from isoruntime.worker.child import Child
from isoruntime.worker.connection import Connection
from isoruntime.worker.endings import EndedLike
from isoruntime.worker.http1 import Malformed, ResponseReader
from isoruntime.worker.load import LoadError
from isoruntime.worker.ports import (
    NoNetwork,
    PortsTaken,
    listening_ports,
    private_port,
)

if TYPE_CHECKING:
    from isoruntime.wire.order import LoadOrder
    from isoruntime.worker.functions import Call, Reply

_PORT: Final = "{port}"
_SOCKET: Final = "{socket}"
#: Who reads it: the platform's servers the first two, everybody else's the last.
_PORT_VARIABLES: Final = ("FC_CUSTOM_LISTEN_PORT", "FC_SERVER_PORT", "PORT")
#: What the name of a socket may take (unix(7)).
_MAX_SOCKET_PATH: Final = 107
#: Node's `localhost` is the second one.
_ADDRESSES: Final = ("127.0.0.1", "::1")

_FIRST_LOOK_S: Final = 0.002
_LONGEST_LOOK_S: Final = 0.05
#: A server that does not listen where it was told to is looked for so often.
_SEARCH_S: Final = 0.1
_CONNECT_S: Final = 5.0
#: From the end of a server's connection to its own end, if it died.
_DEATH_S: Final = 0.2
_READ_BYTES: Final = 128 * 1024

_ERROR_TYPE: Final = "UpstreamError"


class Upstream:
    """The server of one worker."""

    def __init__(self, order: LoadOrder) -> None:
        """Find the program.

        Raises:
            LoadError: it is not there, or cannot be run.
        """
        self._argv = order.upstream
        self._code_dir = order.code_dir
        self._path = program.find(self._argv[0])
        self._address: tuple[str, int] | str = ""
        self._port_lock: socket.socket | None = None
        self._child: Child
        self._connection: Connection

    # Its start.

    def start(self) -> int:
        """Start it and wait until it listens; return its process id.

        Raises:
            LoadError: it ended before it did.
        """
        port, argv = self._place()
        environ = dict(os.environ)
        if port:
            environ.update(dict.fromkeys(_PORT_VARIABLES, str(port)))
        # A pipe is no terminal, and what Python keeps back there would come too late.
        environ.setdefault("PYTHONUNBUFFERED", "1")
        environ.setdefault("FC_FUNC_CODE_PATH", self._code_dir)
        self._child = Child(program.start(self._path, argv, environ, 0, 1))
        self._wait_until_it_listens(port)
        self._connection = Connection(self._connect, self._child)
        return self._child.pid

    def _place(self) -> tuple[int, list[str]]:
        """Choose where it listens; return the port, if it is one, and its arguments."""
        if any(_SOCKET in word for word in self._argv):
            folder = os.environ.get("TMPDIR", "/tmp")  # noqa: S108 - where workers have no folder of their own
            path = f"{folder}/upstream-{os.getpid()}.sock"
            if len(path) > _MAX_SOCKET_PATH:
                raise LoadError(
                    "UserCodeError",
                    f"{path} is too long for the name of a socket: set a shorter TMPDIR",
                    [],
                )
            self._address = path
            return 0, [word.replace(_SOCKET, path) for word in self._argv]
        try:
            port, self._port_lock = private_port()
        except NoNetwork:
            raise LoadError(
                "UserCodeError",
                "There is no network for the server to listen on (--network none): "
                "have it listen on the socket {socket}, or allow --network host",
                [],
            ) from None
        except PortsTaken as error:
            raise LoadError("UserCodeError", str(error), []) from None
        self._address = (_ADDRESSES[0], port)
        return port, [word.replace(_PORT, str(port)) for word in self._argv]

    def _wait_until_it_listens(self, port: int) -> None:
        wait_s, searched_at = _FIRST_LOOK_S, time.monotonic()
        while not self._listens():
            if self._child.ends_within(wait_s):
                raise LoadError("UserCodeError", self._early_end(port), [])
            wait_s = min(wait_s * 1.5, _LONGEST_LOOK_S)
            if port and time.monotonic() - searched_at > _SEARCH_S:
                searched_at = time.monotonic()
                self._look_elsewhere(port)

    def _listens(self) -> bool:
        try:
            self._connect().close()
        except OSError:
            return False
        return True

    def _connect(self) -> socket.socket:
        if isinstance(self._address, str):
            made = socket.socket(socket.AF_UNIX)
            try:
                made.connect(self._address)
            except OSError:
                made.close()
                raise
            return made
        host, port = self._address
        try:
            return socket.create_connection((host, port), _CONNECT_S)
        except OSError:
            other = _ADDRESSES[host == _ADDRESSES[0]]
            made = socket.create_connection((other, port), _CONNECT_S)
            self._address = (other, port)
            return made

    def _look_elsewhere(self, told: int) -> None:
        """Take a port that it listens on although it was told another."""
        found = listening_ports(self._child.pid)
        if found and told not in found:
            self._address = (_ADDRESSES[0], min(found))

    def _early_end(self, port: int) -> str:
        how = ExitStatus.from_returncode(self._child.status)
        where = f"port {port}" if port else f"its socket {self._address}"
        message = f"The server {self._argv[0]} {how} before it listened on {where}"
        if how.code == 0:
            message += ": it has to stay in the foreground"
        return message

    # Between requests.

    def wait_for_request(self, fd: int) -> None:
        """Wait until there is something to read at `fd`.

        Raises:
            EndedLike: the server has ended first.
        """
        if self._connection.wait_for_request(fd):
            raise EndedLike(self._child.status)

    # A request.

    def run(self, call: Call) -> Reply:
        """Have the server answer.

        Raises:
            EndedLike: it has ended instead.
        """
        request, connection = Request.decode(call.http_request), self._connection
        reader = ResponseReader(request.method)
        may_be_kept = False
        try:
            reply, may_be_kept = self._answer(call, request, reader)
        except (Malformed, OSError, ValueError) as error:
            connection.lose(unanswered=not reader.has_begun)
            if self._child.ends_within(_DEATH_S):
                raise EndedLike(self._child.status) from None
            message = f"The server failed to answer: {error}"
            body = fault_body(_ERROR_TYPE, message, [])
            return Kind.FAULT, _ERROR_TYPE.encode(), body
        else:
            return reply
        finally:
            if may_be_kept:
                connection.keep()
            else:
                connection.drop()

    def _answer(
        self, call: Call, request: Request, reader: ResponseReader
    ) -> tuple[Reply, bool]:
        """Return the reply, and whether the connection can be used again."""
        connection, poll = self._connection.open(), self._connection.answering
        answer = _Answer(call, request, reader)
        outgoing = _Outgoing(connection, _head_of(call, request), call.body)
        if not outgoing.is_sent:
            poll.modify(connection, select.POLLIN | select.POLLOUT)
        while not (reader.is_complete or answer.is_over):
            ready = dict(poll.poll(self._child.longest_poll_ms))
            events = ready.get(connection.fileno(), 0)
            if events & select.POLLOUT and outgoing.send():
                poll.modify(connection, select.POLLIN)
            if events & ~select.POLLOUT:
                answer.take(connection)
            elif self._child.has_ended(ready):
                # Not before the last bytes were read that it may have sent.
                raise EndedLike(self._child.status)
        is_over = reader.is_complete and outgoing.is_sent
        return answer.reply(), is_over and reader.keeps_alive


class _Outgoing:
    """A request on its way to the server."""

    def __init__(
        self, connection: socket.socket, head: bytes, body: bytes | bytearray
    ) -> None:
        self._connection = connection
        small = len(body) <= _READ_BYTES
        self._rest = [memoryview(head + body if small else head)]
        if not small:
            self._rest.append(memoryview(body))
        #: whether all of it has been taken
        self.is_sent = False
        self.send()

    def send(self) -> bool:
        """Send as much as goes; return whether nothing more is to be sent."""
        while self._rest:
            try:
                sent = self._connection.send(self._rest[0])
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                # A server may refuse a body and say why: its answer counts.
                self._rest.clear()
                return True
            if sent == len(self._rest[0]):
                del self._rest[0]
            else:
                self._rest[0] = self._rest[0][sent:]
        self.is_sent = True
        return True


class _Answer:
    """The server's answer: whole if it comes at once, else in pieces as it comes."""

    def __init__(self, call: Call, request: Request, reader: ResponseReader) -> None:
        self._call = call
        self._may_stream = request.may_stream
        self._is_head = request.method == "HEAD"
        self._reader = reader
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._has_begun = False
        #: whether the rest of it is of no interest
        self.is_over = False

    def take(self, connection: socket.socket) -> None:
        """Read what there is."""
        try:
            data = connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        reader = self._reader
        if not data:
            reader.end()
            return
        piece = reader.feed(data)
        if piece:
            self._pieces.append(piece)
            self._bytes += len(piece)
        if self._bytes > self._call.max_response_bytes:
            self.is_over = True
        elif reader.status and self._may_stream and not reader.is_complete:
            self._send_on()

    def _send_on(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._call.begin(self._head(with_length=True))
        self._call.send(self._take_pieces())
        # Its client has gone; the server learns of it when we go as well.
        self.is_over = self._call.is_cancelled

    def _take_pieces(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        self._bytes = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _head(self, *, with_length: bool) -> bytes:
        reader = self._reader
        return encode_head(
            reader.status, reader.reason, reader.headers, with_length=with_length
        )

    def reply(self) -> Reply:
        """Return the frame that ends the answer."""
        if self._has_begun:
            self._call.send(self._take_pieces())
            return Kind.END, b"", b""
        # One that is too large is refused by its length, wherever it was cut.
        body = self._take_pieces()
        return Kind.RESPONSE, self._head(with_length=self._is_head), body


def _head_of(call: Call, request: Request) -> bytes:
    head = b"%b %b HTTP/1.1\r\n%b" % (
        request.method.encode("latin-1"),
        request.target.encode("latin-1"),
        request.fields,
    )
    if b"\r\nX-Fc-Request-Id: " not in head:
        head += b"X-Fc-Request-Id: %b\r\n" % call.request_id.encode("latin-1")
    if not request.may_stream:
        # An event or a hook, which some servers tell by this header alone.
        if b"\r\nX-Fc-Control-Path: " not in head:
            head += b"X-Fc-Control-Path: %b\r\n" % request.path.encode("latin-1")
        if b"\r\nContent-Type: " not in head:
            head += b"Content-Type: application/octet-stream\r\n"
    if b"\r\nHost: " not in head:
        head += b"Host: localhost\r\n"
    return head + b"\r\n"
