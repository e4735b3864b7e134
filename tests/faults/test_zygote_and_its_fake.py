"""The zygote and its fake keep the same promises, or tests over the fake mean nothing."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from isoruntime.errors import ExitStatus
from isoruntime.loop import Loop
from isoruntime.wire.frames import NO_NONCE, Frame, FrameDecoder, Kind, head
from isoruntime.wire.order import LoadOrder
from isoruntime.wire.pipes import ACKNOWLEDGEMENT_AT
from isoruntime.zygote import protocol
from isoruntime.zygote.client import Zygote
from isoruntime.zygote.spawn import Spawned, spawn
from tests.faults.fake_zygote import FakeZygote

HANDLERS = Path(__file__).parents[1] / "handlers"
NONCE = b"0123456789abcdef"


class SelfActingFake(FakeZygote):
    """The fake with workers that do what the real ones do with `echo.handler`."""

    boots_workers = True
    started: list[FakeZygote] = []  # noqa: RUF012 - read by nobody

    def act(self) -> None:
        """Have every worker answer, and those go who were sent off."""
        for worker in self.workers.values():
            request = worker.take()
            if request is not None:
                worker.reply(bytes(request.body))
        self.let_go()


class Hearing:
    """Hears everything a zygote reports, and keeps it."""

    def __init__(
        self,
        make: Callable[..., Any],
        handler: str = "echo.handler",
        ahead: Sequence[int] = (),
    ) -> None:
        self.loop = Loop()
        self.loaded: list[int] = []
        self.begun: list[int] = []
        self.died: list[ExitStatus] = []
        self.forked: dict[int, tuple[int, dict[str, int]]] = {}
        self.exited: dict[int, ExitStatus] = {}
        order = LoadOrder(handler, str(HANDLERS))
        environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
        spawned = spawn(environment) if make is Zygote else environment
        self.zygote = make(self.loop, self, self, order, spawned, ahead)

    def zygote_loaded(
        self,
        zygote: Any,
        threads: int,
        seconds: float,
        skipped: dict[str, str],
        begun: Sequence[int],
    ) -> None:
        assert self.forked == {}
        self.loaded.append(threads)
        self.begun += begun

    def zygote_failed(
        self, zygote: Any, error_type: str, body: bytes, place: str
    ) -> None:
        raise AssertionError(f"{error_type}: {body.decode()}")

    def zygote_died(self, zygote: Any, status: ExitStatus) -> None:
        self.died.append(status)

    def zygote_output(self, data: bytes) -> None:
        raise AssertionError(data)

    def worker_forked(
        self, zygote: Any, slot: int, pid: int, descriptors: dict[str, int]
    ) -> None:
        assert zygote is self.zygote
        self.forked[slot] = (pid, descriptors)

    def worker_unforked(self, zygote: Any, slot: int, reason: str) -> None:
        raise AssertionError(reason)

    def worker_exited(
        self, zygote: Any, slot: int, status: ExitStatus, peak_kb: int, excess: Any
    ) -> None:
        assert peak_kb > 1024
        assert excess is None
        assert slot not in self.exited
        self.exited[slot] = status

    # What a test does.

    def turn_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "it was never heard of"
            self.loop.turn(0.01)
            if isinstance(self.zygote, SelfActingFake):
                self.zygote.act()

    def fork(self, slot: int) -> dict[str, int]:
        self.zygote.fork([slot])
        self.turn_until(lambda: slot in self.forked)
        return self.forked[slot][1]

    def frame_from(self, slot: int) -> Frame:
        """Wait for the next frame of a worker."""
        fd = self.forked[slot][1]["reply"]
        decoder, frames = FrameDecoder(1 << 20), []

        def has_come() -> bool:
            if select.select([fd], [], [], 0)[0]:
                frames.append(decoder.feed(os.read(fd, 1 << 16)))
            return any(frames)

        self.turn_until(has_come)
        (frame,) = filter(None, frames)
        return frame

    def is_closed(self, slot: int) -> bool:
        """Return whether a worker's reply pipe is at its end."""
        poll = select.poll()
        poll.register(self.forked[slot][1]["reply"], select.POLLIN)
        return any(event & select.POLLHUP for _, event in poll.poll(0))

    def close(self) -> None:
        if not self.died:
            self.zygote.dismiss()
            self.turn_until(lambda: self.died)
        for _, descriptors in self.forked.values():
            for fd in descriptors.values():
                os.close(fd)
        self.loop.close()


BOTH = (
    pytest.param(Zygote, id="the zygote"),
    pytest.param(SelfActingFake, id="its fake"),
)


@pytest.fixture(params=BOTH)
def hearing(request: pytest.FixtureRequest) -> Iterator[Hearing]:
    made = Hearing(request.param)
    yield made
    made.close()


def test_it_says_when_the_handler_is_loaded(hearing: Hearing) -> None:
    assert hearing.loaded == []
    hearing.turn_until(lambda: hearing.loaded)
    assert hearing.loaded == [1]


def test_a_fork_is_reported_with_its_descriptors_and_then_is_ready(
    hearing: Hearing,
) -> None:
    hearing.zygote.fork([7])
    assert hearing.forked == {}
    hearing.turn_until(lambda: hearing.forked)
    _, descriptors = hearing.forked[7]
    assert descriptors.keys() >= {"request", "reply", "trace", "stdout"}
    assert not os.get_blocking(descriptors["request"])
    assert not os.get_blocking(descriptors["reply"])
    frame = hearing.frame_from(7)
    assert (frame.kind, frame.nonce) == (Kind.READY, NO_NONCE)


def test_forks_ordered_before_the_handler_is_loaded_follow_it(
    hearing: Hearing,
) -> None:
    for slot in (3, 1, 2):
        hearing.zygote.fork([slot])
    hearing.turn_until(lambda: len(hearing.forked) == 3)
    assert list(hearing.forked) == [3, 1, 2]
    assert hearing.loaded == [1]
    assert len({pid for pid, _ in hearing.forked.values()}) == 3


@pytest.mark.parametrize("make", BOTH)
def test_forks_ordered_with_the_handler_follow_it(make: Callable[..., Any]) -> None:
    hearing = Hearing(make, ahead=[2, 1])
    hearing.zygote.fork([3])
    hearing.turn_until(lambda: len(hearing.forked) == 3)
    assert (hearing.loaded, hearing.begun) == ([1], [2, 1])
    assert list(hearing.forked) == [2, 1, 3]
    for slot in (1, 2, 3):
        assert hearing.frame_from(slot).kind == Kind.READY
    hearing.close()


def test_they_do_not_follow_one_that_leaves_threads_behind() -> None:
    hearing = Hearing(Zygote, "threaded.handler", ahead=[1, 2])
    hearing.turn_until(lambda: hearing.loaded)
    assert (hearing.loaded, hearing.begun) == ([2], [])
    hearing.fork(3)
    assert list(hearing.forked) == [3]
    hearing.close()


def test_one_that_says_twice_that_it_has_loaded_begins_no_worker_twice() -> None:
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    output_r, output_w = os.pipe()
    # The client reaps it.
    liar = os.posix_spawnp("sleep", ["sleep", "60"], {})
    hearing = Hearing(
        lambda *given: Zygote(*given[:4], Spawned(liar, control, output_r), [1, 2])
    )
    said = {"threads": 1, "seconds": 0.0, "skipped": {}, "begins": True}
    for _ in range(2):
        theirs.send(protocol.encode("loaded", **said))
    hearing.turn_until(lambda: len(hearing.loaded) == 2)
    assert hearing.begun == [1, 2]
    os.close(output_w)
    theirs.close()
    hearing.zygote.kill()
    hearing.turn_until(lambda: hearing.died)
    hearing.close()


def test_all_that_are_ordered_at_once_come_each_with_its_own_descriptors(
    hearing: Hearing,
) -> None:
    slots = list(range(1, 11))
    hearing.zygote.fork(slots)
    hearing.turn_until(lambda: len(hearing.forked) == len(slots))
    assert list(hearing.forked) == slots
    assert len({pid for pid, _ in hearing.forked.values()}) == len(slots)
    for slot in slots:
        _, descriptors = hearing.forked[slot]
        assert hearing.frame_from(slot).kind == Kind.READY
        event = b"for %d" % slot
        request = head(Kind.INVOKE, NONCE, b"r\n1000\n{}", len(event)) + event
        os.write(descriptors["request"], request)
        assert hearing.frame_from(slot).body == event
    for _, descriptors in hearing.forked.values():
        os.close(descriptors.pop("request"))
    hearing.turn_until(lambda: len(hearing.exited) == len(slots))
    assert set(hearing.exited.values()) == {ExitStatus(code=0)}


def test_a_worker_answers_with_the_nonce_of_its_request(hearing: Hearing) -> None:
    descriptors = hearing.fork(1)
    hearing.frame_from(1)
    request = head(Kind.INVOKE, NONCE, b"r\n1000\n{}", 5) + b"event"
    assert os.write(descriptors["request"], request) == len(request)
    frame = hearing.frame_from(1)
    assert (frame.kind, frame.nonce, frame.body) == (Kind.RESULT, NONCE, b"event")


def test_a_worker_acknowledges_its_request_in_its_trace(hearing: Hearing) -> None:
    descriptors = hearing.fork(1)
    hearing.frame_from(1)
    trace = descriptors["trace"]
    assert os.pread(trace, len(NONCE), ACKNOWLEDGEMENT_AT) in {b"", bytes(len(NONCE))}
    os.write(descriptors["request"], head(Kind.INVOKE, NONCE, b"r\n1000\n{}", 0))
    hearing.frame_from(1)
    assert os.pread(trace, len(NONCE), ACKNOWLEDGEMENT_AT) == NONCE


def test_a_killed_worker_is_reported_as_killed(hearing: Hearing) -> None:
    hearing.fork(1)
    hearing.fork(2)
    hearing.zygote.kill_worker(1)
    assert hearing.exited == {}
    hearing.turn_until(lambda: hearing.exited)
    assert hearing.exited == {1: ExitStatus(signal=9)}
    assert hearing.is_closed(1)
    assert not hearing.is_closed(2)


def test_a_worker_whose_request_pipe_is_closed_leaves(hearing: Hearing) -> None:
    descriptors = hearing.fork(1)
    hearing.frame_from(1)
    os.close(descriptors.pop("request"))
    hearing.turn_until(lambda: hearing.exited)
    assert hearing.exited == {1: ExitStatus(code=0)}


def test_killing_whom_there_is_not_is_nothing(hearing: Hearing) -> None:
    hearing.zygote.kill_worker(99)
    hearing.fork(1)
    hearing.zygote.kill_worker(1)
    hearing.zygote.kill_worker(1)
    hearing.turn_until(lambda: hearing.exited)
    hearing.fork(2)
    assert hearing.exited.keys() == {1}
    assert hearing.died == []


def test_dismissed_it_ends_and_takes_its_workers_along(hearing: Hearing) -> None:
    hearing.fork(1)
    hearing.zygote.dismiss()
    hearing.turn_until(lambda: hearing.died)
    assert hearing.died == [ExitStatus(code=0)]
    hearing.turn_until(lambda: hearing.is_closed(1))


def test_killed_it_ends_and_takes_its_workers_along(hearing: Hearing) -> None:
    hearing.turn_until(lambda: hearing.loaded)
    hearing.fork(1)
    hearing.zygote.kill()
    hearing.turn_until(lambda: hearing.died)
    assert hearing.died == [ExitStatus(signal=9)]
    hearing.turn_until(lambda: hearing.is_closed(1))
    assert hearing.exited == {}


def test_orders_to_one_that_has_ended_are_nothing(hearing: Hearing) -> None:
    hearing.zygote.kill()
    hearing.turn_until(lambda: hearing.died)
    hearing.zygote.fork([1])
    hearing.zygote.kill_worker(1)
    hearing.zygote.watch(True)
    hearing.zygote.dismiss()
    hearing.loop.turn(0.01)
    assert (hearing.forked, len(hearing.died)) == ({}, 1)
