"""Heads of requests, most of whose lines were there before.

The platform sends some twenty headers with every request, and all but one or two of
them are the same bytes for thousands of requests. waitress takes each apart anew, which
is a third of what the front end does for a call. Here a line is taken apart once, by
waitress's own rules, and looked up from then on. Whatever is out of the ordinary (a
folded line, a name twice, a transfer encoding) is left to waitress altogether.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from waitress.rfc7230 import HEADER_FIELD_RE

#: Lines kept; a request id is a new one every time, so they are all forgotten now and then.
_MAX_LINES: Final = 1024
_MAX_FIRST_LINES: Final = 64
#: The platform's longest is a security token of 1 to 2 KB.
_MAX_LINE_BYTES: Final = 4096
#: They change how the request is read, which is waitress's to do.
_NOT_OURS: Final = frozenset({"TRANSFER_ENCODING", "EXPECT"})


class FirstLine(NamedTuple):
    """What waitress makes of `POST /invoke HTTP/1.1`."""

    command: str
    request_uri: str
    proxy_scheme: str
    proxy_netloc: str
    path: str
    query: str
    fragment: str


class KnownLines:
    """Lines taken apart before, by their bytes."""

    def __init__(self) -> None:
        self._first: dict[bytes, FirstLine] = {}
        self._pairs: dict[bytes, tuple[str, str]] = {}

    def read(self, head: bytes) -> tuple[FirstLine, dict[str, str]] | None:
        """Return first line and headers; None if waitress had better look itself."""
        lines = head.split(b"\r\n")
        first = self._first.get(lines[0])
        if first is None:
            return None
        pairs = self._pairs
        headers: dict[str, str] = {}
        count = 0
        for line in lines:
            pair = pairs.get(line)
            if pair is None:
                if line is lines[0] or not line:
                    continue
                pair = self._take_apart(line)
                if pair is None:
                    return None
            headers[pair[0]] = pair[1]
            count += 1
        # A name that came twice has become one.
        return (first, headers) if len(headers) == count else None

    def _take_apart(self, line: bytes) -> tuple[str, str] | None:
        if b"\r" in line or b"\n" in line:
            return None
        found = HEADER_FIELD_RE.match(line)
        if not found:
            return None
        name, value = found.group("name", "value")
        if b"_" in name:
            return None
        key = name.upper().replace(b"-", b"_").decode("latin-1")
        if key in _NOT_OURS:
            return None
        pair = key, value.strip(b" \t").decode("latin-1")
        if len(line) <= _MAX_LINE_BYTES:
            if len(self._pairs) >= _MAX_LINES:
                self._pairs.clear()
            self._pairs[line] = pair
        return pair

    def learn(self, head: bytes, first: FirstLine) -> None:
        """Take note of what waitress made of the first line of HTTP/1.1."""
        line, _, _ = head.partition(b"\r\n")
        if len(line) <= _MAX_LINE_BYTES:
            if len(self._first) >= _MAX_FIRST_LINES:
                self._first.clear()
            self._first[line] = first
