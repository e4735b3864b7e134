"""Lines: one invocation's output cut into whole lines of bounded length.

The platform keeps at most 32 KB of a log line and drops the rest. So a longer line is
cut here into several, each but the last ending in `CUT_MARK`; whoever takes
the mark and the newline after it out again has the bytes the handler wrote.

Nothing here touches a file descriptor: bytes become bytes.
"""

from __future__ import annotations

from isoruntime.typed import Final

#: What the platform keeps of one line (fc-contract.md 3.2), newline included.
MAX_LINE_BYTES: Final = 32 * 1024
#: Ends every piece of a cut line but the last.
CUT_MARK: Final = b" [cut, continues]"
#: `logTail` and the platform's own Tail log hold this much.
TAIL_BYTES: Final = 4096

_LONGEST_CHARACTER: Final = 4
_SMALLEST_LIMIT: Final = len(CUT_MARK) + 1 + _LONGEST_CHARACTER


class LineSplitter:
    """Cuts a byte stream into lines, however the kernel split it.

    Holds back at most `max_line` bytes, whatever is fed. Usable again after `end()`.

    Raises:
        ValueError: `max_line` has no room for the mark and one character.
    """

    __slots__ = ("_held", "_max_line")

    def __init__(self, max_line: int = MAX_LINE_BYTES) -> None:
        if max_line < _SMALLEST_LIMIT:
            raise ValueError(f"a line needs at least {_SMALLEST_LIMIT} bytes")
        self._max_line = max_line
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Return the lines that are complete now, as one block; hold back the rest."""
        held = self._held
        if held:
            # A line that grows byte by byte must not be copied at every byte.
            if len(held) + len(data) < self._max_line and b"\n" not in data:
                held += data
                return b""
            data = b"".join((held, data))
            held.clear()
        start = self._after_short_lines(data, 0)
        if len(data) - start < self._max_line:
            end = data.rfind(b"\n", start) + 1 or start
            if end == len(data):
                return data
            held += memoryview(data)[end:]
            return data[:end]
        return self._cut_long_lines(data, start)

    def end(self) -> bytes:
        """Return what was held back as a line of its own; nothing if there is none."""
        if not self._held:
            return b""
        last = bytes(self._held) + b"\n"
        self._held.clear()
        return last

    def _after_short_lines(self, data: bytes, start: int) -> int:
        """Return where the lines from `start` on that surely fit end.

        What follows is shorter than `max_line`, or begins with a line that is longer.
        """
        # One look per `max_line` bytes instead of one per line: the last newline
        # of a window that long closes only lines that fit into it.
        while len(data) - start >= self._max_line:
            newline = data.rfind(b"\n", start, start + self._max_line)
            if newline < 0:
                break
            start = newline + 1
        return start

    def _cut_long_lines(self, data: bytes, start: int) -> bytes:
        view = memoryview(data)
        pieces: list[bytes | memoryview] = [view[:start]]
        while len(data) - start >= self._max_line:
            cut = self._cut_position(data, start)
            pieces += (view[start:cut], CUT_MARK, b"\n")
            start = self._after_short_lines(data, cut)
            pieces.append(view[cut:start])
        end = data.rfind(b"\n", start) + 1 or start
        pieces.append(view[start:end])
        self._held += view[end:]
        return b"".join(pieces)

    def _cut_position(self, data: bytes, start: int) -> int:
        """Return where the line at `start` is cut: never inside a character."""
        cut = start + self._max_line - len(CUT_MARK) - 1
        for first in range(cut - 1, max(start, cut - _LONGEST_CHARACTER), -1):
            if not _is_continuation(data[first + 1]):
                break
            length = _character_length(data[first])
            if first + length > cut and _is_character(data[first : first + length]):
                return first
        return cut


class TailBuffer:
    """Keeps the last bytes of an invocation's output.

    Holds at most a few times `size_bytes`; feeding costs no more than copying those.
    """

    __slots__ = ("_buffer", "_is_cut", "_size")

    def __init__(self, size_bytes: int = TAIL_BYTES) -> None:
        self._size = size_bytes
        self._buffer = bytearray()
        self._is_cut = False

    def feed(self, data: bytes) -> None:
        """Take the next output."""
        size = self._size
        if len(data) >= size:
            self._is_cut = self._is_cut or bool(self._buffer) or len(data) > size
            self._buffer[:] = memoryview(data)[len(data) - size :]
            return
        buffer = self._buffer
        buffer += data
        # Trimmed now and then only, so that a short line costs one append.
        if len(buffer) > 4 * size:
            self._is_cut = True
            del buffer[:-size]

    def tail(self) -> bytes:
        """Return the last bytes, `size_bytes` at most."""
        return bytes(self._buffer[max(0, len(self._buffer) - self._size) :])

    def text(self) -> str:
        """Return the last bytes as text; what is no UTF-8 is replaced."""
        tail = self.tail()
        if self._is_cut or len(self._buffer) > self._size:
            # The half of a character that the cut left says nothing.
            begin = 0
            while begin < min(_LONGEST_CHARACTER - 1, len(tail)) and _is_continuation(
                tail[begin]
            ):
                begin += 1
            tail = tail[begin:]
        return tail.decode("utf-8", "replace")


def _is_continuation(byte: int) -> bool:
    return byte & 0xC0 == 0x80


def _character_length(first: int) -> int:
    """Return how long the UTF-8 sequence is that `first` announces."""
    if first >= 0xF0:
        return 4
    if first >= 0xE0:
        return 3
    return 2 if first >= 0xC0 else 1


def _is_character(sequence: bytes) -> bool:
    try:
        sequence.decode()
    except UnicodeDecodeError:
        return False
    return True
