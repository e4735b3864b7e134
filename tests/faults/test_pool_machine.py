"""The pool and the dispatcher under everything that can happen, in any order.

Hypothesis draws what happens: invocations, replies and lies, deaths, deadlines, zygotes
that end, load failures, a drain. After every single step the books must balance. The
processes are played (`fake_zygote.py`); everything in front of them is real.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
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

from isoruntime.dispatch.dispatcher import Dispatcher, Limits
from isoruntime.dispatch.invocation import Invocation, Outcome, Phase
from isoruntime.dispatch.lease import LeaseState
from isoruntime.errors import (
    ExitStatus,
    HandlerNotLoaded,
    HandlerRaised,
    InvocationError,
    ResponseTooLarge,
)
from isoruntime.observe.formats import FcFormat
from isoruntime.observe.journal import Journal
from isoruntime.pool import supervisor as supervisor_module
from isoruntime.pool.pool import PoolSize, WorkerPool
from isoruntime.pool.states import WorkerState
from isoruntime.pool.supervisor import LoadState, Preload
from isoruntime.pool.worker import Worker
from isoruntime.wire.frames import LEFTOVERS, NO_NONCE, WORN_OUT, Kind, head
from isoruntime.wire.order import LoadOrder
from tests.faults.fake_zygote import FakeWorker, FakeZygote
from tests.support.bench import StillLoop

TIMEOUT_S = 3.0
QUEUE_TIMEOUT_S = 5.0
#: Ends every wait of the runtime's, one after another.
LONG_S = 40.0
#: More than a pipe holds, so that it is sent in several steps.
LARGE_EVENT = b"e" * 200_000

DEATHS = [ExitStatus(signal=9), ExitStatus(signal=11), ExitStatus(0), ExitStatus(3)]
COUNTED_BUSY = {WorkerState.BUSY, WorkerState.RETIRING}
GOING = {WorkerState.DOOMED, WorkerState.DEAD}


class StrictLoop(StillLoop):
    """A loop that lets a bug be an error."""

    def _note_bug(self) -> None:
        raise  # noqa: PLE0704 - called where an exception is being handled


class Lines:
    """Keeps nothing of what is logged but Start and End lines, counted."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def write(self, data: bytes) -> None:
        for line in data.decode().splitlines():
            if line.startswith("FC Invoke "):
                words = line.rstrip(",").split()
                self.counts[words[2], words[4].rstrip(",")] += 1


class Caller:
    """Whoever waits for one outcome."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.outcomes: list[Outcome] = []
        self.invocation: Invocation | None = None
        self.takers = 0
        self.is_abandoned = False
        #: what the worker answered that may answer for it
        self.replies: list[tuple[Kind, bytes]] = []


class Reload:
    """One attempt to have newer code take over."""

    def __init__(self, had_workers: bool) -> None:
        self.had_workers = had_workers
        self.ends: list[InvocationError | None] = []


class PoolMachine(RuleBasedStateMachine):
    """What can happen to a front end, and what must hold after each of it."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted only
        self.callers: list[Caller] = []
        self.seen: dict[int, tuple[Worker, WorkerState]] = {}
        self.is_stopped = False
        self.reloads: list[Reload] = []

    @initialize(
        min_workers=st.integers(1, 2),
        max_workers=st.integers(1, 4),
        max_invocations=st.sampled_from([0, 0, 1, 3]),
        queue=st.integers(0, 4),
        preload=st.sampled_from([Preload.AUTO, Preload.NEVER]),
        leftovers=st.sampled_from(["kill", "report", "allow"]),
        is_quick=st.booleans(),
    )
    def start(
        self,
        min_workers: int,
        max_workers: int,
        max_invocations: int,
        queue: int,
        preload: Preload,
        leftovers: str,
        is_quick: bool,
    ) -> None:
        """Start a front end; with `is_quick` its workers are ready at once."""

        class Zygote(FakeZygote):
            started: list[FakeZygote] = []  # noqa: RUF012 - anew for every front end
            boots_workers = is_quick

        self.zygotes = Zygote.started
        self.zygote_class = Zygote
        self.patch.setattr(supervisor_module, "Zygote", Zygote)
        self.patch.setattr(supervisor_module, "spawn", dict)
        self.loop = StrictLoop()
        self.pool = WorkerPool(
            self.loop,
            PoolSize(min(min_workers, max_workers), max_workers, max_invocations),
            LoadOrder("x.y", "/"),
            {},
            preload=preload,
            init_timeout_s=20.0,
        )
        self.lines = Lines()
        self.dispatcher = Dispatcher(
            self.loop,
            self.pool,
            Journal(self.lines, FcFormat()),
            Limits(TIMEOUT_S, 20.0, queue, QUEUE_TIMEOUT_S, max_response_bytes=1000),
            os.urandom,
            leftovers=leftovers,
        )
        self.pool.start()
        self.settle()

    # What the machine can see and do.

    def settle(self) -> None:
        """Take turns until nothing more comes of them."""
        for _ in range(6):
            self.loop.turn(0)
            for zygote in tuple(self.zygotes):
                if not zygote.is_over:
                    zygote.obey()
                    zygote.let_go()

    def far_ends(self) -> list[FakeWorker]:
        return [worker for zygote in self.zygotes for worker in zygote.workers.values()]

    def pick(self, candidates: list[FakeWorker], data: Any) -> FakeWorker | None:
        if not candidates:
            return None
        return candidates[data.draw(st.integers(0, len(candidates) - 1))]

    def caller_of(self, worker: FakeWorker) -> Caller:
        """Return whose request a worker has taken."""
        assert worker.request is not None
        request_id = worker.request.meta.split(b"\n")[0].decode()
        return self.callers[int(request_id)]

    # Callers

    @precondition(lambda self: not self.is_stopped)
    @rule(is_large=st.booleans(), then=st.sampled_from(["nothing", "settle", "work"]))
    def submit(self, is_large: bool, then: str) -> None:
        """Send an event."""
        caller = Caller(str(len(self.callers)))
        self.callers.append(caller)
        caller.invocation = Invocation(
            Phase.INVOKE,
            caller.request_id,
            b"{}",
            LARGE_EVENT if is_large else b"event",
            caller.outcomes.append,
            self.loop.now(),
        )
        self.dispatcher.submit(caller.invocation)
        assert not caller.outcomes, "answered inside `submit`"
        if then == "settle":
            self.settle()
        elif then == "work":
            self.settle()
            self.work()

    @rule(data=st.data())
    def go_away(self, data: Any) -> None:
        """Hang up on an invocation."""
        waiting = [one for one in self.callers if not one.outcomes]
        if len(waiting) < 2:
            return
        caller = data.draw(st.sampled_from(waiting))
        assert caller.invocation is not None
        caller.is_abandoned = True
        self.dispatcher.abandon(caller.invocation)
        self.settle()

    # Workers

    @rule(data=st.data())
    def get_ready(self, data: Any) -> None:
        """Have a worker say that its handler is loaded."""
        worker = self.pick([one for one in self.far_ends() if not one.is_ready], data)
        if worker is None:
            return
        worker.boot()
        self.settle()

    @rule(data=st.data())
    def fail_to_load(self, data: Any) -> None:
        """Have a worker say that it is not."""
        importing = [
            worker
            for worker in self.far_ends()
            if not worker.is_ready and not worker.zygote.order.preload
        ]
        worker = self.pick(importing, data)
        if worker is None:
            return
        worker.say(head(Kind.FAILED, NO_NONCE, b"UserCodeError", 2) + b"{}")
        worker.zygote.bury(worker.slot, ExitStatus(0))
        self.settle()

    @rule(data=st.data())
    def take(self, data: Any) -> None:
        """Have a worker take its request, all of it."""
        worker = self.pick(
            [one for one in self.far_ends() if one.is_ready and not one.request], data
        )
        if worker is None:
            return
        self._take(worker)

    def _take(self, worker: FakeWorker) -> None:
        for _ in range(10):
            if worker.take() is not None:
                self.caller_of(worker).takers += 1
                break
            self.loop.turn(0)

    @rule(data=st.data())
    def take_in_part(self, data: Any) -> None:
        """Have a worker begin to take its request, and die."""
        worker = self.pick(
            [one for one in self.far_ends() if one.is_ready and not one.request], data
        )
        if worker is None:
            return
        worker.take(most_bytes=data.draw(st.sampled_from([1, 32, 5000])))
        if worker.request is not None:
            self.caller_of(worker).takers += 1
        worker.zygote.bury(worker.slot, ExitStatus(signal=9))
        self.settle()

    @rule(
        data=st.data(),
        kind=st.sampled_from([Kind.RESULT, Kind.RESULT, Kind.FAULT]),
        flags=st.sampled_from([0, 0, 0, WORN_OUT, LEFTOVERS | WORN_OUT]),
        dies=st.booleans(),
    )
    def reply(self, data: Any, kind: Kind, flags: int, dies: bool) -> None:
        """Have a worker answer, and perhaps die at once."""
        worker = self.pick([one for one in self.far_ends() if one.request], data)
        if worker is None:
            return
        caller = self.caller_of(worker)
        body = b"to %b" % caller.request_id.encode()
        caller.replies.append((kind, body))
        worker.reply(body, kind, flags)
        if dies:
            worker.zygote.bury(worker.slot, ExitStatus(signal=11))
        self.settle()

    @rule()
    def work(self) -> None:
        """Have every worker do what it is for."""
        for worker in self.far_ends():
            if worker.is_ready and worker.request is None:
                self._take(worker)
            if worker.request is None:
                continue
            caller = self.caller_of(worker)
            body = b"to %b" % caller.request_id.encode()
            caller.replies.append((Kind.RESULT, body))
            worker.reply(body)
        self.settle()

    @rule(data=st.data())
    def reply_too_much(self, data: Any) -> None:
        """Have a worker answer with more than is allowed."""
        worker = self.pick([one for one in self.far_ends() if one.request], data)
        if worker is None:
            return
        caller = self.caller_of(worker)
        caller.replies.append((Kind.TOO_LARGE, b""))
        worker.reply(b"r" * 1001)
        self.settle()

    @rule(data=st.data())
    def reply_twice(self, data: Any) -> None:
        """Have a worker answer, and then answer again."""
        worker = self.pick([one for one in self.far_ends() if one.request], data)
        if worker is None:
            return
        caller, request = self.caller_of(worker), worker.request
        body = b"to %b" % caller.request_id.encode()
        caller.replies.append((Kind.RESULT, body))
        worker.reply(body)
        if data.draw(st.booleans()):
            self.settle()
        if worker in self.far_ends():
            worker.request = request
            worker.reply(b"once more")
            worker.request = None
            self.settle()

    @rule(
        data=st.data(),
        words=st.sampled_from(
            [
                b"rubbish" * 9,
                b"short",
                head(Kind.READY, NO_NONCE, b"", 0),
                head(Kind.RESULT, NO_NONCE, b"", 0),
                head(Kind.INVOKE, b"n" * 16, b"", 0),
                head(Kind.RESULT, NO_NONCE, b"", 1 << 60),
            ]
        ),
    )
    def speak_out_of_turn(self, data: Any, words: bytes) -> None:
        """Have a worker say what nobody asked."""
        worker = self.pick([one for one in self.far_ends() if one.is_ready], data)
        if worker is None:
            return
        worker.say(words)
        self.settle()

    @rule(data=st.data(), status=st.sampled_from(DEATHS), settles=st.booleans())
    def die(self, data: Any, status: ExitStatus, settles: bool) -> None:
        """End a worker, wherever it is."""
        worker = self.pick(self.far_ends(), data)
        if worker is None:
            return
        worker.zygote.bury(worker.slot, status)
        if settles:
            self.settle()

    @rule(data=st.data(), of=st.sampled_from(["memory", "processes"]))
    def eat(self, data: Any, of: str) -> None:
        """End a worker for what it took."""
        worker = self.pick(self.far_ends(), data)
        if worker is None:
            return
        worker.zygote.bury(worker.slot, ExitStatus(signal=9), (of, 5000))
        self.settle()

    # Zygotes

    @rule(status=st.sampled_from(DEATHS))
    def lose_the_zygote(self, status: ExitStatus) -> None:
        """End the zygote, and its workers with it."""
        alive = [one for one in self.zygotes if not one.is_over]
        if alive:
            alive[-1].end(status)
        self.settle()

    @rule(loads=st.sampled_from([True, True, False, None]))
    def change_the_code(self, loads: bool | None) -> None:
        """See that the handler loads from now on, or does not, or takes for ever."""
        self.zygote_class.loads = loads

    @precondition(lambda self: not self.is_stopped)
    @rule(settles=st.booleans())
    def reload(self, settles: bool) -> None:
        """Have newer code take over, if it loads."""
        served = self.pool.has_workers
        reload = Reload(served)
        self.reloads.append(reload)
        self.pool.supervisor.reload(reload.ends.append)
        assert self.pool.has_workers == served
        if settles:
            self.settle()

    # Time, and the end

    @rule(seconds=st.sampled_from([0.001, 0.1, 1.0, TIMEOUT_S, QUEUE_TIMEOUT_S, 61.0]))
    def let_time_pass(self, seconds: float) -> None:
        """Let time pass, with every timer on the way."""
        self.loop.advance(seconds)
        self.settle()

    @precondition(lambda self: not self.is_stopped and len(self.callers) > 3)
    @rule(gives_up=st.booleans())
    def drain(self, gives_up: bool) -> None:
        """Begin to end, as the platform asks."""
        self.is_stopped = True
        self.dispatcher.drain(lambda: None)
        if gives_up:
            self.dispatcher.give_up()
        self.settle()

    # What must hold, always.

    @invariant()
    def everything_holds(self) -> None:
        """Check all of the below; one name keeps what a failure prints short."""
        if hasattr(self, "dispatcher"):
            self.the_books_balance()
            self.there_are_never_too_many_workers()
            self.zygotes_do_not_pile_up()
            self.a_reload_ends_once_at_most_and_the_last_one_does()
            self.a_worker_belongs_to_one_lease_at_most()
            self.everybody_is_somewhere_and_nobody_is_answered_twice()
            self.an_answer_is_the_right_one()
            self.nobody_runs_longer_than_allowed()
            self.what_has_ended_stays_ended()
            self.a_start_is_logged_once_and_ended_once()

    def the_books_balance(self) -> None:
        states = Counter(worker.state for worker in self.pool.workers.values())
        assert self.pool.busy == sum(states[state] for state in COUNTED_BUSY)
        on_trial = 0 if self.pool.trial is None else 1
        assert self.pool.booting + on_trial == states[WorkerState.BOOTING]
        idle = self.pool.idle
        assert len(idle) == len(set(map(id, idle))) == states[WorkerState.IDLE]
        assert all(worker.state is WorkerState.IDLE for worker in idle)
        assert states[WorkerState.DEAD] == 0

    def there_are_never_too_many_workers(self) -> None:
        # A worker of code that was succeeded finishes its invocation, and is not lent.
        current = self.pool.supervisor.zygote
        workers = self.pool.workers.values()
        live = [one for one in workers if one.state not in GOING]
        succeeded = [
            one
            for one in live
            if one.zygote is not current and one is not self.pool.trial
        ]
        assert {one.state for one in succeeded} <= COUNTED_BUSY
        trials = 0 if self.pool.trial is None else 1
        others = len(live) - len(succeeded) - trials
        assert others <= self.pool.size.max_workers

    def zygotes_do_not_pile_up(self) -> None:
        supervisor = self.pool.supervisor
        used = {id(one.zygote) for one in self.pool.workers.values()}
        used |= {id(supervisor.zygote)}
        if supervisor._successor is not None:
            used |= {id(supervisor._successor.zygote)}
        idle = [
            zygote
            for zygote in self.zygotes
            if not zygote.is_over and not zygote.is_ending and id(zygote) not in used
        ]
        assert idle == []

    def a_reload_ends_once_at_most_and_the_last_one_does(self) -> None:
        assert all(len(reload.ends) <= 1 for reload in self.reloads)
        supervisor = self.pool.supervisor
        if self.reloads and not self.is_stopped and supervisor._successor is None:
            assert len(self.reloads[-1].ends) == 1

    def a_worker_belongs_to_one_lease_at_most(self) -> None:
        leases = self.dispatcher._in_flight
        workers = [id(lease.worker) for lease in leases]
        assert len(workers) == len(set(workers))
        for lease in leases:
            assert lease.state is not LeaseState.DONE
            assert lease.worker.holder is lease
            if lease.state is not LeaseState.OVERDUE:
                assert lease.worker.state in COUNTED_BUSY
        held = {id(one) for one in self.pool.workers.values() if one.holder is not None}
        assert held <= set(workers)
        assert not any(worker.holder for worker in self.pool.idle)

    def everybody_is_somewhere_and_nobody_is_answered_twice(self) -> None:
        assert all(len(caller.outcomes) <= 1 for caller in self.callers)
        # A refusal is on its way for as long as the loop has not turned.
        self.loop.turn(0)
        held = [lease.invocation for lease in self.dispatcher._in_flight]
        waiting = list(self.dispatcher._queue)
        for caller in self.callers:
            places = [*held, *waiting].count(caller.invocation)
            assert places + len(caller.outcomes) == 1, caller.request_id

    def an_answer_is_the_right_one(self) -> None:
        for caller in self.callers:
            # Only what nobody has taken is given to another worker.
            assert caller.takers <= 1
            for outcome in caller.outcomes:
                self._check(caller, outcome)

    def _check(self, caller: Caller, outcome: Outcome) -> None:
        kinds = [kind for kind, _ in caller.replies]
        if isinstance(outcome, (bytes, bytearray)):
            assert (Kind.RESULT, bytes(outcome)) in caller.replies
        elif isinstance(outcome, HandlerRaised) and not isinstance(
            outcome, HandlerNotLoaded
        ):
            assert (Kind.FAULT, outcome.body) in caller.replies
        elif isinstance(outcome, ResponseTooLarge):
            assert Kind.TOO_LARGE in kinds
        else:
            assert isinstance(outcome, InvocationError), repr(outcome)

    def nobody_runs_longer_than_allowed(self) -> None:
        for lease in self.dispatcher._in_flight:
            if lease.state is not LeaseState.OVERDUE:
                assert self.loop.now() <= lease.deadline

    def what_has_ended_stays_ended(self) -> None:
        for worker in self.pool.workers.values():
            self.seen.setdefault(id(worker), (worker, worker.state))
        for key, (worker, was) in self.seen.items():
            if was is WorkerState.DEAD:
                assert worker.state is WorkerState.DEAD
            elif was is WorkerState.DOOMED:
                assert worker.state in GOING
            self.seen[key] = (worker, worker.state)

    def a_start_is_logged_once_and_ended_once(self) -> None:
        for caller in self.callers:
            starts = self.lines.counts["Start", caller.request_id]
            ends = self.lines.counts["End", caller.request_id]
            assert ends <= starts <= 1, f"{starts} starts and {ends} ends"
            if caller.outcomes:
                assert starts == ends, f"answered with {caller.outcomes}"

    def teardown(self) -> None:
        """Let all end; whoever came must have been answered, and nothing be left."""
        try:
            if hasattr(self, "pool"):
                self._end()
        finally:
            self.patch.undo()

    def _end(self) -> None:
        self.zygote_class.loads = self.zygote_class.boots_workers = True
        for worker in self.far_ends():
            if not worker.is_ready:
                worker.boot()
        for _ in range(12):
            self.loop.advance(LONG_S / 6)
            self.settle()
        assert [one.request_id for one in self.callers if not one.outcomes] == []
        assert self.pool.busy == 0
        if not self.is_stopped:
            assert len([one for one in self.zygotes if not one.is_over]) == 1
            assert self.pool.supervisor.state is LoadState.READY
        gone: list[bool] = []
        self.pool.stop(lambda: gone.append(True))
        self.settle()
        self.loop.advance(LONG_S)
        self.settle()
        assert gone == [True]
        assert self.pool.workers == {}
        assert all(worker.state is WorkerState.DEAD for worker, _ in self.seen.values())
        assert all(zygote.is_over for zygote in self.zygotes)
        self.loop.close()
        # An example that was broken off may have left some, which have gone meanwhile.
        assert len(os.listdir("/proc/self/fd")) <= self.descriptors  # noqa: PTH208 - counted only


PoolMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    # Not the last phase, which traces every line to explain a failure: it takes
    # minutes here, and a dump of the stacks meanwhile ends the interpreter.
    phases=[
        HypothesisPhase.explicit,
        HypothesisPhase.reuse,
        HypothesisPhase.generate,
        HypothesisPhase.shrink,
    ],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class TestPool(PoolMachine.TestCase):  # type: ignore[misc]
    """The machine, run by pytest."""
