"""Dispatcher, pool and workers under any order of events.

Hypothesis plays callers, clock, zygote and the far end of every worker's pipes. After
every step the books must balance; at the end everybody has been answered, once.
"""

from __future__ import annotations

import contextlib
import os

from hypothesis import HealthCheck, settings
from hypothesis import Phase as HypothesisPhase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from isoruntime.dispatch.dispatcher import Limits
from isoruntime.dispatch.invocation import Phase
from isoruntime.pool.pool import PoolSize
from isoruntime.pool.states import WorkerState
from isoruntime.wire.frames import WORN_OUT, Kind
from tests.support.bench import EVERYTHING, INVOKES, Bench, Caller, PlayedWorker

MAX_WORKERS = 3
EXPLORES = "HYPOTHESIS_EXPLORE" in os.environ
which = st.integers(0, 7)


class FrontEnd(RuleBasedStateMachine):
    """Everything that can happen to a front end, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.bench: Bench | None = None
        self.running: list[PlayedWorker] = []
        self.is_draining = False
        self.quiet: list[str] = []

    @initialize(
        initializes=st.booleans(),
        max_invocations=st.sampled_from([0, 1, 2]),
        queue=st.sampled_from([0, 2]),
    )
    def start(self, initializes: bool, max_invocations: int, queue: int) -> None:
        self.bench = Bench(
            size=PoolSize(max_workers=MAX_WORKERS, max_invocations=max_invocations),
            limits=Limits(timeout_s=10, init_timeout_s=30, queue=queue),
            phases=EVERYTHING if initializes else INVOKES,
        )

    @property
    def the(self) -> Bench:
        assert self.bench is not None
        return self.bench

    def living(self) -> list[PlayedWorker]:
        """Return the workers that were forked and have not died."""
        return [worker for worker in self.the.workers.values() if not worker.is_dead]

    # Callers.

    @rule(size=st.sampled_from([0, 10, 300_000]))
    def invoke(self, size: int) -> None:
        self.the.submit(bytes(size))

    @rule(phase=st.sampled_from([Phase.INITIALIZE, Phase.PRE_STOP, Phase.PRE_FREEZE]))
    def hook(self, phase: Phase) -> None:
        self.the.submit(b"", phase)

    @rule(number=which)
    def leave(self, number: int) -> None:
        waiting = [caller for caller in self.the.callers if not caller.is_answered]
        if waiting:
            invocation = waiting[number % len(waiting)].invocation
            assert invocation is not None
            self.the.dispatcher.abandon(invocation)

    # Workers.

    @rule(number=which)
    def take(self, number: int) -> None:
        asked = [worker for worker in self.the.asked() if worker not in self.running]
        if asked:
            worker = asked[number % len(asked)]
            with contextlib.suppress(AssertionError):
                # A worker that was sent off reads the end of its pipe.
                worker.take()
                self.running.append(worker)
            self.the.settle()

    @precondition(lambda self: self.running)
    @rule(
        number=which,
        kind=st.sampled_from([Kind.RESULT, Kind.FAULT, Kind.READY]),
        flags=st.sampled_from([0, 0, WORN_OUT]),
    )
    def reply(self, number: int, kind: Kind, flags: int) -> None:
        worker = self.running.pop(number % len(self.running))
        if not worker.is_dead:
            self.the.answer(worker, b"{}", kind, meta=b"ValueError", flags=flags)

    @rule(number=which, data=st.sampled_from([b"\xff" * 40, b"\x01", b"\x01\x07\0\0"]))
    def speak_out_of_turn(self, number: int, data: bytes) -> None:
        if living := self.living():
            living[number % len(living)].say(data)
            self.the.settle()

    @rule(number=which)
    def print_something(self, number: int) -> None:
        if living := self.living():
            living[number % len(living)].print(b"words\n")
            self.the.settle()

    @rule(number=which, signal=st.sampled_from([9, 11]))
    def die(self, number: int, signal: int) -> None:
        if living := self.living():
            living[number % len(living)].die(signal=signal)
            self.the.settle()

    @rule()
    def carry_out_kills(self) -> None:
        self.the.let_the_killed_die()

    @rule(boots=st.booleans())
    def let_forks_get_ready_or_not(self, boots: bool) -> None:
        self.the.boots = boots
        if boots:
            self.get_ready()

    def get_ready(self) -> None:
        for slot, ours in list(self.the.pool.workers.items()):
            if ours.state is WorkerState.BOOTING and slot in self.the.workers:
                self.the.workers[slot].ready()
        self.the.settle()

    # Time, and the end.

    @rule(seconds=st.sampled_from([0.001, 0.03, 1.0, 6.0, 11.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.the.advance(seconds)

    @precondition(lambda self: not self.is_draining)
    @rule()
    def drain(self) -> None:
        self.is_draining = True
        self.the.dispatcher.drain(lambda: self.quiet.append("quiet"))
        self.the.settle()

    @precondition(lambda self: self.is_draining)
    @rule()
    def give_up(self) -> None:
        self.the.dispatcher.give_up()
        self.the.settle()

    # What always holds.

    @precondition(lambda self: self.bench is not None)
    @invariant()
    def the_books_balance(self) -> None:
        pool, workers = self.the.pool, list(self.the.pool.workers.values())
        by_state = {
            state: [worker for worker in workers if worker.state is state]
            for state in WorkerState
        }
        lent = by_state[WorkerState.BUSY] + by_state[WorkerState.RETIRING]
        assert pool.busy == len(lent)
        assert pool.booting == len(by_state[WorkerState.BOOTING])
        assert sorted(worker.slot for worker in pool.idle) == sorted(
            worker.slot for worker in by_state[WorkerState.IDLE]
        )
        doomed = len(by_state[WorkerState.DOOMED])
        assert len(workers) <= MAX_WORKERS + doomed
        assert by_state[WorkerState.DEAD] == []

    @precondition(lambda self: self.bench is not None)
    @invariant()
    def a_worker_belongs_to_one_lease_at_most(self) -> None:
        leases = self.the.dispatcher._in_flight
        assert len({lease.worker.slot for lease in leases}) == len(leases)
        for lease in leases:
            assert lease.worker.holder is lease
        for worker in self.the.pool.workers.values():
            if worker.state is WorkerState.IDLE:
                assert worker.holder is None

    @precondition(lambda self: self.bench is not None)
    @invariant()
    def nobody_is_answered_twice(self) -> None:
        assert [caller for caller in self.the.callers if len(caller.outcomes) > 1] == []

    def teardown(self) -> None:
        if self.bench is None:
            return
        try:
            self.end(self.bench)
        finally:
            self.bench.close()

    def end(self, bench: Bench) -> None:
        """Let everything take its course: all are answered, the books are empty."""
        if not self.is_draining:
            self.drain()
        bench.boots = True
        self.get_ready()
        for _ in range(4):
            bench.advance(120)
            bench.let_the_killed_die()
        unanswered: list[Caller] = [
            caller for caller in bench.callers if not caller.is_answered
        ]
        assert unanswered == []
        assert (bench.dispatcher.in_flight, bench.dispatcher.waiting) == (0, 0)
        assert bench.pool.busy == 0
        assert not bench.loop.tickers
        assert self.quiet == ["quiet"]


FrontEnd.TestCase.settings = settings(
    max_examples=3000 if EXPLORES else 100,
    stateful_step_count=30,
    deadline=None,
    # Not the last phase, which traces every line to explain a failure: it takes
    # minutes here, and a dump of the stacks meanwhile ends the interpreter.
    phases=[
        HypothesisPhase.explicit,
        HypothesisPhase.reuse,
        HypothesisPhase.generate,
        HypothesisPhase.shrink,
    ],
    # The same cases in every run, so that no change is blamed for another one's bug;
    # HYPOTHESIS_EXPLORE=1 looks at new ones, and at many more.
    derandomize=not EXPLORES,
    suppress_health_check=[HealthCheck.too_slow],
)


class TestTheFrontEndUnderAnyOrderOfEvents(FrontEnd.TestCase):  # type: ignore[misc]
    """The machine above, as a test."""
