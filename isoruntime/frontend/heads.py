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

from waitress.rfc7230 import HEADER_FIELD_RE

from isoruntime.typed import Any, Final, NamedTuple

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


#: What a head says: its first line, its headers, which are the caller's to change, notes,
#: which are there for the next one, and its length in bytes.
Known = tuple[FirstLine, dict[str, str], Notes, int]


class _Head:
    """A head that was read: its lines, and what they say."""

    __slots__ = (
        *("after", "before", "end", "first", "headers", "lines", "mark", "names"),
        *("notes", "start", "varying"),
    )

    def __init__(
        self, first: FirstLine, head: bytes, lines: list[bytes], headers: dict[str, str]
    ) -> None:
        self.first = first
        self.lines = lines
        self.headers = headers
        #: by the lines that differ, but for those of `_OF_ONE_REQUEST`
        self.notes: dict[tuple[bytes, ...], Notes] = {}
        # The lines from `start` to `end` have differed so far, or lie between such; none
        # at first. What is before and after them is compared in one go, and found by its
        # first line, the `mark`.
        self.start, self.end = len(lines), 0
        self.before, self.varying, self.after, self.mark = head, [b""], b"", b""
        names = iter(headers)
        #: of each line; the first has none, nor have the empty ones
        self.names = [
            next(names) if at and line else "" for at, line in enumerate(lines)
        ]

    def differences(self, data: bytes) -> tuple[list[tuple[int, bytes]], int] | None:
        """Return which lines of the head of a request are others, and how long it is.

        None if others differ than have so far. An empty line, which would end the head
        earlier, is among those that do.
        """
        before, after = self.before, self.after
        if not data.startswith(before):
            return None
        start = len(before)
        at = data.find(self.mark, start)
        if at < 0 or not data.startswith(after, at):
            return None
        lines, size_bytes = data[start:at].split(b"\r\n"), at + len(after)
        if lines == self.varying:
            return [], size_bytes
        if len(lines) != self.end - self.start:
            return None
        return self._compare(self.start, lines), size_bytes

    def differences_anywhere(self, lines: list[bytes]) -> list[tuple[int, bytes]]:
        """Return which lines of a head with as many are others, and what they are.

        From then on it is these, too, that may differ.
        """
        found = self._compare(0, lines)
        if found and len(found) <= _MAX_CHANGED:
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
        self.mark = b"\r\n%b\r\n" % lines[end]

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
        #: by first line, the one of them that the last head was like
        self._usual: dict[bytes, _Head] = {}

    def read(self, data: bytes) -> Known | None:
        """Read the head that these bytes begin with.

        None if it is not all there, or waitress had better look itself.
        """
        line = data[: data.find(b"\r\n")]
        usual = self._usual.get(line)
        if usual is not None:
            found = usual.differences(data)
            if found is not None:
                known = self._with(usual, *found)
                if known is not None:
                    return known
        first, end = self._first.get(line), data.find(b"\r\n\r\n") + 4
        if first is None or end < 4:
            return None
        return self._read_unusual(first, line, data[:end])

    def _read_unusual(self, first: FirstLine, line: bytes, head: bytes) -> Known | None:
        lines = head.split(b"\r\n")
        key = line, len(lines) - 1
        like = self._heads.get(key)
        if like is not None:
            known = self._with(like, like.differences_anywhere(lines), len(head))
            if known is not None:
                self._usual[line] = like
                return known
        headers = self._read_all(lines)
        if headers is None:
            return None
        if len(head) > _MAX_HEAD_BYTES:
            return first, headers, {}, len(head)
        if len(self._heads) >= _MAX_FIRST_LINES:
            self._heads.clear()
            self._usual.clear()
        like = self._heads[key] = _Head(first, head, lines, headers)
        self._usual[line] = like
        return first, headers.copy(), like.notes_for(()), len(head)

    def _with(
        self, like: _Head, differences: list[tuple[int, bytes]], size_bytes: int
    ) -> Known | None:
        """Return a head by what is not as in another one.

        None if that is much, or another name.
        """
        if len(differences) > _MAX_CHANGED:
            return None
        headers = like.headers.copy()
        others: tuple[bytes, ...] = ()
        for at, line in differences:
            pair = self._pairs.get(line) or self._take_apart(line)
            if pair is None or pair[0] != like.names[at]:
                return None
            headers[pair[0]] = pair[1]
            if pair[0] not in _OF_ONE_REQUEST:
                others += (line,)
        return like.first, headers, like.notes_for(others), size_bytes

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
