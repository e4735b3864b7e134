"""A command handler: a program that is run for each event.

The event is its standard input, its standard output the answer, its standard error the
log. It is executed, never handed to a shell; and of the event and of the headers nothing
gets into its arguments, so that nobody who calls the function chooses its options.
"""

from __future__ import annotations

import os
import select
import time

from isoruntime.typed import TYPE_CHECKING, Final
from isoruntime.wire.frames import Kind
from isoruntime.worker import program
from isoruntime.worker.child import Child
from isoruntime.worker.endings import EndedLike
from isoruntime.worker.faults import load_fault_body
from isoruntime.worker.load import LoadError

if TYPE_CHECKING:
    from isoruntime.wire.order import LoadOrder
    from isoruntime.worker.functions import Call, Reply

#: What an argument of the configuration may hold.
_REQUEST_ID: Final = "{request_id}"
_SAFE: Final = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:"
)
#: What a pipe holds for sure, so that a small event needs no second look.
_PIPE_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 64 * 1024
#: Variables of the platform's that are made from headers, by the header's name.
_VARIABLES: Final = {
    "FC_FUNCTION_NAME": "function-name",
    "FC_FUNCTION_HANDLER": "function-handler",
    "FC_FUNCTION_MEMORY_SIZE": "function-memory",
    "FC_FUNCTION_TIMEOUT": "function-timeout",
    "FC_FUNCTION_VERSION": "version-id",
}


class Command:
    """A program and its arguments, ready to be run."""

    def __init__(self, order: LoadOrder) -> None:
        """Find the program.

        Raises:
            LoadError: it is not there, or cannot be run.
        """
        self._argv = order.command
        self._path = program.find(self._argv[0])
        self._has_placeholder = any(_REQUEST_ID in word for word in self._argv)

    def run(self, call: Call) -> Reply:
        """Run it once; its end is the answer's, whatever it has left running."""
        process = _Process(call)
        try:
            try:
                process.start(self._path, self._arguments(call), environ_for(call))
            except LoadError as error:
                return Kind.FAULT, error.error_type.encode(), load_fault_body(error)
            status = process.wait()
        finally:
            process.close()
        if process.is_too_large:
            return Kind.TOO_LARGE, b"%d" % len(process.answer), b""
        if status < 0:
            # The worker is its stand-in: whoever finds out why, be it the limit of
            # memory, finds out by how it ends.
            raise EndedLike(status)
        if status:
            return Kind.EXITED, b"%d %d" % (status, process.peak_kb), b""
        return Kind.RESULT, b"", process.answer

    def _arguments(self, call: Call) -> list[str]:
        if not self._has_placeholder:
            return self._argv
        # The caller may have chosen it: it must be no option, and nothing to expand.
        name = "".join(at if at in _SAFE else "_" for at in call.request_id)
        name = "_" + name[1:] if name.startswith("-") else name
        first, *others = self._argv
        return [first, *(word.replace(_REQUEST_ID, name) for word in others)]


def environ_for(call: Call) -> dict[str, str]:
    """Return the environment of one run."""
    # `--env ALIBABA_CLOUD_CREDENTIALS` has put those of this invocation there already.
    environ = dict(os.environ)
    fields = call.fields
    for name, field in _VARIABLES.items():
        value = fields.get(field)
        if value and "\0" not in value:
            environ[name] = value
    environ["FC_REQUEST_ID"] = call.request_id
    left_ms = call.left_ms
    if left_ms is not None:
        # As `date +%s%3N` tells the time.
        environ["ISORUNTIME_DEADLINE_MS"] = str(int(time.time() * 1000) + left_ms)
    return environ


class _Process:
    """One run: what goes in, what comes out, and how it ends."""

    def __init__(self, call: Call) -> None:
        self._event = memoryview(call.body)
        self._limit = call.max_response_bytes
        self.answer = bytearray()
        self.is_too_large = False
        self._child: Child | None = None
        self._stdin = self._stdout = -1

    def start(self, path: str, argv: list[str], environ: dict[str, str]) -> None:
        """Start it, with as much of the event as a pipe holds."""
        stdin_r, self._stdin = os.pipe()
        self._stdout, stdout_w = os.pipe()
        try:
            os.set_blocking(self._stdin, False)
            self._feed()
            pid = program.start(path, argv, environ, stdin_r, stdout_w)
        finally:
            os.close(stdin_r)
            os.close(stdout_w)
        self._child = Child(pid)
        os.set_blocking(self._stdout, False)

    def _feed(self) -> None:
        """Write on, and close the pipe when there is no more."""
        while self._event:
            try:
                written = os.write(self._stdin, self._event[:_PIPE_BYTES])
            except BlockingIOError:
                return
            except BrokenPipeError:
                # It has closed its input and wants no more of it.
                break
            self._event = self._event[written:]
        os.close(self._stdin)
        self._stdin = -1

    def _collect(self) -> bool:
        """Read on; return whether the other end is still open."""
        while True:
            try:
                data = os.read(self._stdout, _READ_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.answer += data
            if len(self.answer) > self._limit:
                self.is_too_large = True
                return False

    def wait(self) -> int:
        """Feed and read until it has ended; return its status, negative for a signal.

        What it has written by then is the answer: a process in the background that holds
        the pipe is waited for by nobody.
        """
        child = self._child
        assert child is not None
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        if self._stdin >= 0:
            poll.register(self._stdin, select.POLLOUT)
        child.watch(poll)
        has_ended = False
        while not (has_ended or self.is_too_large):
            ready = [fd for fd, _ in poll.poll(child.longest_poll_ms)]
            # First of all: what it wrote before its end is read after it is known.
            has_ended = child.has_ended(ready)
            if self._stdin in ready:
                self._feed_on(poll)
            if has_ended:
                self._collect()
            elif self._stdout in ready and not self._collect():
                poll.unregister(self._stdout)
        child.kill()
        return child.status

    def _feed_on(self, poll: select.poll) -> None:
        stdin = self._stdin
        self._feed()
        if self._stdin < 0:
            poll.unregister(stdin)

    @property
    def peak_kb(self) -> int:
        """The most memory it had."""
        return self._child.peak_kb if self._child is not None else 0

    def close(self) -> None:
        """Give back what is left."""
        for fd in (self._stdin, self._stdout):
            if fd >= 0:
                os.close(fd)
        if self._child is not None:
            self._child.close()
