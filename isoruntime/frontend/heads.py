"""Heads of requests, most of whose lines were there before.

The platform sends some twenty headers with every request, and all but one or two of
them are the same bytes for thousands of requests. waitress takes each apart anew, which
is a third of what the front end does for a call. Here a line is taken apart once, by
waitress's own rules, and looked up from then on; and of a head that is like the last one with
the same first line only the lines that differ. Whatever is out of the ordinary (a
folded line, a name twice, a transfer encoding) is left to waitress altogether.
"""

from __future__ import annotations

from itertools import compress
from operator import ne
from typing import Final, NamedTuple

from waitress.rfc7230 import HEADER_FIELD_RE

#: Lines kept; a request id is a new one every time, so they are all forgotten now and then.
_MAX_LINES: Final = 1024
_MAX_FIRST_LINES: Final = 64
#: A head that is longer is not kept, and one in which more than so many lines are new is
#: read whole: an id, a length and a time are what usually differs.
_MAX_HEAD_BYTES: Final = 16 * 1024
_MAX_CHANGED: Final = 4
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


class _Head:
    """A head that was read: its lines, and what they say."""

    __slots__ = ("headers", "lines", "names")

    def __init__(self, lines: list[bytes], headers: dict[str, str]) -> None:
        self.lines = lines
        self.headers = headers
        names = iter(headers)
        #: of each line; the first has none, nor have the empty ones
        self.names = [
            next(names) if at and line else "" for at, line in enumerate(lines)
        ]


class KnownLines:
    """Lines taken apart before, by their bytes."""

    def __init__(self) -> None:
        self._first: dict[bytes, FirstLine] = {}
        self._pairs: dict[bytes, tuple[str, str]] = {}
        #: by first line and number of lines, the head that was read whole last
        self._heads: dict[tuple[bytes, int], _Head] = {}

    def read(self, head: bytes) -> tuple[FirstLine, dict[str, str]] | None:
        """Return first line and headers; None if waitress had better look itself."""
        lines = head.split(b"\r\n")
        first = self._first.get(lines[0])
        if first is None:
            return None
        key = lines[0], len(lines)
        known = self._heads.get(key)
        if known is not None:
            headers = self._read_changed(lines, known)
            if headers is not None:
                return first, headers
        headers = self._read_all(lines)
        if headers is None:
            return None
        if len(head) <= _MAX_HEAD_BYTES:
            if len(self._heads) >= _MAX_FIRST_LINES:
                self._heads.clear()
            self._heads[key] = _Head(lines, headers)
        return first, headers.copy()

    def _read_changed(self, lines: list[bytes], known: _Head) -> dict[str, str] | None:
        """Return the headers of a head by what is not as in another one.

        None if that is much, or another name.
        """
        changed = [*compress(range(len(lines)), map(ne, lines, known.lines))]
        if len(changed) > _MAX_CHANGED:
            return None
        headers = known.headers.copy()
        for at in changed:
            line = lines[at]
            pair = self._pairs.get(line) or self._take_apart(line)
            if pair is None or pair[0] != known.names[at]:
                return None
            headers[pair[0]] = pair[1]
        return headers

    def _read_all(self, lines: list[bytes]) -> dict[str, str] | None:
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
        return headers if len(headers) == count else None

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
