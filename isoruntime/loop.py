"""The loop: one thread that waits for sockets, pipes, processes and timers.

waitress's own turn asks every connection whether it wants to read or write, every
time; with a thousand idle keep-alive connections that halves the throughput. Here
interest is registered with epoll and looked at again only for the connections
that were touched in this turn: by an event, by a finished answer, or by being new.

Order within a turn: events, then `call_soon` work, then timers that are due, then
the turn's end (output is flushed, touched connections are looked at again).

Time (`now()`) is monotonic and leaves out the time the whole process tree was
frozen: the platform stops an instance between invocations, and a laptop sleeps.
Such a gap shows as a wait that took far longer than it was allowed to; no deadline
and no idle timer may count it. While there are `tickers` (somebody has a deadline to
lose) a wait never lasts longer than `_TICK_S`, so that a freeze in mid-wait is noticed
too.
"""

from __future__ import annotations

import heapq
import logging
import select
import time
from collections import deque
from collections.abc import Callable
from itertools import count

from isoruntime.typed import Any, Final, Protocol

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT

_TICK_S: Final = 0.25
#: A wait that overran by more than this, or a turn that took as long, was a freeze; or
#: a machine so busy that nobody's time should count either.
_FREEZE_S: Final = 0.5
#: A turn longer than this held up everybody else and is worth a line in the log.
SLOW_TURN_S: Final = 0.010

#: A bug that shows in every turn will not go away by itself.
_MAX_BUGS_IN_A_ROW: Final = 100

_log = logging.getLogger("isoruntime.loop")


class Connection(Protocol):
    """What the loop needs to know of an object in the `connections` map."""

    accepting: bool

    def readable(self) -> Any:
        """Return whether it wants to read."""

    def writable(self) -> Any:
        """Return whether it wants to write."""


class Timer:
    """One armed timer. `cancel()` may be called at any time, also twice."""

    __slots__ = ("_call", "at")

    def __init__(self, at: float, call: Callable[[], object]) -> None:
        self.at = at
        self._call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Make sure that it does not fire."""
        self._call = None

    def fire(self) -> None:
        """Call what it was armed with, unless it was cancelled."""
        call, self._call = self._call, None
        if call is not None:
            call()

    @property
    def is_armed(self) -> bool:
        """Whether it is still going to fire."""
        return self._call is not None


class Alarm:
    """One timer for many times: it calls when the earliest of them has come."""

    __slots__ = ("_call", "_loop", "_timer")

    def __init__(self, loop: Loop, call: Callable[[], object]) -> None:
        self._loop = loop
        self._call = call
        self._timer: Timer | None = None

    def set(self, at: float) -> None:
        """Call at this time of the loop's clock, or earlier if that was asked for.

        Once: whoever is called sets it for what is still to come.
        """
        timer = self._timer
        if timer is not None and timer.is_armed:
            if timer.at <= at:
                return
            timer.cancel()
        delay_s = max(0.0, at - self._loop.now())
        self._timer = self._loop.call_later(delay_s, self._call)


class ConnectionMap(dict[int, Any]):
    """waitress's map of sockets, telling the loop what comes and goes."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def __setitem__(self, fd: int, connection: Any) -> None:
        super().__setitem__(fd, connection)
        self._loop.touch(fd)

    def __delitem__(self, fd: int) -> None:
        super().__delitem__(fd)
        self._loop.forget(fd)


class Loop:
    """Runs callbacks when descriptors are ready and timers are due."""

    def __init__(self, dispatch: Callable[[Any, int], object] | None = None) -> None:
        """Make a loop; `dispatch(connection, events)` serves the connections."""
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[int], object]] = {}
        self._masks: dict[int, int] = {}
        self.connections = ConnectionMap(self)
        self._connection_masks: dict[int, int] = {}
        self._touched: set[int] = set()
        #: closed in this turn; the numbers may have new owners already
        self._stale: set[int] = set()
        self.dispatch = dispatch
        self._soon: deque[Callable[[], object]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._stopped = False
        self._frozen_s = 0.0
        self._not_frozen_since = 0.0
        #: who has deadlines that a freeze must not count against
        self.tickers: set[object] = set()
        self._bugs_in_a_row = 0
        self.at_turn_end: list[Callable[[], object]] = []
        self.slow_turns = 0
        self.turns = 0

    def now(self) -> float:
        """Return monotonic seconds, without the time spent frozen."""
        return time.monotonic() - self._frozen_s

    # Descriptors that are not waitress's.

    def watch(
        self,
        fd: int,
        callback: Callable[[int], object],
        *,
        read: bool = True,
        write: bool = False,
    ) -> None:
        """Call `callback(events)` whenever `fd` is ready; replaces an earlier watch."""
        mask = (READ if read else 0) | (WRITE if write else 0)
        if fd not in self._masks:
            self._epoll.register(fd, mask)
        elif self._masks[fd] != mask:
            self._epoll.modify(fd, mask)
        self._masks[fd] = mask
        self._watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Forget `fd`; call it before the descriptor is closed."""
        if self._watched.pop(fd, None) is not None:
            del self._masks[fd]
            self._epoll.unregister(fd)
            self._stale.add(fd)

    # Connections, whose interest is theirs to know.

    def touch(self, fd: int) -> None:
        """Look at this connection's interest again at the end of the turn."""
        self._touched.add(fd)

    def leave(self, fd: int) -> None:
        """Take back a `touch`: what this connection wants is what it wanted before."""
        self._touched.discard(fd)

    def forget(self, fd: int) -> None:
        """Drop a connection that has left the map."""
        self._touched.discard(fd)
        if self._connection_masks.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            self._stale.add(fd)

    def _update_interest(self) -> None:
        while self._touched:
            touched, self._touched = self._touched, set()
            for fd in touched:
                connection = self.connections.get(fd)
                if connection is None:
                    continue
                mask = READ if connection.readable() else 0
                if connection.writable() and not connection.accepting:
                    mask |= WRITE
                known = self._connection_masks.get(fd)
                if known is None:
                    self._epoll.register(fd, mask)
                elif known != mask:
                    self._epoll.modify(fd, mask)
                self._connection_masks[fd] = mask

    # Work and time.

    def call_soon(self, call: Callable[[], object]) -> None:
        """Call it in this turn, after the events."""
        self._soon.append(call)

    def call_later(self, delay_s: float, call: Callable[[], object]) -> Timer:
        """Call it `delay_s` seconds from now, unless the timer is cancelled."""
        timer = Timer(self.now() + delay_s, call)
        heapq.heappush(self._timers, (timer.at, next(self._order), timer))
        return timer

    def stop(self) -> None:
        """End `run` after this turn."""
        self._stopped = True

    def run(self) -> None:
        """Take turns until `stop` is called."""
        self._stopped = False
        while not self._stopped:
            self.turn()

    def turn(self, max_wait_s: float | None = None) -> None:
        """Wait for something to happen, and deal with all that did."""
        self._update_interest()
        wait_s = self._wait_s(max_wait_s)
        before = time.monotonic()
        events = self._epoll.poll(wait_s)
        started = time.monotonic()
        self.turns += 1
        self._not_frozen_since = started
        if wait_s is not None and started - before - wait_s > _FREEZE_S:
            # All of it: what part of the wait was the frozen one cannot be told.
            self._note_freeze(started - before)
        try:
            self._serve(events)
            self._bugs_in_a_row = 0
        except Exception:  # one bad callback is no reason to end all
            self._note_bug()
            if self._bugs_in_a_row >= _MAX_BUGS_IN_A_ROW:
                raise
        self._look_for_freeze()
        took = time.monotonic() - started
        if took > SLOW_TURN_S:
            self._note_slow_turn(took)

    def _serve(self, events: list[tuple[int, int]]) -> None:
        watched, connections, touched = self._watched, self.connections, self._touched
        stale = self._stale
        stale.clear()
        for fd, mask in events:
            if fd in stale:
                # Whoever has the number by now, this event was not for him.
                continue
            callback = watched.get(fd)
            if callback is not None:
                callback(mask)
                continue
            connection = connections.get(fd)
            if connection is not None:
                touched.add(fd)
                self.dispatch(connection, mask)  # type: ignore[misc]
        soon = self._soon
        while soon:
            soon.popleft()()
        if self._timers:
            # Before any of them: it may have come in the middle of the events.
            self._look_for_freeze()
            self._fire_timers()
        for call in self.at_turn_end:
            call()

    def _fire_timers(self) -> None:
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2].fire()
        while self._soon:
            self._soon.popleft()()

    def _wait_s(self, max_wait_s: float | None) -> float | None:
        if self._soon or self._stopped:
            return 0
        while self._timers and not self._timers[0][2].is_armed:
            heapq.heappop(self._timers)
        if not self._timers:
            return max_wait_s
        wait_s = max(0.0, self._timers[0][0] - self.now())
        if self.tickers:
            wait_s = min(wait_s, _TICK_S)
        return wait_s if max_wait_s is None else min(wait_s, max_wait_s)

    def _look_for_freeze(self) -> None:
        gap_s = time.monotonic() - self._not_frozen_since
        if gap_s > _FREEZE_S:
            self._not_frozen_since += gap_s
            self._note_freeze(gap_s)

    def _note_freeze(self, gap_s: float) -> None:
        self._frozen_s += gap_s
        _log.info("frozen for %.1f s; deadlines were moved by as much", gap_s)

    def _note_bug(self) -> None:
        # Whatever was not served in this turn is still ready in the next.
        self._bugs_in_a_row += 1
        _log.exception("a bug of isoruntime's; please report it")

    def _note_slow_turn(self, took_s: float) -> None:
        self.slow_turns += 1
        _log.debug("a turn of the loop took %.0f ms", took_s * 1000)

    def close(self) -> None:
        """Give the epoll descriptor back."""
        self._epoll.close()
