"""A lease: what a worker may say while it is lent, and what each of it comes to."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from isoruntime.contract.http import Request, Response, encode_head
from isoruntime.dispatch.dispatcher import Limits
from isoruntime.dispatch.invocation import Phase
from isoruntime.errors import (
    CommandFailed,
    DeadlineExceeded,
    ExitStatus,
    HandlerRaised,
    NotAnHttpFunction,
    ResponseTooLarge,
    WorkerDied,
    WorkerOutOfTurn,
)
from isoruntime.pool.pool import PoolSize
from isoruntime.pool.states import WorkerState
from isoruntime.wire.frames import (
    NO_NONCE,
    NONCE_BYTES,
    OUTPUT_PENDING,
    WORN_OUT,
    Kind,
    head,
)
from isoruntime.wire.pipes import STACK_SIGNAL, EventFile
from isoruntime.zygote.client import Zygote
from tests.support.bench import (
    EVERYTHING,
    INITIALIZES,
    Bench,
    Caller,
    MakeBench,
    PlayedWorker,
    PlayedZygote,
    bench_for,
)

MB = 1 << 20


@pytest.fixture
def make_bench() -> Iterator[MakeBench]:
    with ExitStack() as stack:

        def make(**options: Any) -> Bench:
            return stack.enter_context(bench_for(**options))

        yield make


@pytest.fixture
def bench(make_bench: MakeBench) -> Bench:
    return make_bench()


def one_running(bench: Bench, event: bytes = b"event") -> tuple[Caller, PlayedWorker]:
    """Have one invocation in a worker that has taken it."""
    caller = bench.submit(event)
    return caller, bench.take()


def is_in_service(bench: Bench, worker: PlayedWorker) -> bool:
    """Return whether a worker is free to be lent again."""
    mine = bench.pool.workers.get(worker.slot)
    return mine is not None and mine in bench.pool.idle


def test_the_played_zygote_takes_the_orders_that_the_real_one_takes() -> None:
    orders = [
        name
        for name, value in vars(Zygote).items()
        if callable(value) and not name.startswith("_")
    ]
    assert {"fork", "kill_worker", "dismiss", "kill"} <= set(orders)
    for name in orders:
        real = inspect.signature(getattr(Zygote, name)).parameters
        assert list(inspect.signature(getattr(PlayedZygote, name)).parameters) == list(
            real
        )


# Replies.


def test_a_request_says_what_the_worker_has_to_know(bench: Bench) -> None:
    caller = bench.submit(b"the event", platform_timeout_s=10)
    request = bench.take().last
    assert request is not None
    assert request.kind == Kind.INVOKE
    assert request.body == b"the event"
    request_id, left_ms, context = request.meta.split(b"\n")
    assert (request_id, context) == (caller.request_id.encode(), b"{}")
    # 10 s less the margin of 0.1 s and a hundredth.
    assert int(left_ms) == 9800
    assert request.nonce != NO_NONCE


def test_a_result_is_the_outcome_and_the_worker_is_free(bench: Bench) -> None:
    caller, worker = one_running(bench)
    assert not caller.is_answered
    bench.answer(worker, b"the result")
    assert caller.outcome == b"the result"
    assert is_in_service(bench, worker)
    assert bench.zygote.killed == []
    assert (bench.pool.busy, bench.dispatcher.in_flight) == (0, 0)
    assert bench.lines.read() == [
        f"FC Invoke Start RequestId: {caller.request_id}",
        f"FC Invoke End RequestId: {caller.request_id}",
    ]


def test_a_fault_is_the_callers_error_and_costs_no_worker(bench: Bench) -> None:
    caller, worker = one_running(bench)
    bench.answer(worker, b'{"errorType": "KeyError"}', Kind.FAULT, meta=b"KeyError")
    assert isinstance(caller.outcome, HandlerRaised)
    assert caller.outcome.error_type == "KeyError"
    assert caller.outcome.body == b'{"errorType": "KeyError"}'
    assert is_in_service(bench, worker)
    assert bench.lines.read()[-1].endswith(
        f"End RequestId: {caller.request_id}, Error: Unhandled function error"
    )


def test_the_name_of_a_fault_may_be_no_text(bench: Bench) -> None:
    caller, worker = one_running(bench)
    bench.answer(worker, b"{}", Kind.FAULT, meta=b"\xff\xfe")
    assert isinstance(caller.outcome, HandlerRaised)
    assert is_in_service(bench, worker)


def test_too_much_is_the_callers_error_and_costs_no_worker(bench: Bench) -> None:
    caller, worker = one_running(bench)
    bench.answer(worker, kind=Kind.TOO_LARGE, meta=b"99999999")
    assert isinstance(caller.outcome, ResponseTooLarge)
    assert "99999999 bytes" in str(caller.outcome)
    assert is_in_service(bench, worker)


def test_a_worker_that_sends_too_much_all_the_same_is_not_believed(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(limits=Limits(max_response_bytes=1000))
    caller, worker = one_running(bench)
    bench.answer(worker, bytes(1001))
    assert isinstance(caller.outcome, ResponseTooLarge)
    caller, worker = one_running(bench)
    bench.answer(worker, bytes(1000))
    assert caller.outcome == bytes(1000)


def test_every_request_has_a_nonce_of_its_own(make_bench: MakeBench) -> None:
    bench = make_bench(size=PoolSize(max_workers=1))
    seen = set()
    for _ in range(600):
        _, worker = one_running(bench)
        assert worker.last is not None
        assert len(worker.last.nonce) == NONCE_BYTES
        seen.add(worker.last.nonce)
        bench.answer(worker)
    assert len(seen) == 600


def garbage(bench: Bench, worker: PlayedWorker) -> None:
    worker.say(b"\x09" * 64)


def forged(**changes: Any) -> Callable[[Bench, PlayedWorker], None]:
    def speak(bench: Bench, worker: PlayedWorker) -> None:
        worker.reply(b"forged", **changes)

    return speak


def twice_at_once(bench: Bench, worker: PlayedWorker) -> None:
    assert worker.last is not None
    frame = head(Kind.RESULT, worker.last.nonce, b"", 2) + b"ok"
    worker.say(frame + frame)


def with_a_byte_behind(bench: Bench, worker: PlayedWorker) -> None:
    assert worker.last is not None
    worker.say(head(Kind.RESULT, worker.last.nonce, b"", 2) + b"ok!")


def announcing_too_much(bench: Bench, worker: PlayedWorker) -> None:
    assert worker.last is not None
    worker.say(head(Kind.RESULT, worker.last.nonce, b"", 1 << 40))


@pytest.mark.parametrize(
    "speak",
    [
        pytest.param(garbage, id="garbage"),
        pytest.param(forged(nonce=NO_NONCE), id="no nonce"),
        pytest.param(forged(nonce=b"x" * NONCE_BYTES), id="another nonce"),
        pytest.param(forged(kind=Kind.READY), id="READY again"),
        pytest.param(forged(kind=Kind.FAILED), id="FAILED"),
        pytest.param(forged(kind=Kind.INVOKE), id="a request"),
        pytest.param(forged(kind=Kind.TOO_LARGE, meta=b""), id="no size"),
        pytest.param(forged(kind=Kind.TOO_LARGE, meta=b"1e9"), id="an odd size"),
        pytest.param(forged(kind=Kind.TOO_LARGE, meta=b"\xff"), id="a size of bytes"),
        pytest.param(
            forged(kind=Kind.TOO_LARGE, meta=b"9" * 5000), id="a size without end"
        ),
        pytest.param(announcing_too_much, id="a terabyte announced"),
    ],
)
def test_what_is_out_of_turn_costs_the_worker_its_life_and_this_caller_an_error(
    bench: Bench, speak: Callable[[Bench, PlayedWorker], None]
) -> None:
    caller, worker = one_running(bench)
    speak(bench, worker)
    bench.settle()
    assert isinstance(caller.outcome, WorkerOutOfTurn)
    assert caller.outcome.verdict is not None
    assert caller.outcome.verdict.cause == "protocol"
    assert bench.zygote.killed == [worker.slot]
    assert not is_in_service(bench, worker)
    bench.let_the_killed_die()
    neighbour, other = one_running(bench)
    bench.answer(other, b"served")
    assert neighbour.outcome == b"served"
    assert other is not worker


@pytest.mark.parametrize(
    "speak",
    [
        pytest.param(twice_at_once, id="two replies"),
        pytest.param(with_a_byte_behind, id="a byte too many"),
    ],
)
def test_who_goes_on_speaking_after_his_answer_is_not_lent_again(
    bench: Bench, speak: Callable[[Bench, PlayedWorker], None]
) -> None:
    caller, worker = one_running(bench)
    speak(bench, worker)
    bench.settle()
    assert caller.outcome == b"ok"
    assert not is_in_service(bench, worker)
    bench.let_the_killed_die()
    neighbour, other = one_running(bench)
    bench.answer(other, b"served")
    assert neighbour.outcome == b"served"
    assert other is not worker


def test_an_answer_to_the_last_invocation_is_no_answer_to_this_one(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(size=PoolSize(max_workers=1))
    first, worker = one_running(bench)
    assert worker.last is not None
    old = worker.last.nonce
    bench.answer(worker, b"first")
    second, again = one_running(bench)
    assert again is worker
    bench.answer(worker, b"late words", nonce=old)
    assert first.outcome == b"first"
    assert not second.is_answered
    bench.answer(worker, b"second")
    assert second.outcome == b"second"
    assert not is_in_service(bench, worker), "who speaks out of turn is not lent again"


def test_words_that_nobody_asked_for_cost_an_idle_worker_its_life(bench: Bench) -> None:
    _, worker = one_running(bench)
    bench.answer(worker, b"first")
    bench.answer(worker, b"again")
    assert bench.zygote.killed == [worker.slot]
    assert not is_in_service(bench, worker)
    bench.let_the_killed_die()
    assert len(bench.pool.idle) >= 1


def test_a_reply_in_pieces_is_one_reply(bench: Bench) -> None:
    caller, worker = one_running(bench)
    assert worker.last is not None
    frame = head(Kind.RESULT, worker.last.nonce, b"", 200_000) + bytes(200_000)
    for at in range(0, len(frame), 10_000):
        assert not caller.is_answered
        worker.say(frame[at : at + 10_000])
        bench.settle()
    assert caller.outcome == bytes(200_000)
    assert is_in_service(bench, worker)


def test_an_answer_before_the_request_was_taken_in_full_ends_the_worker(
    bench: Bench,
) -> None:
    # A handler's thread can read the nonce from its own memory while the rest of the
    # event is still being sent. Lent again, the worker would take the remaining
    # bytes for its next request.
    caller = bench.submit(bytes(10 * MB))
    (worker,) = bench.asked()
    received = worker.take_bytes(1 << 16)
    bench.answer(worker, b"hasty", nonce=received[16:32])
    assert caller.is_answered
    assert not is_in_service(bench, worker)


def test_a_worker_that_is_worn_out_is_thanked_and_sent_off(bench: Bench) -> None:
    caller, worker = one_running(bench)
    bench.answer(worker, b"the last one", flags=WORN_OUT)
    assert caller.outcome == b"the last one"
    assert worker.was_sent_off()
    assert not is_in_service(bench, worker)
    bench.advance(5)
    assert bench.zygote.killed == [worker.slot], "it does not go by itself"


# Output.


def test_output_belongs_to_the_invocation_and_comes_before_its_end(
    bench: Bench,
) -> None:
    caller, worker = one_running(bench)
    worker.print(b"one\ntw")
    bench.settle()
    worker.print(b"o\nno newline")
    bench.answer(worker, flags=OUTPUT_PENDING)
    assert bench.lines.read() == [
        f"FC Invoke Start RequestId: {caller.request_id}",
        "one",
        "two",
        "no newline",
        f"FC Invoke End RequestId: {caller.request_id}",
    ]


def test_the_last_words_of_a_dying_worker_are_its_callers(bench: Bench) -> None:
    caller, worker = one_running(bench)
    worker.print(b"the last words")
    worker.die(signal=11)
    lines = bench.lines.read()
    assert "the last words" in lines
    assert lines[-1].startswith(f"FC Invoke End RequestId: {caller.request_id}")
    assert isinstance(caller.outcome, WorkerDied)
    assert caller.outcome.verdict is not None
    assert caller.outcome.verdict.log_tail == "the last words"


def test_a_reply_that_was_written_before_the_death_counts(bench: Bench) -> None:
    caller, worker = one_running(bench)
    worker.reply(b"just in time")
    worker.die(code=0)
    bench.settle()
    assert caller.outcome == b"just in time"
    assert not is_in_service(bench, worker)
    assert bench.pool.busy == 0


# Deaths.


@pytest.mark.parametrize(
    ("ending", "cause", "signal_name", "exit_code"),
    [
        ({"code": 0}, "exit", None, 0),
        ({"code": 3}, "exit", None, 3),
        ({"signal": 9}, "signal", "SIGKILL", None),
        ({"signal": 11}, "signal", "SIGSEGV", None),
        ({"signal": 64}, "signal", "SIGRTMAX", None),
    ],
    ids=str,
)
def test_a_death_is_told_with_what_is_known_of_it(
    bench: Bench,
    ending: dict[str, int],
    cause: str,
    signal_name: str | None,
    exit_code: int | None,
) -> None:
    caller, worker = one_running(bench)
    bench.loop.time += 0.25
    worker.trace(
        "Fatal Python error: Aborted\n"
        '  File "/code/index.py", line 3 in handler\n'
        '  File "/x/isoruntime/worker/main.py", line 9 in _call\n'
    )
    worker.die(**ending)
    bench.settle()
    assert isinstance(caller.outcome, WorkerDied)
    verdict = caller.outcome.verdict
    assert verdict is not None
    assert (verdict.cause, verdict.signal, verdict.exit_code) == (
        cause,
        signal_name,
        exit_code,
    )
    assert verdict.duration_ms == 250
    assert verdict.max_memory_mb == 20.0
    assert "index.py" in verdict.traceback
    assert "isoruntime" not in verdict.traceback
    assert bench.pool.busy == 0
    assert len(bench.pool.idle) >= 1, "it was replaced"


def test_a_death_before_the_request_was_taken_costs_nobody_anything(
    bench: Bench,
) -> None:
    caller = bench.submit(b"event")
    (first,) = bench.asked()
    first.die(signal=9)
    bench.settle()
    assert not caller.is_answered
    second = bench.take()
    assert second is not first
    assert second.last is not None
    assert second.last.body == b"event"
    bench.answer(second, b"served")
    assert caller.outcome == b"served"
    assert bench.lines.read() == [
        f"FC Invoke Start RequestId: {caller.request_id}",
        f"FC Invoke End RequestId: {caller.request_id}",
    ]


def test_it_is_tried_again_once_and_only_once(bench: Bench) -> None:
    caller = bench.submit(b"event")
    for _ in range(2):
        assert not caller.is_answered
        (worker,) = bench.asked()
        worker.die(signal=9)
        bench.settle()
    assert isinstance(caller.outcome, WorkerDied)
    assert bench.asked() == []


def test_what_was_taken_is_never_run_again(bench: Bench) -> None:
    caller = bench.submit(b"event")
    worker = bench.take()
    worker.die(signal=9)
    bench.settle()
    assert isinstance(caller.outcome, WorkerDied)
    assert bench.asked() == []


def test_a_request_that_left_the_pipe_unread_is_not_taken(bench: Bench) -> None:
    # A process that is killed in its sleep empties the pipe on its way out.
    caller = bench.submit(b"event")
    (worker,) = bench.asked()
    assert worker.take_bytes(1 << 16)
    worker.die(signal=9)
    bench.settle()
    assert not caller.is_answered
    (other,) = bench.asked()
    other.take()
    bench.answer(other, b"done")
    assert caller.outcome == b"done"


def test_a_large_event_that_was_not_sent_to_its_end_is_not_taken(bench: Bench) -> None:
    event = bytes(range(256)) * 8192
    caller = bench.submit(event)
    (first,) = bench.asked()
    first.take_bytes(1 << 16)
    bench.settle()
    first.die(signal=9)
    bench.settle()
    second = bench.take()
    assert second.last is not None
    assert second.last.body == event
    bench.answer(second, b"served")
    assert caller.outcome == b"served"


def test_a_worker_that_died_unnoticed_costs_nobody_anything(bench: Bench) -> None:
    # Its pipes are closed, the zygote's report is late.
    (worker,) = bench.workers.values()
    worker.close()
    caller = bench.submit(b"event")
    assert not caller.is_answered
    bench.report(worker.slot, ExitStatus(signal=9))
    bench.settle()
    bench.answer(bench.take(), b"served")
    assert caller.outcome == b"served"


# Deadlines.


def test_at_its_deadline_a_worker_is_killed_and_the_caller_told(bench: Bench) -> None:
    caller, worker = one_running(bench)
    bench.advance(59.9)
    assert bench.zygote.killed == []
    bench.advance(0.11)
    assert bench.zygote.killed == [worker.slot]
    bench.let_the_killed_die()
    assert isinstance(caller.outcome, DeadlineExceeded)
    assert str(caller.outcome) == (
        "Function timed out after 60 seconds (maxMemoryUsage: 20.00MB)"
    )
    assert bench.pool.busy == 0
    assert not is_in_service(bench, worker)


def test_the_caller_is_told_though_the_tree_takes_long_to_die(bench: Bench) -> None:
    caller, worker = one_running(bench)
    bench.advance(60.0)
    assert bench.zygote.killed == [worker.slot]
    assert not caller.is_answered
    bench.advance(0.026)
    assert isinstance(caller.outcome, DeadlineExceeded)
    bench.let_the_killed_die()
    assert len(caller.outcomes) == 1
    assert bench.pool.busy == 0


@pytest.mark.parametrize("reply", [b"", b"too late"])
def test_a_reply_after_the_deadline_is_no_answer(bench: Bench, reply: bytes) -> None:
    caller, worker = one_running(bench)
    bench.advance(60.0)
    bench.answer(worker, reply)
    assert not caller.is_answered
    bench.let_the_killed_die()
    assert isinstance(caller.outcome, DeadlineExceeded)
    assert not is_in_service(bench, worker)


def test_garbage_after_the_deadline_changes_nothing(bench: Bench) -> None:
    caller, worker = one_running(bench)
    bench.advance(60.0)
    worker.say(b"\xff" * 64)
    bench.settle()
    bench.let_the_killed_die()
    assert isinstance(caller.outcome, DeadlineExceeded)


def test_the_earliest_deadline_is_minded_whoever_came_first(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    order = [30.0, 5.0, 20.0, 10.0]
    callers = {limit: bench.submit(platform_timeout_s=limit) for limit in order}
    for worker in bench.asked():
        worker.take()
    told = []
    for _ in range(31):
        bench.advance(1.0)
        bench.let_the_killed_die()
        told += [
            limit
            for limit, caller in callers.items()
            if caller.is_answered and limit not in told
        ]
    assert told == sorted(order)


def test_the_smaller_limit_holds_and_is_named(bench: Bench) -> None:
    caller = bench.submit(platform_timeout_s=3.0)
    bench.take()
    bench.advance(2.9)
    bench.let_the_killed_die()
    assert "after 3 seconds" in str(caller.outcome)
    caller = bench.submit(platform_timeout_s=600.0)
    bench.take()
    bench.advance(60.1)
    bench.let_the_killed_die()
    assert "after 60 seconds" in str(caller.outcome)


@pytest.fixture
def own_pidfd() -> Iterator[int]:
    """Let this very process be what a worker's process descriptor stands for."""
    fd = os.pidfd_open(os.getpid())
    yield fd
    os.close(fd)


@pytest.fixture
def stack_requests() -> Iterator[list[int]]:
    """Collect the signals that ask a worker for its stack."""
    asked: list[int] = []
    before = signal.signal(STACK_SIGNAL, lambda number, frame: asked.append(number))
    yield asked
    signal.signal(STACK_SIGNAL, before)


def test_a_hung_worker_is_asked_where_it_hangs_before_it_is_killed(
    own_pidfd: int, stack_requests: list[int], make_bench: MakeBench
) -> None:
    bench = make_bench(pidfd=own_pidfd)
    caller, worker = one_running(bench)
    worker.trace('  File "/code/index.py", line 7 in handler\n')
    bench.loop.time += 60.0
    bench.loop.turn(0)
    assert stack_requests == [STACK_SIGNAL]
    assert bench.zygote.killed == [], "it has a few milliseconds for it"
    bench.advance(0.010)
    assert bench.zygote.killed == [worker.slot]
    bench.let_the_killed_die()
    assert isinstance(caller.outcome, DeadlineExceeded)
    assert caller.outcome.verdict is not None
    assert "line 7 in handler" in caller.outcome.verdict.traceback
    assert any("line 7 in handler" in line for line in bench.lines.read())


def test_a_deadline_holds_while_the_event_is_still_being_sent(bench: Bench) -> None:
    caller = bench.submit(bytes(10 * MB))
    (worker,) = bench.asked()
    worker.take_bytes(100)
    bench.advance(60.0)
    assert bench.zygote.killed == [worker.slot]
    bench.let_the_killed_die()
    assert isinstance(caller.outcome, DeadlineExceeded)


# Initializers.


@pytest.fixture
def initializing(make_bench: MakeBench) -> Bench:
    return make_bench(
        phases=INITIALIZES, limits=Limits(timeout_s=10, init_timeout_s=100)
    )


def test_the_first_invocation_of_a_worker_runs_the_initializer_before(
    initializing: Bench,
) -> None:
    bench = initializing
    caller = bench.submit(b"event")
    worker = bench.take()
    assert worker.last is not None
    assert (worker.last.kind, worker.last.body) == (Kind.INITIALIZE, b"")
    bench.answer(worker)
    assert not caller.is_answered
    request = worker.take()
    assert (request.kind, request.body) == (Kind.INVOKE, b"event")
    bench.answer(worker, b"result")
    assert caller.outcome == b"result"
    number = caller.request_id
    assert bench.lines.read() == [
        f"FC Initialize Start RequestId: {number}",
        f"FC Initialize End RequestId: {number}",
        f"FC Invoke Start RequestId: {number}",
        f"FC Invoke End RequestId: {number}",
    ]
    bench.submit(b"second")
    assert worker.take().kind == Kind.INVOKE


def test_the_nonce_of_the_initializer_does_not_answer_the_invocation(
    initializing: Bench,
) -> None:
    caller = initializing.submit(b"event")
    worker = initializing.take()
    assert worker.last is not None
    first = worker.last.nonce
    initializing.answer(worker)
    worker.take()
    initializing.answer(worker, b"forged", nonce=first)
    assert isinstance(caller.outcome, WorkerOutOfTurn)


def test_a_failing_initializer_is_the_callers_error_and_ends_the_worker(
    initializing: Bench,
) -> None:
    bench = initializing
    caller = bench.submit(b"event")
    worker = bench.take()
    bench.answer(worker, b"{}", Kind.FAULT, meta=b"ValueError")
    assert isinstance(caller.outcome, HandlerRaised)
    assert bench.zygote.killed == [worker.slot]
    number, failed = caller.request_id, ", Error: Unhandled function error"
    lines = [line for line in bench.lines.read() if line.startswith("FC ")]
    assert lines == [
        f"FC Initialize Start RequestId: {number}",
        f"FC Initialize End RequestId: {number}{failed}",
        f"FC Invoke Start RequestId: {number}",
        f"FC Invoke End RequestId: {number}{failed}",
    ]
    bench.let_the_killed_die()
    bench.submit(b"next")
    assert bench.take().last.kind == Kind.INITIALIZE  # type: ignore[union-attr]


def test_an_initializer_has_a_time_of_its_own_and_the_handler_begins_anew(
    initializing: Bench,
) -> None:
    bench = initializing
    caller = bench.submit(b"event")
    worker = bench.take()
    bench.advance(99.0)
    bench.answer(worker)
    worker.take()
    bench.advance(9.9)
    assert bench.zygote.killed == []
    bench.advance(0.2)
    bench.let_the_killed_die()
    assert isinstance(caller.outcome, DeadlineExceeded)
    assert "after 10 seconds" in str(caller.outcome)


def test_an_initializer_that_takes_too_long_is_ended(initializing: Bench) -> None:
    bench = initializing
    caller = bench.submit(b"event")
    bench.take()
    bench.advance(100.0)
    bench.let_the_killed_die()
    assert isinstance(caller.outcome, DeadlineExceeded)
    assert "after 100 seconds" in str(caller.outcome)


def test_a_death_between_initializer_and_handler_costs_nobody_anything(
    initializing: Bench,
) -> None:
    bench = initializing
    caller = bench.submit(b"event")
    first = bench.take()
    bench.answer(first)
    first.die(signal=9)
    bench.settle()
    assert not caller.is_answered
    second = bench.take()
    assert second.last is not None
    assert second.last.kind == Kind.INITIALIZE
    bench.answer(second)
    second.take()
    bench.answer(second, b"served")
    assert caller.outcome == b"served"


def test_an_initializer_on_its_own_runs_once_and_then_is_settled(
    initializing: Bench,
) -> None:
    bench = initializing
    caller = bench.submit(b"", Phase.INITIALIZE)
    worker = bench.take()
    assert worker.last is not None
    assert worker.last.kind == Kind.INITIALIZE
    bench.answer(worker, b"what it returned")
    assert caller.is_answered
    again = bench.submit(b"", Phase.INITIALIZE)
    assert again.outcome == b""
    assert bench.asked() == []
    bench.submit(b"event")
    assert worker.take().kind == Kind.INVOKE


def test_after_a_failing_initializer_it_is_run_again_when_asked(
    initializing: Bench,
) -> None:
    bench = initializing
    bench.submit(b"", Phase.INITIALIZE)
    bench.answer(bench.take(), b"{}", Kind.FAULT, meta=b"ValueError")
    bench.let_the_killed_die()
    caller = bench.submit(b"", Phase.INITIALIZE)
    assert not caller.is_answered
    bench.answer(bench.take())
    assert caller.is_answered


@pytest.mark.parametrize("phase", [Phase.PRE_STOP, Phase.PRE_FREEZE])
def test_a_hook_has_its_own_frame_and_lines(
    make_bench: MakeBench, phase: Phase
) -> None:
    bench = make_bench(phases=EVERYTHING - {Phase.INITIALIZE})
    caller = bench.submit(b"ignored", phase)
    worker = bench.take()
    assert worker.last is not None
    assert worker.last.kind == Kind[phase.name]
    assert worker.last.body == b""
    bench.answer(worker)
    assert caller.outcome == b""
    assert bench.lines.read() == [
        f"FC {phase.value} Start RequestId: {caller.request_id}",
        f"FC {phase.value} End RequestId: {caller.request_id}",
    ]
    ours = bench.pool.workers[worker.slot]
    assert (ours.state, ours.served) == (WorkerState.IDLE, 0)


# The event's file.


# Answers that come in pieces.

PAGE = Request("GET", "/", "/", "", "http", "", True, b"").encode()


def piecewise(bench: Bench) -> tuple[Caller, PlayedWorker]:
    """Have one HTTP request in a worker, whose answer may come in pieces."""
    caller = bench.submit(b"body", request=PAGE, streams=True)
    worker = bench.take()
    worker.reply(
        kind=Kind.RESPONSE_HEAD, meta=encode_head(201, "", (), with_length=True)
    )
    bench.settle()
    return caller, worker


def is_served_again(bench: Bench, worker: PlayedWorker) -> bool:
    """Return whether the next invocation is answered, by the same worker."""
    caller, again = one_running(bench)
    bench.answer(again, b"again")
    return caller.outcome == b"again" and again is worker


def test_an_http_request_has_a_frame_of_its_own(bench: Bench) -> None:
    caller = bench.submit(b"body", request=PAGE, streams=True)
    request = bench.take().last
    assert request is not None
    assert (request.kind, request.body) == (Kind.HTTP, b"body")
    assert request.meta.split(b"\n", 3) == [
        *(caller.request_id.encode(), b"60000", b"{}", PAGE)
    ]


def test_pieces_are_passed_on_as_they_come(bench: Bench) -> None:
    caller, worker = piecewise(bench)
    assert [head.status for head in caller.heads] == [201]
    for piece in (b"one", b"two"):
        bench.answer(worker, piece, Kind.CHUNK)
        assert caller.pieces[-1] == piece
    assert not caller.is_answered
    bench.answer(worker, kind=Kind.END)
    assert isinstance(caller.outcome, Response)
    assert (caller.outcome.head.status, caller.outcome.is_streamed) == (201, True)
    assert is_served_again(bench, worker)


def test_an_answer_in_one_piece_is_no_stream(bench: Bench) -> None:
    caller = bench.submit(b"body", request=PAGE, streams=True)
    meta = encode_head(500, "", (), with_length=True)
    worker = bench.take()
    bench.answer(worker, b"sorry", Kind.RESPONSE, meta=meta)
    assert (caller.heads, caller.pieces) == ([], [])
    assert isinstance(caller.outcome, Response)
    assert (caller.outcome.body, caller.outcome.is_streamed) == (b"sorry", False)
    # What an HTTP function answers is no failure of the function.
    assert bench.lines.read()[-1].startswith("FC Invoke End")
    assert is_served_again(bench, worker)


def test_who_reads_slowly_has_the_worker_wait(bench: Bench) -> None:
    caller, worker = piecewise(bench)
    caller.reads = False
    bench.answer(worker, b"one", Kind.CHUNK)
    bench.answer(worker, b"two", Kind.CHUNK)
    assert caller.pieces == [b"one"]
    caller.reads = True
    assert caller.invocation is not None
    bench.dispatcher.stream_relieved(caller.invocation)
    bench.settle()
    assert caller.pieces == [b"one", b"two"]
    bench.answer(worker, kind=Kind.END)
    assert caller.is_answered
    assert is_served_again(bench, worker)


def test_an_end_that_comes_with_a_slowly_read_piece_leaves_the_worker_as_it_was(
    bench: Bench,
) -> None:
    caller, worker = piecewise(bench)
    caller.reads = False
    worker.reply(b"all of it", Kind.CHUNK)
    bench.answer(worker, kind=Kind.END)
    assert caller.is_answered
    assert is_served_again(bench, worker)


def test_the_limit_of_size_is_for_all_pieces_together(make_bench: MakeBench) -> None:
    bench = make_bench(limits=Limits(max_response_bytes=10))
    caller, worker = piecewise(bench)
    bench.answer(worker, b"12345", Kind.CHUNK)
    bench.answer(worker, b"67890", Kind.CHUNK)
    assert not caller.is_answered
    bench.answer(worker, b"1", Kind.CHUNK)
    assert isinstance(caller.outcome, ResponseTooLarge)
    # It is still talking.
    assert bench.zygote.killed == [worker.slot]
    assert caller.pieces == [b"12345", b"67890"]


def test_a_deadline_holds_in_the_middle_of_an_answer(bench: Bench) -> None:
    caller, worker = piecewise(bench)
    bench.advance(60.0)
    bench.answer(worker, b"late", Kind.CHUNK)
    bench.let_the_killed_die()
    assert isinstance(caller.outcome, DeadlineExceeded)
    assert caller.pieces == []
    assert not is_in_service(bench, worker)


def test_a_deadline_holds_though_nobody_reads_what_was_answered(bench: Bench) -> None:
    caller, worker = piecewise(bench)
    caller.reads = False
    bench.answer(worker, b"one", Kind.CHUNK)
    bench.advance(60.0)
    bench.let_the_killed_die()
    assert isinstance(caller.outcome, DeadlineExceeded)


def test_a_death_in_the_middle_is_told(bench: Bench) -> None:
    caller, worker = piecewise(bench)
    worker.reply(b"one", Kind.CHUNK)
    worker.die(signal=signal.SIGSEGV)
    bench.settle()
    assert caller.pieces == [b"one"]
    assert isinstance(caller.outcome, WorkerDied)
    assert caller.outcome.verdict is not None
    assert caller.outcome.verdict.signal == "SIGSEGV"


def test_a_death_in_the_middle_is_never_tried_again(bench: Bench) -> None:
    caller, worker = piecewise(bench)
    worker.die(signal=9)
    bench.settle()
    assert bench.asked() == []
    assert isinstance(caller.outcome, WorkerDied)


def test_what_raises_in_the_middle_keeps_its_worker(bench: Bench) -> None:
    caller, worker = piecewise(bench)
    bench.answer(worker, b"{}", Kind.FAULT, meta=b"ValueError")
    assert isinstance(caller.outcome, HandlerRaised)
    assert is_served_again(bench, worker)


def test_the_worker_is_told_when_its_client_has_gone(bench: Bench) -> None:
    caller, worker = piecewise(bench)
    assert not worker.is_told_to_stop
    assert caller.invocation is not None
    bench.dispatcher.abandon(caller.invocation)
    assert worker.is_told_to_stop
    bench.answer(worker, b"two", Kind.CHUNK)
    bench.answer(worker, kind=Kind.END)
    assert caller.pieces == []
    assert is_served_again(bench, worker)


def test_so_it_is_if_the_client_goes_before_the_answer_begins(bench: Bench) -> None:
    caller = bench.submit(b"body", request=PAGE, streams=True)
    worker = bench.take()
    assert caller.invocation is not None
    bench.dispatcher.abandon(caller.invocation)
    # What may end by itself is let finish.
    assert not worker.is_told_to_stop
    meta = encode_head(200, "", (), with_length=True)
    bench.answer(worker, kind=Kind.RESPONSE_HEAD, meta=meta)
    assert worker.is_told_to_stop
    assert caller.heads == []
    bench.answer(worker, kind=Kind.END)
    assert is_served_again(bench, worker)


def test_a_client_that_goes_while_it_reads_slowly_keeps_nobody_waiting(
    bench: Bench,
) -> None:
    caller, worker = piecewise(bench)
    caller.reads = False
    bench.answer(worker, b"one", Kind.CHUNK)
    assert caller.invocation is not None
    bench.dispatcher.abandon(caller.invocation)
    bench.answer(worker, b"two", Kind.CHUNK)
    bench.answer(worker, kind=Kind.END)
    assert caller.is_answered
    assert is_served_again(bench, worker)


@pytest.mark.parametrize(
    ("kind", "meta"),
    [
        pytest.param(Kind.RESPONSE_HEAD, b'[200,"",[]]', id="a second head"),
        pytest.param(Kind.RESPONSE, b'[200,"",[]]', id="an answer in one piece"),
        pytest.param(Kind.RESULT, b"", id="a result"),
        pytest.param(Kind.READY, b"", id="READY"),
        pytest.param(Kind.EXITED, b"x 1", id="an exit code that is none"),
    ],
)
def test_what_is_out_of_turn_in_the_middle_ends_the_worker(
    bench: Bench, kind: int, meta: bytes
) -> None:
    caller, worker = piecewise(bench)
    bench.answer(worker, kind=kind, meta=meta)
    assert isinstance(caller.outcome, WorkerOutOfTurn)
    assert bench.zygote.killed == [worker.slot]


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize(
    ("kind", "meta"),
    [
        pytest.param(Kind.CHUNK, b"", id="a piece"),
        pytest.param(Kind.END, b"", id="an end"),
        pytest.param(Kind.RESPONSE_HEAD, b"[]", id="a head that is none"),
        pytest.param(Kind.RESPONSE, b"[100]", id="an answer that is none"),
    ],
)
def test_what_has_no_beginning_ends_the_worker(
    bench: Bench, kind: int, meta: bytes, streams: bool
) -> None:
    caller = bench.submit(b"body", request=PAGE, streams=streams)
    worker = bench.take()
    bench.answer(worker, kind=kind, meta=meta)
    assert isinstance(caller.outcome, WorkerOutOfTurn)
    assert caller.heads == caller.pieces == []
    assert bench.zygote.killed == [worker.slot]


def test_who_takes_no_pieces_is_sent_none(bench: Bench) -> None:
    caller, worker = one_running(bench)
    meta = encode_head(200, "", (), with_length=True)
    bench.answer(worker, kind=Kind.RESPONSE_HEAD, meta=meta)
    assert isinstance(caller.outcome, WorkerOutOfTurn)
    bench.let_the_killed_die()
    assert not is_served_again(bench, worker)


# Commands.


def test_a_command_s_exit_is_told_with_its_code_and_its_last_words(
    bench: Bench,
) -> None:
    caller, worker = one_running(bench)
    worker.print(b"it is broken\n")
    bench.answer(worker, kind=Kind.EXITED, meta=b"3 2048", flags=OUTPUT_PENDING)
    assert isinstance(caller.outcome, CommandFailed)
    assert "code 3" in str(caller.outcome)
    assert "it is broken" in str(caller.outcome)
    assert caller.outcome.verdict is not None
    assert (caller.outcome.verdict.exit_code, caller.outcome.verdict.max_memory_mb) == (
        *(3, 2.0),
    )
    assert is_served_again(bench, worker)


def test_a_handler_for_events_answers_http_only_where_it_was_asked(
    bench: Bench,
) -> None:
    caller = bench.submit(b"body", request=PAGE, streams=True)
    worker = bench.take()
    bench.answer(worker, kind=Kind.NOT_HTTP)
    assert isinstance(caller.outcome, NotAnHttpFunction)
    other, worker = one_running(bench)
    bench.answer(worker, kind=Kind.NOT_HTTP)
    assert isinstance(other.outcome, WorkerOutOfTurn)


# Cancelling at the deadline.


def test_who_cleans_up_at_the_deadline_keeps_nothing_and_is_ended(bench: Bench) -> None:
    caller, worker = one_running(bench)
    bench.advance(59.9)
    worker.note_cancellation()
    bench.answer(worker, kind=Kind.CANCELLED)
    assert isinstance(caller.outcome, DeadlineExceeded)
    assert bench.zygote.killed == [worker.slot]


def test_who_cleans_up_has_milliseconds_and_no_more(bench: Bench) -> None:
    caller, worker = one_running(bench)
    worker.note_cancellation()
    bench.advance(60.0)
    assert bench.zygote.killed == []
    bench.advance(0.024)
    assert bench.zygote.killed == []
    bench.advance(0.002)
    assert bench.zygote.killed == [worker.slot]
    bench.let_the_killed_die()
    assert isinstance(caller.outcome, DeadlineExceeded)


def test_a_cancellation_of_the_last_invocation_gives_this_one_no_time(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(size=PoolSize(max_workers=1))
    _, worker = one_running(bench)
    worker.note_cancellation()
    bench.answer(worker, b"in time")
    one_running(bench)
    bench.advance(60.0)
    assert bench.zygote.killed == [worker.slot]


def test_an_events_file_is_not_touched_after_the_outcome(
    bench: Bench, tmp_path: Any
) -> None:
    # Whoever asked closes the file as soon as it has the outcome, and its number may
    # then be another file's.
    path = tmp_path / "event"
    path.write_bytes(bytes(10 * MB))
    with path.open("rb") as file:
        caller = bench.submit(EventFile(file.fileno(), 10 * MB))
        (worker,) = bench.asked()
        worker.take_bytes(1 << 16)
        worker.say(b"\xff" * 64)
        bench.settle()
        assert isinstance(caller.outcome, WorkerOutOfTurn)
        rest = worker.take_bytes(1 << 20)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
    # The worker, not dead yet, goes on reading: there is room in the pipe again.
    assert rest
    bench.settle()
    assert worker.take_bytes(1 << 20) == b""
