"""The journal: what the function writes, in the platform's form, in order."""

from __future__ import annotations

from collections.abc import Callable

from isoruntime.observe.lines import LineSplitter, TailBuffer
from isoruntime.typed import Protocol


class Sink(Protocol):
    """Where finished lines go."""

    def write(self, data: bytes) -> None:
        """Queue whole lines."""


class CopyingSink:
    """A sink that shows somebody else what goes to another one."""

    __slots__ = ("_copy", "_sink")

    def __init__(self, sink: Sink, copy: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._copy = copy

    def write(self, data: bytes) -> None:
        """Queue whole lines, and show them."""
        self._copy(data)
        self._sink.write(data)


class Format(Protocol):
    """How lines look: `observe.formats`."""

    def start(self, phase: str, request_id: str) -> bytes:
        """Return the line before a run of user code."""

    def end(self, phase: str, request_id: str, failed: bool) -> bytes:
        """Return the line after it."""

    def output(self, request_id: str | None, stream: str, block: bytes) -> bytes:
        """Return lines of user output as they are to be written."""

    def record(self, request_id: str | None, level: str, message: str) -> bytes:
        """Return a record of ours about an invocation."""


class Output:
    """The output of one invocation, or of none."""

    __slots__ = ("_format", "_request_id", "_sink", "_splitters", "_tail")

    def __init__(self, request_id: str | None, sink: Sink, format_: Format) -> None:
        self._request_id = request_id
        self._sink = sink
        self._format = format_
        self._splitters: dict[str, LineSplitter] = {}
        self._tail = TailBuffer()

    def feed(self, stream: str, data: bytes) -> None:
        """Log the lines that these bytes complete."""
        splitter = self._splitters.get(stream)
        if splitter is None:
            splitter = self._splitters[stream] = LineSplitter()
        self._tail.feed(data)
        block = splitter.feed(data)
        if block:
            self._sink.write(self._format.output(self._request_id, stream, block))

    def close(self) -> None:
        """Log what is left of an unfinished line."""
        for stream, splitter in self._splitters.items():
            block = splitter.end()
            if block:
                self._sink.write(self._format.output(self._request_id, stream, block))

    def tail(self) -> str:
        """Return the last of it as text."""
        return self._tail.text()


class Journal:
    """Writes the lines around and about invocations."""

    def __init__(self, sink: Sink, format_: Format) -> None:
        self._sink = sink
        self._format = format_
        #: False for somebody who is shown the answers beside the log
        self.tells_failures = True
        #: by request id, for those whose caller wants to see the end of their log
        self._tails: dict[str, TailBuffer] = {}

    def keep_tail(self, request_id: str) -> bool:
        """Keep the last of an invocation's lines; return False if somebody does already."""
        if request_id in self._tails:
            return False
        self._tails[request_id] = TailBuffer()
        return True

    def take_tail(self, request_id: str) -> bytes:
        """Return the last of an invocation's lines, and keep them no longer."""
        tail = self._tails.pop(request_id, None)
        return tail.tail() if tail is not None else b""

    def _sink_of(self, request_id: str | None) -> Sink:
        if request_id is not None:
            tail = self._tails.get(request_id)
            if tail is not None:
                return CopyingSink(self._sink, tail.feed)
        return self._sink

    def start(self, phase: str, request_id: str) -> None:
        """Write the line that every run of user code begins with."""
        # Hardly anybody asks for a tail.
        sink = self._sink_of(request_id) if self._tails else self._sink
        sink.write(self._format.start(phase, request_id))

    def end(self, phase: str, request_id: str, failed: bool) -> None:
        """Write the line that every run of user code ends with."""
        sink = self._sink_of(request_id) if self._tails else self._sink
        sink.write(self._format.end(phase, request_id, failed))

    def error(self, request_id: str, body: bytes) -> None:
        """Write what a caller is told of a failure."""
        if self.tells_failures:
            message = body.decode("utf-8", "replace")
            record = self._format.record(request_id, "ERROR", message)
            self._sink_of(request_id).write(record)

    def warn(self, request_id: str, message: str) -> None:
        """Write a remark of ours about an invocation."""
        record = self._format.record(request_id, "WARNING", message)
        self._sink_of(request_id).write(record)

    def open(self, request_id: str | None) -> Output:
        """Return where the output of an invocation goes."""
        return Output(request_id, self._sink_of(request_id), self._format)
