"""The loop: order within a turn, timers, freezes, and who is looked at when."""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import isoruntime.loop as loop_module
from isoruntime.loop import READ, WRITE, Loop
from tests.waiting import wait_until


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


class Clock:
    """Stands in for `time.monotonic` of the loop's module alone."""

    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(loop_module, "time", made)
    return made


class Pipe:
    """Both ends of a pipe, without blocking."""

    def __init__(self) -> None:
        self.r, self.w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self) -> None:
        for fd in (self.r, self.w):
            try:
                os.close(fd)
            except OSError as error:
                assert error.errno == errno.EBADF  # noqa: PT017 - a test closed it


@pytest.fixture
def pipes() -> Iterator[Callable[[], Pipe]]:
    made: list[Pipe] = []

    def make() -> Pipe:
        made.append(Pipe())
        return made[-1]

    yield make
    for pipe in made:
        pipe.close()


class FakeConnection:
    """What the loop knows of a connection: interest, asked for and counted."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.accepting = False
        self.wants_read = True
        self.wants_write = False
        self.asked = 0
        self.events: list[int] = []

    def readable(self) -> bool:
        self.asked += 1
        return self.wants_read

    def writable(self) -> bool:
        return self.wants_write


def on_event(connection: FakeConnection, events: int) -> None:
    connection.events.append(events)
    if events & READ:
        os.read(connection.fd, 100)


# Work that is due at once.


def test_work_for_soon_is_done_in_the_order_it_came(loop: Loop) -> None:
    done: list[int] = []
    for number in range(5):
        loop.call_soon(lambda number=number: done.append(number))  # type: ignore[misc]
    loop.turn()
    assert done == [0, 1, 2, 3, 4]


def test_work_that_makes_work_is_finished_in_the_same_turn(loop: Loop) -> None:
    done: list[str] = []
    loop.call_soon(lambda: (done.append("first"), loop.call_soon(second)))

    def second() -> None:
        done.append("second")

    loop.turn()
    assert done == ["first", "second"]


def test_a_turn_is_events_then_work_then_timers_then_its_end(
    loop: Loop, pipes: Callable[[], Pipe], clock: Clock
) -> None:
    order: list[str] = []
    pipe = pipes()

    def on_read(events: int) -> None:
        os.read(pipe.r, 10)
        order.append("event")
        loop.call_soon(lambda: order.append("soon after the event"))

    def on_timer() -> None:
        order.append("timer")
        loop.call_soon(lambda: order.append("soon after the timer"))

    loop.watch(pipe.r, on_read)
    loop.call_later(0.5, on_timer)
    loop.at_turn_end.append(lambda: order.append("end"))
    os.write(pipe.w, b"x")
    clock.time += 1
    loop.turn(0)
    assert order == [
        "event",
        "soon after the event",
        "timer",
        "soon after the timer",
        "end",
    ]


def test_turns_are_counted(loop: Loop) -> None:
    for _ in range(3):
        loop.turn(0)
    assert loop.turns == 3


def test_a_loop_runs_until_it_is_stopped_and_can_run_again(loop: Loop) -> None:
    for _ in range(2):
        loop.call_soon(loop.stop)
        loop.run()
    assert loop.turns == 2


def test_stopping_from_a_timer_ends_it_in_that_turn(loop: Loop) -> None:
    loop.call_later(0.001, loop.stop)
    loop.call_later(60, lambda: None)
    began = time.monotonic()
    loop.run()
    assert time.monotonic() - began < 10


# Timers.


def test_timers_fire_in_the_order_of_their_times(loop: Loop, clock: Clock) -> None:
    fired: list[float] = []
    for delay in (3.0, 1.0, 2.0, 1.0, 0.0):
        loop.call_later(delay, lambda delay=delay: fired.append(delay))  # type: ignore[misc]
    clock.time += 2.5
    loop.turn(0)
    assert fired == [0.0, 1.0, 1.0, 2.0]
    clock.time += 0.5
    loop.turn(0)
    assert fired == [0.0, 1.0, 1.0, 2.0, 3.0]


def test_timers_for_the_same_moment_fire_in_the_order_they_were_armed(
    loop: Loop, clock: Clock
) -> None:
    fired: list[int] = []
    for number in range(20):
        loop.call_later(1.0, lambda number=number: fired.append(number))  # type: ignore[misc]
    clock.time += 1.0
    loop.turn(0)
    assert fired == list(range(20))


def test_a_timer_fires_once_and_not_before_its_time(loop: Loop, clock: Clock) -> None:
    fired: list[str] = []
    timer = loop.call_later(1.0, lambda: fired.append("now"))
    clock.time += 0.999
    loop.turn(0)
    assert fired == []
    assert timer.is_armed
    clock.time += 0.001
    loop.turn(0)
    loop.turn(0)
    assert fired == ["now"]
    assert not timer.is_armed


def test_a_cancelled_timer_does_not_fire_and_may_be_cancelled_again(
    loop: Loop, clock: Clock
) -> None:
    fired: list[str] = []
    timer = loop.call_later(1.0, lambda: fired.append("never"))
    timer.cancel()
    timer.cancel()
    assert not timer.is_armed
    clock.time += 5
    loop.turn(0)
    assert fired == []


def test_a_timer_may_cancel_one_that_is_due_with_it(loop: Loop, clock: Clock) -> None:
    fired: list[str] = []
    loop.call_later(1.0, lambda: (fired.append("first"), second.cancel()))
    second = loop.call_later(1.0, lambda: fired.append("second"))
    clock.time += 1
    loop.turn(0)
    assert fired == ["first"]


def test_a_timer_that_is_armed_by_one_waits_its_own_time(
    loop: Loop, clock: Clock
) -> None:
    fired: list[str] = []
    loop.call_later(1.0, lambda: loop.call_later(1.0, lambda: fired.append("late")))
    clock.time += 1
    loop.turn(0)
    assert fired == []
    clock.time += 1
    loop.turn(0)
    assert fired == ["late"]


def test_a_wait_ends_when_a_timer_is_due(loop: Loop) -> None:
    fired: list[float] = []
    began = time.monotonic()
    loop.call_later(0.05, lambda: fired.append(time.monotonic() - began))
    while not fired:
        loop.turn()
    assert 0.05 <= fired[0] < 5


def test_a_cancelled_timer_wakes_nobody(loop: Loop) -> None:
    loop.call_later(0.0, lambda: None).cancel()
    loop.call_later(0.08, loop.stop)
    loop.run()
    # The wait of epoll is rounded to milliseconds, so one more turn may be needed.
    assert loop.turns <= 2


# Freezes.


class FreezingEpoll:
    """epoll that lets the clock jump in mid-wait, as a frozen process finds it."""

    def __init__(self, epoll: Any, clock: Clock) -> None:
        self._epoll = epoll
        self._clock = clock
        self.frozen_for_s = 0.0
        self.waits: list[float | None] = []

    def poll(self, wait_s: float | None) -> list[tuple[int, int]]:
        self.waits.append(wait_s)
        self._clock.time += (wait_s or 0) + self.frozen_for_s
        self.frozen_for_s = 0.0
        found: list[tuple[int, int]] = self._epoll.poll(0)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


@pytest.fixture
def epoll(loop: Loop, clock: Clock) -> FreezingEpoll:
    made = FreezingEpoll(loop._epoll, clock)
    loop._epoll = made  # type: ignore[assignment]
    return made


def test_a_freeze_moves_every_deadline_by_its_length(
    loop: Loop, clock: Clock, epoll: FreezingEpoll
) -> None:
    fired: list[float] = []
    loop.tickers.add("somebody")
    began = loop.now()
    loop.call_later(10.0, lambda: fired.append(loop.now() - began))
    epoll.frozen_for_s = 3600.0
    loop.turn()
    assert fired == []
    # All of the wait is left out: how much of it was frozen cannot be told.
    assert loop.now() - began == pytest.approx(0.0)
    while not fired:
        loop.turn()
    assert fired == [pytest.approx(10.0)]
    assert clock.time == pytest.approx(1000.0 + 3600.0 + 0.25 + 10.0)


def test_a_freeze_is_noticed_at_the_first_event_after_it(
    loop: Loop, epoll: FreezingEpoll, pipes: Callable[[], Pipe]
) -> None:
    pipe, seen = pipes(), []
    began = loop.now()
    loop.watch(pipe.r, lambda events: seen.append(loop.now() - began))
    loop.call_later(0.5, lambda: seen.append("timer"))  # type: ignore[arg-type]
    os.write(pipe.w, b"x")
    epoll.frozen_for_s = 100.0
    loop.turn(0)
    assert seen == [pytest.approx(0.0)]


def test_a_wait_that_is_a_little_late_is_no_freeze(
    loop: Loop, epoll: FreezingEpoll
) -> None:
    began = loop.now()
    loop.call_later(1.0, lambda: None)
    epoll.frozen_for_s = 0.4
    loop.turn()
    assert loop.now() - began == pytest.approx(1.4)


def test_while_somebody_has_a_deadline_no_wait_is_long(
    loop: Loop, epoll: FreezingEpoll
) -> None:
    loop.call_later(60.0, lambda: None)
    loop.turn()
    loop.call_later(60.0, lambda: None)
    loop.tickers.add("somebody")
    loop.turn()
    loop.turn(0.1)
    assert epoll.waits == [pytest.approx(60.0), 0.25, 0.1]


def test_without_timers_a_wait_is_as_long_as_it_may_be(
    loop: Loop, epoll: FreezingEpoll
) -> None:
    loop.turn()
    loop.turn(3.0)
    loop.call_soon(lambda: None)
    loop.turn()
    assert epoll.waits == [None, 3.0, 0]


def test_a_process_that_was_stopped_counts_only_the_time_it_ran() -> None:
    # The real thing, ten times as fast: a child whose loop has a timer in 0.3 s is
    # stopped for 1 s. What it says is the loop's time at which the timer fired.
    r, w = os.pipe()
    # Safe because the child runs nothing but a loop of its own and `_exit`.
    child = os.fork()
    if child == 0:
        _report_timer(w)
    os.close(w)
    try:
        assert os.read(r, 1) == b"r"
        wait_until(lambda: _state_of(child) == "S", 5, "the child's wait")
        os.kill(child, signal.SIGSTOP)
        resumed_at = time.monotonic() + 1.0
        wait_until(lambda: time.monotonic() >= resumed_at)
        os.kill(child, signal.SIGCONT)
        fired_at = float(os.read(r, 100))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(r)
    # The wait in which it was stopped may count, the rest of the second not.
    assert 0.3 <= fired_at < 0.6


def _report_timer(fd: int) -> None:
    try:
        loop_module._TICK_S, loop_module._FREEZE_S = 0.1, 0.2  # type: ignore[misc]
        own = Loop()
        own.tickers.add("somebody")
        began = own.now()
        own.call_later(0.3, lambda: os.write(fd, b"%f" % (own.now() - began)))
        own.call_later(0.3, own.stop)
        os.write(fd, b"r")
        own.run()
    finally:
        # Safe because nothing of the parent's may run here a second time.
        os._exit(0)


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


# Descriptors.


def test_a_watched_descriptor_calls_back_while_it_is_ready(
    loop: Loop, pipes: Callable[[], Pipe]
) -> None:
    pipe, seen = pipes(), []
    loop.watch(pipe.r, seen.append)
    loop.turn(0)
    assert seen == []
    os.write(pipe.w, b"x")
    loop.turn(0)
    loop.turn(0)
    assert seen == [READ, READ]


def test_a_second_watch_replaces_callback_and_interest(
    loop: Loop, pipes: Callable[[], Pipe]
) -> None:
    pipe, first, second = pipes(), [], []
    loop.watch(pipe.w, first.append)
    loop.watch(pipe.w, second.append, read=False, write=True)
    loop.turn(0)
    assert (first, second) == ([], [WRITE])


def test_an_unwatched_descriptor_is_forgotten_even_twice(
    loop: Loop, pipes: Callable[[], Pipe]
) -> None:
    pipe, seen = pipes(), []
    loop.watch(pipe.r, seen.append)
    os.write(pipe.w, b"x")
    loop.unwatch(pipe.r)
    loop.unwatch(pipe.r)
    loop.turn(0)
    assert seen == []


def test_a_callback_may_unwatch_the_others_that_are_ready(
    loop: Loop, pipes: Callable[[], Pipe]
) -> None:
    both, seen = [pipes(), pipes()], []

    def on_read(events: int) -> None:
        seen.append(events)
        for pipe in both:
            loop.unwatch(pipe.r)

    for pipe in both:
        loop.watch(pipe.r, on_read)
        os.write(pipe.w, b"x")
    loop.turn(0)
    assert len(seen) == 1


def test_an_event_for_a_closed_descriptor_reaches_nobody_who_got_its_number(
    loop: Loop, pipes: Callable[[], Pipe]
) -> None:
    # In one turn: a worker's end closes its pipes, a new connection is accepted and
    # gets one of these numbers, then comes the event that was for the old pipe.
    old, other, seen = [pipes(), pipes()], pipes(), []

    def close_the_other(mine: int, others: int) -> Callable[[int], None]:
        def on_read(events: int) -> None:
            seen.append("old")
            loop.unwatch(mine)
            loop.unwatch(others)
            # What closing it and opening another one comes to.
            os.dup2(other.r, others)
            loop.watch(others, lambda events: seen.append("the new owner"))

        return on_read

    first, second = old[0].r, old[1].r
    loop.watch(first, close_the_other(first, second))
    loop.watch(second, close_the_other(second, first))
    for pipe in old:
        os.write(pipe.w, b"x")
    loop.turn(0)
    assert seen == ["old"]


# Connections.


@pytest.fixture
def connect(
    loop: Loop, pipes: Callable[[], Pipe]
) -> Callable[[], tuple[FakeConnection, Pipe]]:
    loop.dispatch = on_event

    def make() -> tuple[FakeConnection, Pipe]:
        pipe = pipes()
        connection = FakeConnection(pipe.r)
        loop.connections[pipe.r] = connection
        return connection, pipe

    return make


Connect = Callable[[], tuple[FakeConnection, Pipe]]


def test_a_connection_is_asked_for_its_interest_only_when_it_was_touched(
    loop: Loop, connect: Connect
) -> None:
    idle, _ = connect()
    active, pipe = connect()
    loop.turn(0)
    assert (idle.asked, active.asked) == (1, 1)
    for _ in range(3):
        os.write(pipe.w, b"x")
        loop.turn(0)
    loop.turn(0)
    assert active.events == [READ, READ, READ]
    assert (idle.asked, active.asked) == (1, 4)
    loop.touch(idle.fd)
    loop.turn(0)
    assert (idle.asked, active.asked) == (2, 4)


def test_a_connection_that_wants_nothing_hears_nothing_until_it_is_touched(
    loop: Loop, connect: Connect
) -> None:
    connection, pipe = connect()
    connection.wants_read = False
    os.write(pipe.w, b"x")
    loop.turn(0)
    loop.turn(0)
    assert connection.events == []
    connection.wants_read = True
    loop.turn(0)
    assert connection.events == []
    loop.touch(connection.fd)
    loop.turn(0)
    assert connection.events == [READ]


def test_a_connection_that_wants_to_write_may(
    loop: Loop, pipes: Callable[[], Pipe]
) -> None:
    loop.dispatch = on_event
    connection = FakeConnection(pipes().w)
    connection.wants_read, connection.wants_write = False, True
    loop.connections[connection.fd] = connection
    loop.turn(0)
    assert connection.events == [WRITE]


def test_a_listening_socket_is_never_waited_for_to_take_bytes(
    loop: Loop, pipes: Callable[[], Pipe]
) -> None:
    loop.dispatch = on_event
    connection = FakeConnection(pipes().w)
    connection.wants_read, connection.wants_write = False, True
    connection.accepting = True
    loop.connections[connection.fd] = connection
    loop.turn(0)
    assert connection.events == []


def test_a_connection_that_left_the_map_is_forgotten(
    loop: Loop, connect: Connect
) -> None:
    connection, pipe = connect()
    loop.turn(0)
    del loop.connections[connection.fd]
    os.write(pipe.w, b"x")
    loop.turn(0)
    assert connection.events == []


def test_a_connection_that_comes_and_goes_in_one_turn_is_never_registered(
    loop: Loop, connect: Connect
) -> None:
    connection, pipe = connect()
    del loop.connections[connection.fd]
    pipe.close()
    loop.turn(0)
    assert connection.asked == 0


# What goes wrong.


def test_an_exception_in_a_callback_is_told_and_loses_nothing_else(
    loop: Loop,
    pipes: Callable[[], Pipe],
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipe, done = pipes(), []
    os.write(pipe.w, b"x")
    loop.watch(pipe.r, lambda events: (os.read(pipe.r, 1), done.append("event")))
    loop.call_soon(lambda: 1 // 0)
    loop.call_soon(lambda: done.append("soon"))
    loop.call_later(0.0, lambda: done.append("timer"))
    loop.turn()
    loop.turn()
    assert done == ["event", "soon", "timer"]
    (record,) = caplog.records
    assert "report it" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_an_exception_in_a_timer_leaves_the_other_timers_armed(
    loop: Loop, clock: Clock
) -> None:
    done: list[str] = []
    loop.call_later(0.0, lambda: 1 // 0)
    loop.call_later(0.0, lambda: done.append("next"))
    loop.turn()
    loop.turn()
    assert done == ["next"]


def test_a_bug_in_every_turn_is_the_end(loop: Loop) -> None:
    def fail_again() -> None:
        loop.call_soon(fail_again)
        raise ZeroDivisionError

    loop.call_soon(fail_again)
    with pytest.raises(ZeroDivisionError):
        loop.run()
    assert 10 <= loop.turns <= 1000


def test_a_bug_now_and_then_never_is(loop: Loop) -> None:
    for _ in range(500):
        loop.call_soon(lambda: 1 // 0)
        loop.turn(0)
        loop.turn(0)
    assert loop.turns == 1000


def test_a_slow_turn_is_counted_and_logged_a_quick_one_not(
    loop: Loop, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "isoruntime.loop")

    def pass_time(seconds: float) -> None:
        clock.time += seconds

    loop.call_soon(lambda: pass_time(0.009))
    loop.turn()
    assert loop.slow_turns == 0
    loop.call_soon(lambda: pass_time(0.030))
    loop.turn()
    assert loop.slow_turns == 1
    assert [record.getMessage() for record in caplog.records] == [
        "a turn of the loop took 30 ms"
    ]


def test_a_closed_loop_gives_its_descriptor_back() -> None:
    made = Loop()
    fd = made._epoll.fileno()
    os.fstat(fd)
    made.close()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(fd)


def test_the_masks_are_those_of_epoll() -> None:
    assert (READ, WRITE) == (select.EPOLLIN, select.EPOLLOUT)
