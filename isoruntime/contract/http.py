"""HTTP requests and responses of functions, as they cross a worker's pipes.

A request is one line of JSON behind the context, and below it its headers as they are
sent on; its body is the frame's body. A response's head is one JSON array in `meta`.
Both are pure data here: neither side trusts the other's text, and the front end judges
every head before it is sent.

Which headers a function may set is the platform's rule (fc-contract.md 2.3) where the
platform asks, and HTTP's own everywhere: what describes one connection, or the length
of what is sent, is for whoever sends it to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from isoruntime.typed import Any, Final, NamedTuple

#: What the headers of one response may take; the platform's own limit is 8 KB.
MAX_HEAD_BYTES: Final = 64 * 1024
#: About one connection, not about the answer (RFC 9110, 7.6.1).
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
#: Statuses whose answers have no body, and say no length of one.
BODILESS: Final = frozenset({204, 304})

# Said by the front end, whatever a function says.
_OURS: Final = HOP_BY_HOP | {"content-length", "date"}
# What else the platform does not take from a function.
_PLATFORMS: Final = frozenset({"server"})

_is_token: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}").fullmatch
_is_value: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
_is_reason: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,256}").fullmatch

#: Heads hardly differ between the answers of one function, so they are judged once.
_MAX_KNOWN: Final = 256
_MAX_KNOWN_BYTES: Final = 4 * 1024
_MAX_NAME: Final = 100


#: Made once: `json.dumps` makes one for every call that asks for no spaces.
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


class Request(NamedTuple):
    """An HTTP request without its body. `path` is unquoted, `target` is not."""

    method: str
    target: str
    path: str
    query: str
    scheme: str
    #: address of the client; empty if it is not known
    client: str
    #: whether the answer may be sent in pieces, as it comes
    may_stream: bool
    #: the headers as `fields_of` writes them: most servers get them as they are, and
    #: to write them in front is cheaper than to have every worker do so
    fields: bytes

    @classmethod
    def with_headers(
        cls,
        headers: Mapping[str, str],
        body_bytes: int,
        *,
        method: str,
        target: str,
        path: str,
        query: str = "",
        scheme: str = "http",
        client: str = "",
        may_stream: bool = False,
    ) -> Request:
        """Return a request with these headers and a body of so many bytes.

        Names of headers are as in CGI, upper case with underscores and without `HTTP_`.
        """
        says_length = (
            body_bytes or method not in ("GET", "HEAD") or "CONTENT_LENGTH" in headers
        )
        fields = fields_of(headers, body_bytes if says_length else None)
        return cls(method, target, path, query, scheme, client, may_stream, fields)

    def encode(self) -> bytes:
        """Return it as a line of JSON and the headers."""
        return _encode(self[:-1]).encode("ascii") + b"\n" + self.fields

    @classmethod
    def decode(cls, data: bytes) -> Request:
        """Read what `encode` wrote; nobody but the front end sends it."""
        about, _, fields = data.partition(b"\n")
        known = _requests.get(about)
        if known is None:
            known = json.loads(about)
            if len(about) <= _MAX_KNOWN_BYTES:
                if len(_requests) >= _MAX_KNOWN:
                    _requests.clear()
                _requests[about] = known
        return cls._make((*known, fields))

    def headers(self) -> dict[str, str]:
        """Return the headers by their names in CGI, values decoded as latin-1."""
        headers = {}
        for line in self.fields.decode("latin-1").split("\r\n")[:-1]:
            name, _, value = line.partition(": ")
            headers[_cgi_names.get(name) or _cgi_name(name)] = value
        return headers


#: All but the headers of requests that were made before: events and hooks are all alike.
_requests: Final[dict[bytes, list[Any]]] = {}


class ResponseHead(NamedTuple):
    """Status and headers of an answer, judged."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    content_type: str = ""
    #: what the function says the length of the body is; -1 if it does not
    length: int = -1
    #: what the function's `x-fc-status` says; empty if nothing of use
    fc_status: str = ""

    def headers_for(self, *, on_platform: bool) -> list[tuple[str, str]]:
        """Return what is passed on, apart from the content type."""
        return [
            pair for pair in self.headers if not (on_platform and _is_refused(*pair))
        ]


class Response:
    """An answer of a function that speaks HTTP."""

    __slots__ = ("body", "head", "is_streamed")

    def __init__(
        self,
        head: ResponseHead,
        body: bytes | bytearray = b"",
        *,
        is_streamed: bool = False,
    ) -> None:
        self.head = head
        self.body = body
        #: whether it has been sent already, while it came
        self.is_streamed = is_streamed

    def __repr__(self) -> str:
        return f"<Response {self.head.status} of {len(self.body)} bytes>"

    @property
    def is_failure(self) -> bool:
        """Whether a server that answers events says that this one failed.

        By `x-fc-status`, as the platform reads it, else by the status (2.1).
        """
        said = self.head.fc_status
        return said == "404" if said else self.head.status >= 400


#: What `encode_head` made of heads that were asked for before.
_encoded: Final[dict[tuple[object, ...], bytes]] = {}


def encode_head(
    status: int, reason: str, headers: Sequence[tuple[str, str]], *, with_length: bool
) -> bytes:
    """Return a response's head as a frame's `meta`.

    Headers that are not the function's to set are left out. Its length is kept where
    the body is not sent along `with_length`.

    Raises:
        ValueError: it is not fit to be sent; the text names what is wrong.
    """
    key = (status, reason, with_length, *headers)
    try:
        known = _encoded.get(key)
    except TypeError:
        # Lists for pairs, or what cannot be a header's name or value.
        return _encode_anew(status, reason, headers, with_length)
    if known is None:
        known = _encode_anew(status, reason, headers, with_length)
        if len(known) <= _MAX_KNOWN_BYTES:
            if len(_encoded) >= _MAX_KNOWN:
                _encoded.clear()
            _encoded[key] = known
    return known


def _encode_anew(
    status: int, reason: str, headers: Iterable[tuple[str, str]], with_length: bool
) -> bytes:
    kept = []
    size = 0
    for name, value in headers:
        problem = _problem(name, value)
        if problem:
            raise ValueError(problem)
        size += len(name) + len(value) + 4
        lowered = name.lower()
        if lowered not in _OURS or (with_length and lowered == "content-length"):
            kept.append((name, value))
    if size > MAX_HEAD_BYTES:
        raise ValueError(f"headers of {size} bytes, more than {MAX_HEAD_BYTES}")
    if not 200 <= status <= 999:
        raise ValueError(f"status {status} is none of a final answer")
    if not _is_reason(reason):
        raise ValueError(f"a reason phrase that is no text: {reason!r}")
    return _encode((status, reason, kept)).encode("ascii")


def _problem(name: object, value: object) -> str:
    if not isinstance(name, str) or not _is_token(name):
        return f"{name!r} is no name of a header"
    if not isinstance(value, str) or not _is_value(value):
        return f"header {name} has a value that is no header's: {value!r}"
    return ""


class ResponseHeads:
    """Judges heads as they come from a worker, each text once."""

    def __init__(self) -> None:
        self._known: dict[bytes, ResponseHead] = {}

    def read(self, meta: bytes) -> ResponseHead:
        """Return the head that `meta` holds.

        Raises:
            ValueError: nothing that may be sent to anybody.
        """
        head = self._known.get(meta)
        if head is None:
            head = _judge(meta)
            if len(meta) <= _MAX_KNOWN_BYTES:
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[meta] = head
        return head


def _judge(meta: bytes) -> ResponseHead:
    said = json.loads(meta)
    if not isinstance(said, list) or len(said) != 3:
        raise ValueError("no head of a response")
    status, reason, pairs = said
    if type(status) is not int or not 200 <= status <= 999:
        raise ValueError("no status of a final answer")
    if not isinstance(reason, str) or not _is_reason(reason):
        raise ValueError("no reason phrase")
    if not isinstance(pairs, list) or len(meta) > 2 * MAX_HEAD_BYTES:
        raise ValueError("no headers")
    return _sorted_out(status, reason, pairs)


def _sorted_out(status: int, reason: str, pairs: Sequence[object]) -> ResponseHead:
    content_type, length, fc_status = "", -1, ""
    kept: list[tuple[str, str]] = []
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or _problem(*pair):
            raise ValueError("no header")
        name, value = pair
        lowered = name.lower()
        if lowered == "content-length":
            length = int(value) if value.isascii() and value.isdigit() else -1
        elif lowered == "content-type":
            content_type = value
        elif lowered == "x-fc-status":
            fc_status = value if value in ("200", "404") else ""
        elif lowered not in _OURS and not lowered.startswith("x-fc-"):
            kept.append((name, value))
    return ResponseHead(status, reason, tuple(kept), content_type, length, fc_status)


def _is_refused(name: str, value: str) -> bool:
    lowered = name.lower()
    if lowered == "content-disposition":
        return value.strip().lower().startswith("attachment")
    return lowered in _PLATFORMS


def split_target(target: str) -> tuple[str, str]:
    """Return path and query of a request target, as they were sent."""
    path, _, query = target.partition("?")
    return path, query


def header_name(name: str) -> str:
    """Return a header's usual spelling for its name in CGI."""
    return name.replace("_", "-").title()


def fields_of(headers: Mapping[str, str], content_length: int | None) -> bytes:
    """Return the headers that may be passed on to another server, each a line's end behind it.

    Values are encoded as they were decoded, as latin-1, and what that has no letters
    for as UTF-8. The length is the one given, whatever the headers say.
    """
    lines = [
        f"{begin}{value}\r\n"
        for name, value in headers.items()
        if (
            begin := known
            if (known := _beginnings.get(name)) is not None
            else _beginning(name)
        )
    ]
    if content_length is not None:
        lines.append(f"Content-Length: {content_length}\r\n")
    text = "".join(lines)
    if text.count("\n") + text.count("\r") != 2 * len(lines):
        # No client's, since it could not have come in: some setting has several lines.
        lines = [" ".join(line.split()) + "\r\n" for line in lines]
        text = "".join(lines)
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return b"".join(map(_encode_line, lines))


def _encode_line(line: str) -> bytes:
    try:
        return line.encode("latin-1")
    except UnicodeEncodeError:
        return line.encode("utf-8", "replace")


#: How the lines of headers begin whose names were met before; empty for those that are
#: not to be passed on.
_beginnings: Final[dict[str, str]] = {}
#: The way back.
_cgi_names: Final[dict[str, str]] = {}


def _beginning(name: str) -> str:
    spelling = header_name(name)
    is_dropped = spelling.lower() in HOP_BY_HOP or name in ("CONTENT_LENGTH", "EXPECT")
    begin = "" if is_dropped else f"{spelling}: "
    _remember(_beginnings, name, begin)
    return begin


def _cgi_name(spelling: str) -> str:
    name = spelling.upper().replace("-", "_")
    _remember(_cgi_names, spelling, name)
    return name


def _remember(known: dict[str, str], name: str, meaning: str) -> None:
    """Keep what a name means: a client may send names of any number and length."""
    if len(name) <= _MAX_NAME:
        if len(known) >= _MAX_KNOWN:
            known.clear()
        known[name] = meaning
