"""Messages: the runtime's own log records, on their way to stderr.

They go through the standard `logging`, so that waitress's look the same as ours, and
through a `LogSink`, so that a terminal on hold cannot stop the loop.

    2026-11-20T15:52:59.457Z isoruntime [INFO] listening on 0.0.0.0:9000
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from isoruntime.observe.formats import JsonFormat, UtcClock
from isoruntime.observe.sink import LogSink
from isoruntime.typed import Literal

#: How long the last messages may take when the interpreter ends.
_LAST_WORDS_S = 1.0


class FcMessageFormatter(logging.Formatter):
    """`<time> isoruntime [LEVEL] message`, a traceback on the lines after it."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = UtcClock()

    def format(self, record: logging.LogRecord) -> str:
        """Return the message as text, newline included."""
        at = self._clock.text(_milliseconds(record))
        return f"{at} isoruntime [{record.levelname}] {super().format(record)}\n"


class JsonMessageFormatter(logging.Formatter):
    """One object a message, a traceback inside it; `requestId` is null."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = UtcClock()
        self._format = JsonFormat(self._clock)

    def format(self, record: logging.LogRecord) -> str:
        """Return the message as text, newline included."""
        message = super().format(record)
        at = self._clock.text(_milliseconds(record))
        line = self._format.line(record.levelname, None, "runtime", message, at)
        return line.decode()


class SinkHandler(logging.Handler):
    """Hands log records to a sink, which belongs to the thread that made this handler.

    A record of that thread is flushed at once. One of another thread waits for the
    next `flush`, which the loop calls once per turn; `wake`, if given, is called from
    that thread so that the turn comes soon.
    """

    def __init__(self, sink: LogSink, wake: Callable[[], object] | None = None) -> None:
        super().__init__()
        self.sink = sink
        self.wake = wake
        self._owner = threading.get_ident()
        # Append and popleft of a deque are atomic: no lock that could be held
        # by a thread the system has put to sleep.
        self._from_others: deque[bytes] = deque()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record."""
        try:
            data = self.format(record).encode("utf-8", "backslashreplace")
        except Exception:  # noqa: BLE001 - a message that cannot be formatted is a bug at its caller's, and no reason to end
            self.handleError(record)
            return
        if threading.get_ident() == self._owner:
            self.sink.write(data)
            self.flush()
        else:
            self._from_others.append(data)
            if self.wake is not None:
                self.wake()

    def flush(self) -> None:
        """Write what is queued, as far as it goes without waiting."""
        if threading.get_ident() != self._owner:
            return
        while self._from_others:
            self.sink.write(self._from_others.popleft())
        self.sink.flush()

    def drain(self, timeout_s: float) -> bool:
        """Write what is queued, waiting for the reader; False if time was up first."""
        self.flush()
        return self.sink.drain(timeout_s)

    def close(self) -> None:
        """Give the last messages a moment; `logging` calls this at the end."""
        if threading.get_ident() == self._owner:
            self.drain(_LAST_WORDS_S)
        super().close()


def configure(level: str, fmt: Literal["fc", "json"], sink: LogSink) -> SinkHandler:
    """Send every log record of this process to `sink`, from `level` on.

    The sink is usually one for descriptor 2; where 1 and 2 are the same file
    (`os.path.sameopenfile`), pass the one for 1, or their lines may tear each other.
    An earlier configuration is replaced.
    """
    handler = SinkHandler(sink)
    formatter = FcMessageFormatter() if fmt == "fc" else JsonMessageFormatter()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for earlier in root.handlers[:]:
        root.removeHandler(earlier)
        earlier.close()
    root.addHandler(handler)
    root.setLevel(level)
    return handler


def _milliseconds(record: logging.LogRecord) -> int:
    return int(record.created) * 1000 + int(record.msecs)
