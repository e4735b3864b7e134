"""The dispatcher: who gets a worker, who waits, who is refused, and the end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from isoruntime.dispatch.dispatcher import Limits
from isoruntime.dispatch.invocation import Phase
from isoruntime.errors import (
    Draining,
    HandlerNotLoaded,
    HandlerRaised,
    NoWorkerAvailable,
    ProtocolViolation,
    WorkerDied,
)
from isoruntime.pool.pool import PoolSize
from isoruntime.pool.states import WorkerState
from isoruntime.pool.supervisor import LoadState
from isoruntime.wire.frames import Kind
from tests.support.bench import EVERYTHING, Bench, Caller, MakeBench, bench_for


@pytest.fixture
def make_bench() -> Iterator[MakeBench]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(bench_for(**options))


@pytest.fixture
def single(make_bench: MakeBench) -> Bench:
    """One worker at most."""
    return make_bench(size=PoolSize(max_workers=1))


def kinds(callers: list[Caller]) -> list[type | None]:
    return [type(caller.outcomes[0]) if caller.outcomes else None for caller in callers]


def serve_and_end(bench: Bench) -> None:
    """Answer as a worker that is not used a second time."""
    worker = bench.take()
    bench.answer(worker)
    worker.die(code=0)


# Workers for everybody, up to the limit.


def test_the_pool_grows_with_what_runs_and_keeps_one_spare(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(size=PoolSize(min_workers=1, max_workers=4))
    assert len(bench.pool.workers) == 1
    for running in range(1, 4):
        bench.submit()
        assert len(bench.pool.workers) == running + 1
        assert len(bench.pool.idle) == 1
    bench.submit()
    assert (len(bench.pool.workers), bench.pool.busy) == (4, 4)
    bench.submit()
    assert len(bench.pool.workers) == 4


def test_where_no_worker_serves_twice_a_stock_is_kept_and_filled_by_halves(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(size=PoolSize(max_workers=32, max_invocations=1))
    ready = []
    for _ in range(12):
        bench.submit()
        # Ordered before anybody is answered: forks go on beside the work.
        ready.append(len(bench.pool.idle))
        serve_and_end(bench)
    assert ready == [8, 7, 6, 5, 8, 7, 6, 5, 8, 7, 6, 5]


def test_also_where_everybody_has_to_wait_workers_are_ordered_several_at_a_time(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(size=PoolSize(max_workers=32, max_invocations=1))
    bench.boots = False
    for _ in range(8):
        bench.submit()
    for _ in range(60):
        booting = [
            bench.workers[slot]
            for slot, worker in bench.pool.workers.items()
            if worker.state is WorkerState.BOOTING
        ]
        booting[0].ready()
        bench.settle()
        for worker in bench.asked():
            worker.take()
            bench.answer(worker)
            worker.die(code=0)
            bench.submit()
    # The first worker of all, and the first caller, for whom nothing is ready.
    assert min(bench.zygote.ordered[2:]) >= 4
    assert all(caller.is_answered for caller in bench.callers[:60])


def test_workers_that_have_gone_leave_no_timers(make_bench: MakeBench) -> None:
    bench = make_bench(size=PoolSize(max_workers=32, max_invocations=1))
    for _ in range(100):
        bench.submit()
        serve_and_end(bench)
    assert len(bench.loop._timers) < 10


def test_a_worker_that_does_not_go_when_it_is_sent_off_is_killed(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(size=PoolSize(max_workers=32, max_invocations=1))
    bench.submit()
    worker = bench.take()
    bench.answer(worker)
    assert worker.was_sent_off()
    bench.advance(0.9)
    assert bench.zygote.killed == []
    bench.advance(0.2)
    assert bench.zygote.killed == [worker.slot]
    bench.advance(10)
    assert bench.zygote.killed == [worker.slot]


def test_who_waits_gets_a_worker_when_the_one_he_waits_for_was_killed(
    single: Bench,
) -> None:
    single.submit()
    waiting = single.submit()
    worker = single.take()
    single.answer(worker, nonce=b"of nobody's     ")
    single.let_the_killed_die()
    single.answer(single.take(), b"served")
    assert waiting.outcome == b"served"


@pytest.mark.parametrize("least", [1, 3])
def test_a_free_worker_that_was_killed_is_replaced(
    make_bench: MakeBench, least: int
) -> None:
    bench = make_bench(size=PoolSize(min_workers=least))
    (worker, *_) = bench.pool.idle
    bench.pool.kill(worker)
    bench.let_the_killed_die()
    assert len(bench.pool.idle) == least
    assert worker not in bench.pool.idle


@pytest.fixture(params=["dead", "alive"])
def child(request: pytest.FixtureRequest) -> Iterator[tuple[int, bool]]:
    """Make a process; give a descriptor of it, and whether it has ended."""
    is_dead = request.param == "dead"
    pid = os.fork()
    if pid == 0:
        # Safe because it does nothing at all.
        if not is_dead:
            signal.pause()
        os._exit(0)
    if is_dead:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    pidfd = os.pidfd_open(pid)
    yield pidfd, is_dead
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(pidfd)


def test_a_worker_that_has_ended_is_let_go_without_its_report(
    child: tuple[int, bool], make_bench: MakeBench
) -> None:
    pidfd, is_dead = child
    bench = make_bench(pidfd=pidfd)
    (worker,) = bench.pool.idle
    bench.pool.retire(worker)
    bench.advance(1.1)
    assert bench.zygote.killed == [worker.slot]
    bench.advance(1.8)
    assert worker.slot in bench.pool.workers
    bench.advance(0.3)
    assert (worker.slot not in bench.pool.workers) is is_dead


@pytest.mark.parametrize(("most", "ready"), [(1, 0), (2, 1), (3, 2), (4, 3)])
def test_a_stock_keeps_to_the_bounds_of_the_pool(
    make_bench: MakeBench, most: int, ready: int
) -> None:
    bench = make_bench(size=PoolSize(max_workers=most, max_invocations=1))
    bench.submit()
    assert (len(bench.pool.idle), len(bench.pool.workers)) == (ready, most)


def test_a_stock_is_at_least_as_large_as_the_smallest_pool(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(size=PoolSize(min_workers=10, max_invocations=1))
    for _ in range(5):
        bench.submit()
        assert len(bench.pool.workers) == 10
        serve_and_end(bench)


def test_a_light_load_stays_with_the_worker_that_was_used_last(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    used = set()
    for _ in range(5):
        bench.submit()
        worker = bench.take()
        used.add(worker.slot)
        bench.answer(worker)
    assert len(used) == 1


def test_an_outcome_never_comes_inside_submit(make_bench: MakeBench) -> None:
    bench = make_bench(limits=Limits(queue=0), size=PoolSize(max_workers=1))
    bench.submit()
    refused = bench.submit(settle=False)
    assert not refused.is_answered
    bench.settle()
    assert isinstance(refused.outcome, NoWorkerAvailable)
    settled = bench.submit(phase=Phase.PRE_STOP, settle=False)
    assert not settled.is_answered
    bench.settle()
    assert settled.outcome == b""
    bench.dispatcher.drain(lambda: None)
    draining = bench.submit(settle=False)
    assert not draining.is_answered
    bench.settle()
    assert isinstance(draining.outcome, Draining)


def test_while_somebody_has_a_deadline_the_loop_ticks(single: Bench) -> None:
    assert not single.loop.tickers
    single.submit()
    assert single.loop.tickers
    single.answer(single.take())
    assert not single.loop.tickers


# The queue.


def test_who_waits_longest_is_served_first(single: Bench) -> None:
    callers = [single.submit(b"%d" % number) for number in range(5)]
    assert single.dispatcher.waiting == 4
    for number, caller in enumerate(callers):
        worker = single.take()
        assert worker.last is not None
        assert worker.last.body == b"%d" % number
        single.answer(worker, b"ok")
        assert caller.outcome == b"ok"
    assert single.dispatcher.waiting == 0


def test_nobody_overtakes_those_who_wait(make_bench: MakeBench) -> None:
    # A worker is free, but was not lent yet when the next one asks.
    bench = make_bench(size=PoolSize(max_workers=1))
    bench.boots = False
    first = bench.submit(b"first")
    bench.answer(bench.take())
    assert first.is_answered
    second, third = bench.submit(b"second"), bench.submit(b"third")
    worker = bench.take()
    assert worker.last is not None
    assert worker.last.body == b"second"
    bench.answer(worker)
    assert second.is_answered
    assert bench.take().last.body == b"third"  # type: ignore[union-attr]
    assert not third.is_answered


@pytest.mark.parametrize("queue", [0, 1, 3])
def test_beyond_its_bound_the_queue_refuses_at_once(
    make_bench: MakeBench, queue: int
) -> None:
    bench = make_bench(size=PoolSize(max_workers=1), limits=Limits(queue=queue))
    callers = [bench.submit() for _ in range(queue + 3)]
    refused = [caller for caller in callers if caller.is_answered]
    assert refused == callers[1 + queue :]
    assert set(kinds(refused)) == {NoWorkerAvailable}
    assert "--queue" in str(refused[0].outcome)
    bench.answer(bench.take())
    assert not bench.submit().is_answered or queue == 0


def test_who_has_a_worker_under_way_does_not_take_up_the_queue(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(size=PoolSize(max_workers=4), limits=Limits(queue=1))
    bench.boots = False
    callers = [bench.submit() for _ in range(7)]
    # One runs, three have a fork under way, one waits, two are refused.
    assert [caller.is_answered for caller in callers] == [False] * 5 + [True] * 2


def test_nobody_waits_longer_than_the_limit(make_bench: MakeBench) -> None:
    bench = make_bench(size=PoolSize(max_workers=1), limits=Limits(queue_timeout_s=5))
    bench.submit()
    early = bench.submit()
    bench.advance(2.0)
    late = bench.submit()
    bench.advance(2.9)
    assert not early.is_answered
    bench.advance(0.1)
    assert isinstance(early.outcome, NoWorkerAvailable)
    assert "within 5 seconds" in str(early.outcome)
    assert not late.is_answered
    bench.advance(2.0)
    assert isinstance(late.outcome, NoWorkerAvailable)


def test_a_wait_does_not_count_while_nothing_can_be_served_yet(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(size=PoolSize(max_workers=1), limits=Limits(queue_timeout_s=5))
    bench.submit()
    bench.answer(bench.take())
    bench.pool.supervisor.state = LoadState.LOADING
    (worker,) = bench.workers.values()
    worker.die()
    caller = bench.submit()
    bench.advance(60.0)
    assert not caller.is_answered
    bench.pool.supervisor.state = LoadState.READY
    bench.pool.load_state_changed()
    bench.settle()
    bench.answer(bench.take(), b"after all")
    assert caller.outcome == b"after all"


def test_one_who_left_while_waiting_is_not_served(single: Bench) -> None:
    single.submit()
    left, stays = single.submit(b"left"), single.submit(b"stays")
    assert left.invocation is not None
    single.dispatcher.abandon(left.invocation)
    single.answer(single.take())
    worker = single.take()
    assert worker.last is not None
    assert worker.last.body == b"stays"
    assert isinstance(left.outcome, NoWorkerAvailable)
    assert not stays.is_answered


def test_one_who_left_while_it_ran_changes_nothing(single: Bench) -> None:
    caller = single.submit()
    assert caller.invocation is not None
    single.dispatcher.abandon(caller.invocation)
    single.answer(single.take(), b"finished all the same")
    assert caller.outcome == b"finished all the same"
    assert single.zygote.killed == []


def test_the_one_that_is_tried_again_comes_before_all_who_wait(single: Bench) -> None:
    first, second = single.submit(b"first"), single.submit(b"second")
    (worker,) = single.asked()
    worker.die()
    single.settle()
    worker = single.take()
    assert worker.last is not None
    assert worker.last.body == b"first"
    single.answer(worker)
    assert first.is_answered
    assert not second.is_answered


# A handler that does not load.


@pytest.fixture
def failing(single: Bench) -> tuple[Bench, HandlerNotLoaded]:
    """Make a function whose first import is under way and will fail: `fail_to_load`."""
    single.pool.supervisor.state = LoadState.LOADING
    (worker,) = single.workers.values()
    worker.die()
    single.settle()
    return single, HandlerNotLoaded("ImportModuleError", b"{}")


def fail_to_load(bench: Bench, error: HandlerNotLoaded) -> None:
    supervisor = bench.pool.supervisor
    supervisor.state, supervisor.error = LoadState.FAILED, error
    # The attempt was just now, so that nobody who asks gets another one.
    supervisor._backoff.fail(bench.loop.now())
    bench.pool.load_state_changed()
    bench.settle()


def test_when_the_handler_does_not_load_everybody_is_told_why(
    failing: tuple[Bench, HandlerNotLoaded],
) -> None:
    bench, error = failing
    waiting = bench.submit()
    assert not waiting.is_answered
    fail_to_load(bench, error)
    later = bench.submit()
    assert [waiting.outcome, later.outcome] == [error, error]
    lines = bench.lines.read()
    for caller in (waiting, later):
        number = caller.request_id
        assert f"FC Invoke Start RequestId: {number}" in lines
        assert (
            f"FC Invoke End RequestId: {number}, Error: Unhandled function error"
            in lines
        )


def test_a_second_after_a_failure_an_invocation_makes_another_attempt(
    failing: tuple[Bench, HandlerNotLoaded],
) -> None:
    bench, error = failing
    fail_to_load(bench, error)
    bench.advance(1.0)
    caller = bench.submit()
    assert not caller.is_answered
    bench.answer(bench.take(), b"repaired")
    assert caller.outcome == b"repaired"


def test_workers_that_are_there_serve_on_though_the_handler_no_longer_loads(
    single: Bench,
) -> None:
    running = single.submit()
    waiting = single.submit()
    fail_to_load(single, HandlerNotLoaded("ImportModuleError", b"{}"))
    worker = single.take()
    single.answer(worker, b"one")
    assert running.outcome == b"one"
    single.answer(single.take(), b"two")
    assert waiting.outcome == b"two"


def test_when_the_last_worker_is_gone_those_who_wait_are_told_why_too(
    single: Bench,
) -> None:
    single.submit()
    waiting = single.submit()
    error = HandlerNotLoaded("ImportModuleError", b"{}")
    fail_to_load(single, error)
    single.take().die()
    single.settle()
    assert waiting.outcome is error


def test_a_worker_that_never_gets_ready_does_not_keep_its_caller_for_ever(
    single: Bench,
) -> None:
    # It hangs in a hook of `os.register_at_fork`, say; nothing else is there.
    single.boots = False
    (worker,) = single.workers.values()
    worker.die()
    caller = single.submit()
    for _ in range(10):
        single.advance(60.0)
        single.let_the_killed_die()
    assert caller.is_answered


# Hooks.


@pytest.fixture
def with_hooks(make_bench: MakeBench) -> Bench:
    return make_bench(phases=EVERYTHING - {Phase.INITIALIZE})


def use(bench: Bench, count: int) -> None:
    """Have so many workers serve one invocation each."""
    for _ in range(count):
        bench.submit()
    for worker in bench.asked():
        worker.take()
        worker.reply()
    bench.settle()


def test_a_hook_runs_in_every_worker_that_served_and_in_no_other(
    with_hooks: Bench,
) -> None:
    bench = with_hooks
    use(bench, 3)
    assert sorted(worker.served for worker in bench.pool.idle) == [0, 1, 1, 1]
    caller = bench.submit(phase=Phase.PRE_FREEZE)
    asked = bench.asked()
    assert len(asked) == 3
    for number, worker in enumerate(asked):
        assert not caller.is_answered
        assert worker.take().kind == Kind.PRE_FREEZE
        bench.answer(worker, b"%d" % number)
    assert caller.outcome == b""
    assert sorted(worker.served for worker in bench.pool.idle) == [0, 1, 1, 1]


def test_one_failing_hook_is_the_outcome_after_all_have_run(with_hooks: Bench) -> None:
    bench = with_hooks
    use(bench, 2)
    caller = bench.submit(phase=Phase.PRE_STOP)
    first, second = bench.asked()
    first.take()
    second.take()
    bench.answer(first, b"{}", Kind.FAULT, meta=b"ValueError")
    assert not caller.is_answered
    bench.answer(second)
    assert isinstance(caller.outcome, HandlerRaised)


def test_a_worker_that_dies_in_its_hook_is_one_that_failed(with_hooks: Bench) -> None:
    bench = with_hooks
    use(bench, 2)
    caller = bench.submit(phase=Phase.PRE_STOP)
    first, second = bench.asked()
    first.take()
    second.take()
    bench.answer(first)
    second.die()
    bench.settle()
    assert isinstance(caller.outcome, WorkerDied)


def test_a_hook_nobody_wrote_is_settled_at_once(make_bench: MakeBench) -> None:
    bench = make_bench()
    for phase in (Phase.INITIALIZE, Phase.PRE_STOP, Phase.PRE_FREEZE):
        assert bench.submit(phase=phase).outcome == b""
    assert bench.asked() == []
    assert bench.lines.read() == []


# The end.


def test_a_drain_lets_finish_what_runs_and_waits_and_refuses_the_rest(
    single: Bench,
) -> None:
    quiet: list[str] = []
    running, waiting = single.submit(), single.submit()
    single.dispatcher.drain(lambda: quiet.append("quiet"))
    late = single.submit()
    assert isinstance(late.outcome, Draining)
    single.answer(single.take(), b"one")
    assert running.outcome == b"one"
    assert quiet == []
    single.answer(single.take(), b"two")
    assert waiting.outcome == b"two"
    assert quiet == ["quiet"]


def test_a_drain_of_nothing_is_quiet_in_the_next_turn(single: Bench) -> None:
    quiet: list[str] = []
    single.dispatcher.drain(lambda: quiet.append("quiet"))
    assert quiet == []
    single.loop.turn(0)
    assert quiet == ["quiet"]


def test_a_drain_that_takes_too_long_refuses_what_waits_and_ends_what_runs(
    single: Bench,
) -> None:
    quiet: list[str] = []
    running, waiting = single.submit(), single.submit()
    worker = single.take()
    single.dispatcher.drain(lambda: quiet.append("quiet"))
    single.dispatcher.give_up()
    single.settle()
    assert isinstance(waiting.outcome, Draining)
    assert single.zygote.killed == [worker.slot]
    single.let_the_killed_die()
    assert isinstance(running.outcome, WorkerDied)
    assert quiet == ["quiet"]


def test_a_drain_is_over_when_all_that_waited_was_refused(single: Bench) -> None:
    # Nothing runs: the handler is still being imported, and never gets done.
    quiet: list[str] = []
    single.pool.supervisor.state = LoadState.LOADING
    (worker,) = single.workers.values()
    worker.die()
    waiting = single.submit()
    single.dispatcher.drain(lambda: quiet.append("quiet"))
    assert quiet == []
    single.dispatcher.give_up()
    single.settle()
    assert isinstance(waiting.outcome, Draining)
    assert quiet == ["quiet"]


def test_a_reply_that_crosses_the_order_to_kill_harms_nobody(single: Bench) -> None:
    # The order is on its way when the worker answers.
    quiet: list[str] = []
    caller = single.submit()
    worker = single.take()
    single.dispatcher.drain(lambda: quiet.append("quiet"))
    single.dispatcher.give_up()
    single.answer(worker, b"just in time")
    single.let_the_killed_die()
    assert caller.is_answered
    assert single.pool.busy == 0
    assert quiet == ["quiet"]


def test_garbage_that_crosses_the_order_to_kill_harms_nobody(single: Bench) -> None:
    caller = single.submit()
    worker = single.take()
    single.pool.kill(single.pool.workers[worker.slot])
    worker.say(b"\xff" * 64)
    single.settle()
    single.let_the_killed_die()
    assert caller.is_answered
    assert single.pool.busy == 0


# What a zygote says is input too: the handler's own code runs there at import.


@pytest.mark.parametrize(
    "speak",
    [
        pytest.param(
            lambda bench: bench.pool.worker_forked(bench.zygote, 99, 7, {}),
            id="a worker that was not ordered",
        ),
        pytest.param(
            lambda bench: bench.pool.worker_unforked(bench.zygote, 99, "why"),
            id="no worker where none was ordered",
        ),
        pytest.param(
            lambda bench: (
                bench.pool.balance(),
                bench.pool.worker_forked(bench.zygote, _ordered(bench), 7, {}),
            ),
            id="a worker without its pipes",
        ),
    ],
)
def test_a_zygote_that_makes_no_sense_breaks_the_protocol(
    single: Bench, speak: object
) -> None:
    with pytest.raises(ProtocolViolation):
        speak(single)  # type: ignore[operator]


def _ordered(bench: Bench) -> int:
    (worker,) = bench.workers.values()
    worker.die()
    (slot,) = bench.zygote.forks
    bench.zygote.forks.clear()
    return slot
