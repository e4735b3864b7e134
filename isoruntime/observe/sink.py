"""The sink: where log lines leave the front end, without ever making its loop wait.

    write() ──▶ queue ──flush(), once per turn──▶ outlet ──▶ pipe, terminal, …
                  ▲                                 │ full
                  └──────── the loop says "writable" ◀┘

The descriptor is shared with whoever started us, and so are its flags: making it
non-blocking would surprise the shell and its other children. An outlet therefore finds
a way to write without waiting that belongs to this process alone.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import stat
import time
from collections.abc import Callable

from isoruntime.typed import Final, Protocol

#: More than this in the queue: stop reading what workers print, for now.
CONGESTED_BYTES: Final = 2 * 1024 * 1024
#: Less than this again: go on reading.
RELIEVED_BYTES: Final = CONGESTED_BYTES // 2

#: A reader that keeps pace must not keep the loop in one flush for ever.
_TURN_BYTES: Final = 512 * 1024
#: These do not pass: nobody will ever read what is written here.
_GONE: Final = frozenset(
    {
        errno.EPIPE,
        errno.EBADF,
        errno.ECONNRESET,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
    }
)

_log = logging.getLogger(__name__)


class Loop(Protocol):
    """What the sink needs of the event loop."""

    def watch(
        self,
        fd: int,
        callback: Callable[[int], object],
        *,
        read: bool = ...,
        write: bool = ...,
    ) -> None:
        """Call `callback(event_mask)` on every turn while `fd` is ready."""

    def unwatch(self, fd: int) -> None:
        """Stop that."""


class _Outlet(Protocol):
    """A way to write to one descriptor without waiting."""

    #: False where writing never has to wait, and a loop cannot watch it.
    is_pollable: bool

    def fileno(self) -> int: ...

    def send(self, data: memoryview) -> int:
        """Write what fits and return how much; BlockingIOError if nothing does."""

    def close(self) -> None: ...


class _Direct:
    """Regular files and devices like /dev/null: the kernel takes everything at once.

    The descriptor is used as it is, since its offset is shared on purpose (`>>`).
    """

    is_pollable = False

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def send(self, data: memoryview) -> int:
        return os.write(self._fd, data)

    def close(self) -> None:
        """Leave the descriptor to whom it belongs."""


class _Reopened:
    """A pipe or terminal opened a second time, non-blocking for us alone."""

    is_pollable = True

    def __init__(self, fd: int) -> None:
        # O_NOCTTY: as PID 1 we lead a session, and a terminal opened by such a
        # process would become its controlling one.
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        self._fd = os.open(f"/proc/self/fd/{fd}", flags)

    def fileno(self) -> int:
        return self._fd

    def send(self, data: memoryview) -> int:
        return os.write(self._fd, data)

    def close(self) -> None:
        os.close(self._fd)


class _Socket:
    """A socket: cannot be opened again, but can be told not to wait at each send."""

    is_pollable = True

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=os.dup(fd))

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, data: memoryview) -> int:
        return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def close(self) -> None:
        self._socket.close()


class _Polled:
    """A pipe that may not be opened again: somebody else made it, or no /proc.

    A pipe that polls writable takes PIPE_BUF bytes without waiting (pipe(7)), unless
    another writer is quicker than us; that race is what remains.
    """

    is_pollable = True

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def fileno(self) -> int:
        return self._fd

    def send(self, data: memoryview) -> int:
        if not self._poll.poll(0):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return os.write(self._fd, data[: select.PIPE_BUF])

    def close(self) -> None:
        """Leave the descriptor to whom it belongs."""


def _open_outlet(fd: int) -> _Outlet:
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return _Socket(fd)
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        try:
            return _Reopened(fd)
        except OSError:
            return _Polled(fd)
    return _Direct(fd)


def _report_loss(problem: str) -> None:
    _log.error("%s", problem)


class LogSink:
    """Takes lines at any speed and writes them to `fd` as fast as its reader allows.

    For one thread. Without a loop (yet) each `flush` writes what fits; `attach` gives
    it one. Nothing is lost while there is somebody to read: `is_congested` asks the
    owner to bring no more for a while, and `on_relief` is called when that is over.

    If the reader is gone, everything is dropped from then on and counted. If writing
    fails otherwise (a full disk), every flush tries again; what is queued waits for
    that, and nothing comes on top of `RELIEVED_BYTES`: it is dropped and counted, so
    that no handler stalls. `on_loss` is called with one line of text at the first of
    either; it logs an error by default.
    """

    def __init__(
        self,
        fd: int,
        loop: Loop | None = None,
        *,
        on_relief: Callable[[], object] | None = None,
        on_loss: Callable[[str], object] = _report_loss,
    ) -> None:
        self.on_relief = on_relief
        #: Bytes that were never written.
        self.dropped_bytes = 0
        self._fd = fd
        self._loop = loop
        self._on_loss = on_loss
        self._blocks: list[bytes] = []
        #: The joined blocks being written now; None between two of them.
        self._head: memoryview | None = None
        self._backlog = 0
        self._is_congested = False
        self._is_waiting = False
        self._is_failing = False
        self._has_told = False
        self._outlet: _Outlet | None = None
        try:
            self._outlet = _open_outlet(fd)
        except OSError as error:
            self._lose(error)

    def __repr__(self) -> str:
        how = (
            "gone" if self._outlet is None else type(self._outlet).__name__[1:].lower()
        )
        return f"<LogSink fd {self._fd}, {how}, {self._backlog} bytes queued>"

    @property
    def backlog(self) -> int:
        """Bytes that wait to be written."""
        return self._backlog

    @property
    def is_congested(self) -> bool:
        """True from more than `CONGESTED_BYTES` of backlog to less than half of it.

        False while writing fails: holding workers up would not help.
        """
        return self._is_congested

    @property
    def is_gone(self) -> bool:
        """True when nobody reads any more and everything is dropped."""
        return self._outlet is None

    def attach(self, loop: Loop) -> None:
        """Let `loop` say when the descriptor takes more."""
        self._loop = loop
        self.flush()

    def write(self, data: bytes) -> None:
        """Queue whole lines; `flush` sends them."""
        if not data:
            return
        if self._outlet is None or (
            self._is_failing and self._backlog + len(data) > RELIEVED_BYTES
        ):
            self.dropped_bytes += len(data)
            return
        self._blocks.append(data)
        self._backlog += len(data)
        if self._backlog > CONGESTED_BYTES:
            self._is_congested = True

    def flush(self) -> None:
        """Write what is queued, as far as it goes without waiting.

        To be called once per turn of the loop: the lines of a turn share one write.
        """
        if self._backlog and not self._is_waiting:
            self._send()
            self._notice_relief()

    def drain(self, timeout_s: float) -> bool:
        """Write what is queued, waiting for the reader; for the end, outside the loop.

        Returns False if time was up first, or the device refuses what is left.
        """
        deadline = time.monotonic() + timeout_s
        self._stop_waiting()
        while self._backlog and self._outlet is not None:
            self._send()
            remaining_s = deadline - time.monotonic()
            if self._backlog and (self._is_failing or remaining_s <= 0):
                break
            self._wait_writable(remaining_s)
        self._notice_relief()
        return not self._backlog

    def close(self) -> None:
        """Let go of the loop and of what was opened here; the queue is dropped."""
        self._stop_waiting()
        self._drop_queue()
        if self._outlet is not None:
            self._outlet.close()
            self._outlet = None

    def _send(self) -> None:
        """Write for one turn: all of it where no loop could tell us to go on."""
        sent = 0
        outlet = self._outlet
        while self._backlog and outlet is not None:
            if sent >= _TURN_BYTES and outlet.is_pollable:
                self._wait_in_loop(outlet)
                return
            head = self._head = self._head or self._next_head()
            try:
                count = outlet.send(head[:_TURN_BYTES])
            except BlockingIOError:
                self._is_failing = False
                self._wait_in_loop(outlet)
                return
            except OSError as error:
                self._lose(error)
                return
            sent += count
            self._backlog -= count
            self._is_failing = False
            self._head = head[count:] if count < len(head) else None
        self._stop_waiting()

    def _next_head(self) -> memoryview:
        # Joined only when the one before is written, so that a byte is copied
        # once however slow the reader.
        blocks = self._blocks
        self._blocks = []
        return memoryview(blocks[0] if len(blocks) == 1 else b"".join(blocks))

    def _wait_in_loop(self, outlet: _Outlet) -> None:
        if self._loop is not None and not self._is_waiting:
            self._loop.watch(outlet.fileno(), self._on_writable, read=False, write=True)
            self._is_waiting = True

    def _stop_waiting(self) -> None:
        if self._is_waiting and self._loop is not None and self._outlet is not None:
            self._loop.unwatch(self._outlet.fileno())
        self._is_waiting = False

    def _on_writable(self, mask: int) -> None:
        # Errors too arrive here, as an event; the write says which.
        self._send()
        self._notice_relief()

    def _wait_writable(self, timeout_s: float) -> None:
        if self._backlog and self._outlet is not None and self._outlet.is_pollable:
            self._stop_waiting()
            poll = select.poll()
            poll.register(self._outlet.fileno(), select.POLLOUT)
            poll.poll(max(0.0, timeout_s) * 1000)

    def _lose(self, error: OSError) -> None:
        self._stop_waiting()
        where = f"log output to descriptor {self._fd}"
        if error.errno in _GONE:
            self._drop_queue()
            if self._outlet is not None:
                self._outlet.close()
                self._outlet = None
            self._tell(f"{where} is dropped from now on: {error.strerror}")
            return
        self._is_failing = True
        self._tell(f"{where} fails and is tried again: {error.strerror}")

    def _drop_queue(self) -> None:
        self.dropped_bytes += self._backlog
        self._backlog = 0
        self._blocks.clear()
        self._head = None

    def _tell(self, problem: str) -> None:
        # Set first: the one told may well write into this very sink.
        if not self._has_told:
            self._has_told = True
            self._on_loss(problem)

    def _notice_relief(self) -> None:
        # While writing fails the queue cannot grow, and may not shrink for hours.
        is_relieved = self._backlog < RELIEVED_BYTES or self._is_failing
        if self._is_congested and is_relieved:
            self._is_congested = False
            if self.on_relief is not None:
                self.on_relief()
