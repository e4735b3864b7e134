"""Heads of requests, most of whose lines were there before.

The platform sends some twenty headers with every request, and all but one or two of
them are the same bytes for thousands of requests. waitress takes each apart anew, which
is a third of what the front end does for a call. Here a line is taken apart once, by
waitress's own rules, and looked up from then on; and of a head that is like the last one with
the same first line only those lines are looked at that have differed before, and what lies
between them. Whatever is out of the ordinary (a folded line, a name twice, a transfer
encoding) is left to waitress altogether.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

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
#: They are different in each request, and nothing kept for several may depend on them.
_OF_ONE_REQUEST: Final = frozenset({"X_FC_REQUEST_ID", "CONTENT_LENGTH"})
#: So many sets of other lines are told apart of one head, credentials before and after.
_MAX_NOTES: Final = 4

#: What somebody has worked out from headers, for all heads that have the same.
Notes = dict[object, Any]


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

    __slots__ = (
        *("after", "before", "end", "headers", "lines", "names", "notes", "start"),
        "varying",
    )

    def __init__(
        self, head: bytes, lines: list[bytes], headers: dict[str, str]
    ) -> None:
        self.lines = lines
        self.headers = headers
        #: by the lines that differ, but for those of `_OF_ONE_REQUEST`
        self.notes: dict[tuple[bytes, ...], Notes] = {}
        # The lines from `start` to `end` have differed so far, or lie between such; none
        # at first. What is before and after them is compared in one go.
        self.start, self.end = len(lines), 0
        self.before, self.varying, self.after = head, [b""], b""
        names = iter(headers)
        #: of each line; the first has none, nor have the empty ones
        self.names = [
            next(names) if at and line else "" for at, line in enumerate(lines)
        ]

    def differences(self, head: bytes) -> list[tuple[int, bytes]]:
        """Return which lines of a head with as many lines are others, and what they are."""
        before, after = self.before, self.after
        end = len(head) - len(after)
        if len(before) <= end and head.startswith(before) and head.endswith(after):
            lines = head[len(before) : end].split(b"\r\n")
            if lines == self.varying:
                return []
            if len(lines) == self.end - self.start:
                return self._compare(self.start, lines)
        found = self._compare(0, head.split(b"\r\n"))
        if len(found) <= _MAX_CHANGED:
            self._look_between(
                min(self.start, found[0][0]), max(self.end, found[-1][0] + 1)
            )
        return found

    def _compare(self, start: int, lines: list[bytes]) -> list[tuple[int, bytes]]:
        known = self.lines
        return [(at, line) for at, line in enumerate(lines, start) if line != known[at]]

    def _look_between(self, start: int, end: int) -> None:
        lines = self.lines
        self.start, self.end, self.varying = start, end, lines[start:end]
        self.before = b"".join(line + b"\r\n" for line in lines[:start])
        self.after = b"".join(b"\r\n" + line for line in lines[end:])

    def notes_for(self, lines: tuple[bytes, ...]) -> Notes:
        """Return what is kept for heads in which these lines are others."""
        notes = self.notes.get(lines)
        if notes is None:
            if len(self.notes) >= _MAX_NOTES:
                self.notes.clear()
            notes = self.notes[lines] = {}
        return notes


class KnownLines:
    """Lines taken apart before, by their bytes."""

    def __init__(self) -> None:
        self._first: dict[bytes, FirstLine] = {}
        self._pairs: dict[bytes, tuple[str, str]] = {}
        #: by first line and number of lines, the head that was read whole last
        self._heads: dict[tuple[bytes, int], _Head] = {}

    def read(self, head: bytes) -> tuple[FirstLine, dict[str, str], Notes] | None:
        """Return first line, headers and notes; None if waitress had better look itself.

        The headers are the caller's to change, the notes are there for the next one.
        """
        line = head[: head.find(b"\r\n")]
        first = self._first.get(line)
        if first is None:
            return None
        key = line, head.count(b"\r\n")
        known = self._heads.get(key)
        if known is not None:
            found = self._read_changed(head, known)
            if found is not None:
                return first, *found
        lines = head.split(b"\r\n")
        headers = self._read_all(lines)
        if headers is None:
            return None
        if len(head) > _MAX_HEAD_BYTES:
            return first, headers, {}
        if len(self._heads) >= _MAX_FIRST_LINES:
            self._heads.clear()
        known = self._heads[key] = _Head(head, lines, headers)
        return first, headers.copy(), known.notes_for(())

    def _read_changed(
        self, head: bytes, known: _Head
    ) -> tuple[dict[str, str], Notes] | None:
        """Return the headers of a head by what is not as in another one, and its notes.

        None if that is much, or another name.
        """
        differences = known.differences(head)
        if len(differences) > _MAX_CHANGED:
            return None
        headers = known.headers.copy()
        others: tuple[bytes, ...] = ()
        for at, line in differences:
            pair = self._pairs.get(line) or self._take_apart(line)
            if pair is None or pair[0] != known.names[at]:
                return None
            headers[pair[0]] = pair[1]
            if pair[0] not in _OF_ONE_REQUEST:
                others += (line,)
        return headers, known.notes_for(others)

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
