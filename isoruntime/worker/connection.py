"""The connection of a worker to its server, kept from one request to the next."""

from __future__ import annotations

import select
import socket
import time

from isoruntime.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from isoruntime.worker.child import Child

#: Some close after each answer and do not say so. What was sent meanwhile is lost, and must
#: not be sent twice; so the first answers are each followed by this wait for a close.
_TRIALS: Final = 3
_TRIAL_S: Final = 0.005
#: A connection closed later than this after an answer was closed for being idle.
_IDLE_S: Final = 1.0


class Connection:
    """One connection at a time, which is used again for as long as the server keeps it.

    Learns whether this server keeps connections at all. What is closed while nobody asks
    anything is noticed at once, together with the next request: there is no look ahead of
    each of them.
    """

    __slots__ = (
        "_answered_at",
        "_child",
        "_connect",
        "_idle",
        "_is_kept_by_server",
        "_request_fd",
        "_socket",
        "_trials",
        "answering",
    )

    def __init__(self, connect: Callable[[], socket.socket], child: Child) -> None:
        self._connect = connect
        self._child = child
        self._socket: socket.socket | None = None
        #: when what is kept was last of use
        self._answered_at = 0.0
        #: how often to wait for a close before a connection is used again
        self._trials = _TRIALS
        self._is_kept_by_server = True
        #: ready when there is something of the server's to read, or when it has ended
        self.answering = select.poll()
        #: ready also when there is a request
        self._idle = select.poll()
        self._request_fd = -1
        for poll in (self.answering, self._idle):
            child.watch(poll)

    def wait_for_request(self, fd: int) -> bool:
        """Wait until there is a request at `fd`; return whether the server ended first."""
        if fd != self._request_fd:
            self._request_fd = fd
            self._idle.register(fd, select.POLLIN)
        while True:
            ready = [at for at, _ in self._idle.poll(self._child.longest_poll_ms)]
            if self._child.has_ended(ready):
                return True
            if self._socket is not None and self._socket.fileno() in ready:
                self._note_closed()
            if fd in ready:
                return False

    def _note_closed(self) -> None:
        """Let go of what was closed, or has something that nobody asked for."""
        if time.monotonic() - self._answered_at < _IDLE_S:
            self._is_kept_by_server = False
        self.drop()

    def open(self) -> socket.socket:
        """Return a connection that is ready for a request.

        Raises:
            OSError: there is none to be had.
        """
        if self._socket is not None and self._trials:
            self._try_out(self._socket)
        if self._socket is not None:
            return self._socket
        made = self._socket = self._connect()
        made.setblocking(False)
        if made.family != socket.AF_UNIX:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for poll in (self.answering, self._idle):
            poll.register(made, select.POLLIN)
        return made

    def _try_out(self, connection: socket.socket) -> None:
        self._trials -= 1
        left_s = self._answered_at + _TRIAL_S - time.monotonic()
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        if poll.poll(max(0.0, left_s * 1000)):
            self._note_closed()

    def keep(self) -> None:
        """Keep it for the next request: it has answered, and does not say that it closes."""
        if self._is_kept_by_server:
            self._answered_at = time.monotonic()
        else:
            self.drop()

    def lose(self, *, unanswered: bool) -> None:
        """Let go of what broke; perhaps only since it had been kept."""
        if unanswered:
            self._is_kept_by_server = False
        self.drop()

    def drop(self) -> None:
        """Let go of it."""
        dropped, self._socket = self._socket, None
        if dropped is not None:
            for poll in (self.answering, self._idle):
                poll.unregister(dropped)
            dropped.close()
