"""HTTP/1.1 responses, read from the bytes of one connection (RFC 9112).

Nothing here touches a socket: bytes become a head and pieces of a body. Python's own
client is not used because it takes longer over a head than many a server over the whole
answer, and because a worker has to see pieces as they come.
"""

from __future__ import annotations

from collections.abc import Sequence

from isoruntime.contract.http import BODILESS
from isoruntime.typed import Final, NamedTuple

#: More than any server has a reason to send; its own limit is the front end's.
_MAX_HEAD_BYTES: Final = 256 * 1024
_MAX_CHUNK_LINE_BYTES: Final = 4 * 1024
_HEX_DIGITS: Final = b"0123456789abcdefABCDEF"
#: More than there are bytes on any machine.
_MAX_LENGTH_DIGITS: Final = 18


class Malformed(Exception):
    """The bytes are no HTTP response, or no whole one."""


class Head(NamedTuple):
    """What the head of a response says, apart from the request it answers."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    #: whether another request may follow on the connection
    keeps_alive: bool
    #: length of the body, or how else its end is known
    length: int


#: Lengths of bodies that are cut into chunks, and of those that end with the connection.
_CHUNKED: Final = -1
_UNTIL_CLOSE: Final = -2

#: Heads hardly differ between the answers of one server, so they are taken apart once.
_MAX_KNOWN: Final = 64
_MAX_KNOWN_BYTES: Final = 4 * 1024
_known: Final[dict[bytes, Head]] = {}


class ResponseReader:
    """Reads one response to one request."""

    __slots__ = (
        "_buffer",
        "_is_head_request",
        "_left",
        "_read_body",
        "has_begun",
        "headers",
        "is_complete",
        "keeps_alive",
        "reason",
        "status",
    )

    def __init__(self, method: str) -> None:
        self._is_head_request = method == "HEAD"
        self._buffer = bytearray()
        #: bytes that a body or a chunk lacks; -1 between chunks, -2 among trailers
        self._left = 0
        self._read_body = self._read_until_close
        #: whether a byte of it has come
        self.has_begun = False
        #: 0 until the head is there
        self.status: int = 0
        self.reason = ""
        self.headers: tuple[tuple[str, str], ...] = ()
        self.is_complete = False
        #: whether another request may follow on the connection
        self.keeps_alive = False

    def feed(self, data: bytes) -> bytes:
        """Take in bytes; return what they hold of the body.

        Raises:
            Malformed: this is no response.
        """
        if not self.has_begun:
            self.has_begun = True
            # The usual case, all of it in one read, copies nothing twice.
            head, found, body = data.partition(b"\r\n\r\n")
            known = _known.get(head) if found else None
            if (
                known is not None
                and known.length == len(body)
                and known.status >= 200
                and not self._is_bodiless(known.status)
            ):
                self._begin(known)
                self.is_complete = True
                return body
        # An end of the head that was not there yet may have begun.
        searched = max(0, len(self._buffer) - 3)
        self._buffer += data
        while self.status == 0:
            if not self._read_head(searched):
                return b""
            searched = 0
        body = b"" if self.is_complete else self._read_body()
        if self.is_complete and self._buffer:
            # What was not asked for; nobody is to take it for the next answer.
            self.keeps_alive = False
        return body

    def end(self) -> None:
        """Take note that the connection has ended.

        Raises:
            Malformed: something is missing.
        """
        self.keeps_alive = False
        if self.status and self._read_body == self._read_until_close:
            self.is_complete = True
        if not self.is_complete:
            where = "in the middle of its answer" if self.has_begun else "unanswered"
            raise Malformed(f"it closed the connection {where}")

    # The head.

    def _read_head(self, searched: int) -> bool:
        """Read a head if it is there; return whether one was, final or not."""
        end = self._buffer.find(b"\r\n\r\n", searched)
        if end < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise Malformed("its headers have no end")
            return False
        head = read_head(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        # Continue, Early Hints: the answer proper is still to come.
        if head.status >= 200:
            self._begin(head)
            self._expect_body(head.length)
        return True

    def _begin(self, head: Head) -> None:
        self.status, self.reason, self.headers = head[:3]
        self.keeps_alive = head.keeps_alive

    def _is_bodiless(self, status: int) -> bool:
        return self._is_head_request or status in BODILESS

    def _expect_body(self, length: int) -> None:
        if self._is_bodiless(self.status):
            self.is_complete = True
        elif length >= 0:
            self._left = length
            self.is_complete = length == 0
            self._read_body = self._read_counted
        elif length == _CHUNKED:
            self._left = -1
            self._read_body = self._read_chunks
        else:
            self.keeps_alive = False

    # The body.

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _read_until_close(self) -> bytes:
        return self._take(len(self._buffer))

    def _read_counted(self) -> bytes:
        body = self._take(self._left)
        self._left -= len(body)
        self.is_complete = self._left == 0
        return body

    def _read_chunks(self) -> bytes:
        pieces = []
        while not self.is_complete:
            if self._left > 0:
                piece = self._take(self._left)
                if not piece:
                    break
                self._left -= len(piece)
                pieces.append(piece)
                continue
            line = self._line()
            if line is None:
                break
            self._read_chunk_line(line)
        return b"".join(pieces)

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_CHUNK_LINE_BYTES:
                raise Malformed("a chunk's size has no end")
            return None
        line = self._take(end + 2)
        return line[:-2]

    def _read_chunk_line(self, line: bytes) -> None:
        if self._left == 0:
            # What ends a chunk's data.
            if line:
                raise Malformed("a chunk is longer than it said")
            self._left = -1
        elif self._left == -2:
            # Trailers; an empty line ends them.
            self.is_complete = not line
        else:
            size = line.partition(b";")[0].strip()
            if not size or size.strip(_HEX_DIGITS):
                raise Malformed(f"a chunk has the size {bytes(size[:32])!r}")
            # After the last one come the trailers.
            self._left = int(size, 16) or -2


def read_head(head: bytes) -> Head:
    """Return what a head says, without the empty line that ends it.

    Raises:
        Malformed: nothing that can be understood, or that was not asked for.
    """
    known = _known.get(head)
    if known is None:
        known = _take_apart(head)
        if len(head) <= _MAX_KNOWN_BYTES:
            if len(_known) >= _MAX_KNOWN:
                _known.clear()
            _known[head] = known
    return known


def _take_apart(head: bytes) -> Head:
    lines = head.decode("latin-1").split("\r\n")
    version, status, reason = _status_line(lines[0])
    headers = tuple(_header(line) for line in lines[1:])
    if status == 101:
        raise Malformed("it switches to a protocol that nobody asked for")
    fields = _joined(headers)
    connection = fields.get("connection", "").lower()
    keeps_alive = (
        "keep-alive" in connection if version == "1.0" else "close" not in connection
    )
    length = _UNTIL_CLOSE
    if "transfer-encoding" in fields:
        length = _CHUNKED
        encoding = fields["transfer-encoding"]
        if encoding.lower() != "chunked":
            raise Malformed(
                f"it uses a transfer encoding that nobody asked for: {encoding!r}"
            )
        # The chunks say how long it is, and nothing else is to be passed on.
        headers = tuple(pair for pair in headers if pair[0].lower() != "content-length")
    elif "content-length" in fields:
        length = _length(fields["content-length"])
    return Head(status, reason, headers, keeps_alive, length)


def _status_line(line: str) -> tuple[str, int, str]:
    version, _, rest = line.partition(" ")
    code, _, reason = rest.partition(" ")
    is_status = len(code) == 3 and code.isascii() and code.isdigit() and code >= "100"
    if version not in ("HTTP/1.1", "HTTP/1.0") or not is_status:
        raise Malformed(f"it does not speak HTTP: {line[:80]!r}")
    return version[5:], int(code), reason.strip()


def _joined(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the values by lower-case names; several of one are one list (RFC 9110, 5.3)."""
    fields: dict[str, str] = {}
    for name, value in headers:
        lowered = name.lower()
        fields[lowered] = f"{fields[lowered]}, {value}" if lowered in fields else value
    return fields


def _length(value: str) -> int:
    # Said twice it is still one length; two of them are none.
    lengths = {said.strip() for said in value.split(",")}
    length = lengths.pop()
    is_number = length.isascii() and length.isdigit()
    if lengths or not is_number or len(length) > _MAX_LENGTH_DIGITS:
        raise Malformed(f"its Content-Length is {value[:40]!r}")
    return int(length)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or name != name.strip():
        raise Malformed(f"a line is no header: {line[:80]!r}")
    return name, value.strip(" \t")
