"""Formats: how a log line looks, `--log-format fc` or `json`.

Both formats turn the same facts into bytes ready for the sink. `FcFormat` prints what
the platform's console and Tail log look for (fc-contract.md 3.1, 3.2); `JsonFormat`
prints one object a line with `time`, `level`, `requestId`, `stream`, `message`, in
that order. No I/O; the clock can be given.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from json.encoder import encode_basestring as _quote

from isoruntime.observe.lines import CUT_MARK, MAX_LINE_BYTES, LineSplitter
from isoruntime.typed import Final, Protocol

_FAILED: Final = ", Error: Unhandled function error"
_INITED: Final = "FunctionCompute isoruntime runtime inited."
_CUT_TEXT: Final = CUT_MARK.decode()
#: Text that cannot be UTF-8 (a lone surrogate) is printed as an escape, never refused.
_ON_ERROR: Final = "backslashreplace"
#: A record as the handler's root logger writes it: time, request id, level, message.
_RECORD: Final = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (\S*)"
    r" \[(DEBUG|INFO|WARNING|ERROR|CRITICAL)\] ",
    re.ASCII,
)


class LogFormat(Protocol):
    """What both formats can do. Every answer is whole lines, newline included.

    A phase is `Invoke`, `Initialize`, `PreStop` or `PreFreeze`; the stream of user
    output is `stdout` or `stderr`.
    """

    def inited(self) -> bytes:
        """Return the line that says the runtime can serve."""

    def start(self, phase: str, request_id: str) -> bytes:
        """Return the Start line of an invocation or hook."""

    def end(self, phase: str, request_id: str, failed: bool) -> bytes:
        """Return the End line of an invocation or hook."""

    def output(self, request_id: str | None, stream: str, block: bytes) -> bytes:
        """Return user output, given as whole lines from a `LineSplitter`."""

    def record(self, request_id: str | None, level: str, message: str) -> bytes:
        """Return a record of the runtime about one invocation, or about none."""


class UtcClock:
    """Writes points in time as `2026-11-20T15:52:59.457Z`.

    The text of a second is made once, since many lines share it.
    """

    __slots__ = ("_now_ns", "_second", "_second_text")

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._second = -1
        self._second_text = ""

    def now(self) -> str:
        """Return the present."""
        return self.text(self._now_ns() // 1_000_000)

    def text(self, since_epoch_ms: int) -> str:
        """Return a point in time given in milliseconds of Unix time."""
        second, millisecond = divmod(since_epoch_ms, 1000)
        if second != self._second:
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._second_text}.{millisecond:03d}Z"


class FcFormat:
    """The form of the built-in runtimes; user output is passed on untouched."""

    def __init__(
        self, clock: UtcClock | None = None, max_line: int = MAX_LINE_BYTES
    ) -> None:
        self._clock = clock or UtcClock()
        self._max_line = max_line

    def inited(self) -> bytes:
        """Return the line that says the runtime can serve."""
        return f"{_INITED}\n".encode()

    def start(self, phase: str, request_id: str) -> bytes:
        """Return the Start line of an invocation or hook."""
        return f"FC {phase} Start RequestId: {request_id}\n".encode("utf-8", _ON_ERROR)

    def end(self, phase: str, request_id: str, failed: bool) -> bytes:
        """Return the End line; on a failure the reason stands right after the id."""
        reason = _FAILED if failed else ""
        line = f"FC {phase} End RequestId: {request_id}{reason}\n"
        return line.encode("utf-8", _ON_ERROR)

    def output(self, request_id: str | None, stream: str, block: bytes) -> bytes:
        """Return user output as it is: the lines around it say whose it is."""
        return block

    def record(self, request_id: str | None, level: str, message: str) -> bytes:
        """Return a record in the form of the handler's own `logging` records.

        Newlines in the message stay, so that it is one record.
        """
        whose = "-" if request_id is None else request_id
        line = f"{self._clock.now()} {whose} [{level}] {message}\n"
        splitter = LineSplitter(self._max_line)
        return splitter.feed(line.encode("utf-8", _ON_ERROR)) + splitter.end()


class JsonFormat:
    r"""One JSON object a line, none longer than `max_line` bytes.

    A message too long for that becomes several objects, marked like a cut line. Text
    stays UTF-8; bytes that are none are shown as `\xff`.
    """

    def __init__(
        self, clock: UtcClock | None = None, max_line: int = MAX_LINE_BYTES
    ) -> None:
        self._clock = clock or UtcClock()
        self._max_line = max_line

    def inited(self) -> bytes:
        """Return the line that says the runtime can serve."""
        return self.line("INFO", None, "platform", _INITED)

    def start(self, phase: str, request_id: str) -> bytes:
        """Return the Start line of an invocation or hook."""
        message = f"FC {phase} Start RequestId: {request_id}"
        return self.line("INFO", request_id, "platform", message)

    def end(self, phase: str, request_id: str, failed: bool) -> bytes:
        """Return the End line; a failure has the level ERROR."""
        message = f"FC {phase} End RequestId: {request_id}"
        if failed:
            return self.line("ERROR", request_id, "platform", message + _FAILED)
        return self.line("INFO", request_id, "platform", message)

    def output(self, request_id: str | None, stream: str, block: bytes) -> bytes:
        """Return an object for each line of user output.

        A line that is a record of the handler's logger gives the object its level;
        and its time and bare message, if it names the same request.
        """
        lines = block.decode("utf-8", _ON_ERROR).split("\n")
        if not lines[-1]:
            lines.pop()
        now = self._clock.now()
        bare_level = "INFO" if stream == "stdout" else "WARNING"
        bare_head = _head(now, bare_level, request_id, stream)
        objects = []
        for line in lines:
            head, message = bare_head, line
            record = _RECORD.match(line)
            if record:
                then, record_id, level = record.groups()
                # Another id (a thread of an earlier invocation) is worth keeping.
                if record_id == (request_id or ""):
                    head = _head(then, level, request_id, stream)
                    message = line[record.end() :]
                else:
                    head = _head(now, level, request_id, stream)
            objects.append(self._objects(head, message))
        return "".join(objects).encode("utf-8", _ON_ERROR)

    def record(self, request_id: str | None, level: str, message: str) -> bytes:
        """Return a record of the runtime about one invocation, or about none."""
        return self.line(level, request_id, "platform", message)

    def line(
        self,
        level: str,
        request_id: str | None,
        stream: str,
        message: str,
        at: str | None = None,
    ) -> bytes:
        """Return one message as an object; `at` is its time if that is not now."""
        head = _head(at or self._clock.now(), level, request_id, stream)
        return self._objects(head, message).encode("utf-8", _ON_ERROR)

    def _objects(self, head: str, message: str) -> str:
        line = f"{head}{_quote(message)}}}\n"
        # Four bytes a character at most, so a short line need not be measured.
        if len(line) * 4 <= self._max_line or self._fits(line):
            return line
        middle = len(message) // 2
        if middle <= len(_CUT_TEXT) or len(head) > self._max_line // 2:
            return line  # the request id is what is long: cutting does not help
        first = self._objects(head, message[:middle] + _CUT_TEXT)
        return first + self._objects(head, message[middle:])

    def _fits(self, line: str) -> bool:
        return len(line.encode("utf-8", _ON_ERROR)) <= self._max_line


def _head(at: str, level: str, request_id: str | None, stream: str) -> str:
    whose = "null" if request_id is None else _quote(request_id)
    return (
        f'{{"time":"{at}","level":"{level}","requestId":{whose},'
        f'"stream":"{stream}","message":'
    )
