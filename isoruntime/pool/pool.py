"""The pool: as many workers as the work needs, lent one invocation at a time.

How many there are follows from the load: one for every invocation that runs or
waits, and one spare that is forked ahead of need, between the configured bounds.
Free workers lie on a stack, so that a light load keeps few of them warm and the
others can go.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import count, islice

from isoruntime.contract.encoding import with_last_words
from isoruntime.errors import (
    DeadlineExceeded,
    ExitStatus,
    HandlerNotLoaded,
    InvocationError,
    ProtocolViolation,
    Verdict,
    WorkerDied,
    verdict_of_exit,
)
from isoruntime.loop import Alarm, Loop, Timer
from isoruntime.pool.isolation import Isolation
from isoruntime.pool.states import WorkerEvent, WorkerState
from isoruntime.pool.supervisor import LoadState, Preload, Supervisor
from isoruntime.pool.worker import ExitReport, Worker
from isoruntime.typed import Final, Protocol
from isoruntime.wire.frames import OUTPUT_PENDING, Frame, Kind
from isoruntime.wire.order import LoadOrder
from isoruntime.zygote.client import Excess, Zygote
from isoruntime.zygote.spawn import Spawned

# Names of their own for what every invocation asks: before Python 3.12 a look into an
# Enum goes through a function, for a tenth of a microsecond.
_LEASE: Final = WorkerEvent.LEASE
_RELEASE: Final = WorkerEvent.RELEASE
_IDLE: Final = WorkerState.IDLE
_READY: Final = LoadState.READY
_FAILED: Final = LoadState.FAILED
#: What a worker cannot be used without.
_NEEDED = {"request", "reply", "trace", "stdout"}

_log = logging.getLogger("isoruntime.pool")

#: An idle worker is let go after so long without work for it.
_IDLE_S = 60.0
_SHRINK_EVERY_S = 10.0
#: How long a worker that was sent off may take over its exit functions.
_GOODBYE_S = 1.0
#: The zygote's report follows a death at once; if it does not come, we go on.
_REPORT_S = 2.0
#: So much of what a worker prints while it starts is kept for its failure.
_BOOT_OUTPUT_BYTES = 4096
#: A worker that ends unused at this age was ended by its own code.
_YOUNG_S = 1.0
_MAX_YOUNG_DEATHS = 5
#: Sampling of memory goes on for so long after the last lease.
_UNWATCHED_S = 1.0
_UNFORKED_RETRY_S = 0.5
#: Where no worker serves twice, so many lie ready. Half of them are replaced at a time.
_STOCK = 8


class Demand(Protocol):
    """Who uses the workers, and says how many are wanted."""

    @property
    def waiting(self) -> int:
        """How many invocations wait for a worker."""

    def workers_available(self) -> None:
        """There are free workers."""

    def handler_unavailable(self, error: InvocationError) -> None:
        """Learn that the handler does not load; nobody is going to be served."""

    def stray_output(self, stream: str, data: bytes) -> None:
        """User code printed something outside of any invocation."""


class PoolSize:
    """The bounds the pool keeps to, and what wears a worker out."""

    __slots__ = ("max_age_s", "max_invocations", "max_workers", "min_workers")

    def __init__(
        self,
        min_workers: int = 1,
        max_workers: int = 32,
        max_invocations: int = 0,
        max_age_s: float = 0.0,
    ) -> None:
        self.min_workers = min_workers
        self.max_workers = max_workers
        self.max_invocations = max_invocations
        self.max_age_s = max_age_s


class WorkerPool:
    """The workers that exist; every one belongs to at most one lease."""

    def __init__(
        self,
        loop: Loop,
        size: PoolSize,
        order: LoadOrder,
        environment: Mapping[str, str],
        *,
        preload: Preload = Preload.AUTO,
        init_timeout_s: float = 300.0,
        spawned: Spawned | None = None,
        whose: str = "",
    ) -> None:
        """Make a pool without workers; what it logs begins with `whose`."""
        self._loop = loop
        self._whose = whose
        self.size = size
        self._max_body = order.max_response_bytes + (1 << 20)
        self.supervisor = Supervisor(
            loop,
            self,
            order,
            environment,
            preload=preload,
            init_timeout_s=init_timeout_s,
            spawned=spawned,
            whose=whose,
        )
        self.demand: Demand | None = None
        #: called whenever the handler has been loaded, or has not
        self.on_load_state: Callable[[], object] | None = None
        #: called with every worker that has ended, before its holder is
        self.on_exit: Callable[[Worker, ExitReport], object] | None = None
        self.isolation = Isolation()
        self._is_output_paused = False
        #: how many have died young since one has served anybody
        self._young_deaths = 0
        #: the zygote that samples its workers at present
        self._watched: Zygote | None = None
        self._watch_timer: Timer | None = None
        self._slots = count(1)
        self.workers: dict[int, Worker] = {}
        self._idle: list[Worker] = []
        #: the first worker of a successor: not to be had, and not counted, before it
        #: is ready
        self.trial: Worker | None = None
        self.busy = 0
        self.booting = 0
        self._shrink_timer: Timer | None = None
        self._fork_timer: Timer | None = None
        self._dues = Alarm(loop, self._look_who_is_due)
        self._is_stopping = False
        self._when_empty: Callable[[], object] | None = None
        self._goodbye: Timer | None = None

    def start(self) -> None:
        """Begin loading the handler; workers follow as soon as it is there."""
        self.supervisor.start()

    def stop(self, on_gone: Callable[[], object]) -> None:
        """Let every worker go, then the zygote; call `on_gone` at the end."""
        self._is_stopping = True
        self._disarm()
        self.supervisor.end_reload()
        for worker in list(self.workers.values()):
            if worker.state is WorkerState.BUSY:
                self.kill(worker)
            elif worker.state is not WorkerState.DOOMED:
                self.retire(worker)
        if self.workers:
            # Their exit functions get their time; the zygote ends what is left.
            self._when_empty = on_gone
            self._goodbye = self._loop.call_later(_GOODBYE_S, self._dismiss)
        else:
            self.supervisor.stop(on_gone)

    def _dismiss(self) -> None:
        on_gone, self._when_empty = self._when_empty, None
        if self._goodbye is not None:
            self._goodbye.cancel()
        if on_gone is not None:
            self.supervisor.stop(on_gone)

    # Is there anything to be had?

    @property
    def load_error(self) -> InvocationError | None:
        """Why no worker can be had at present; None if one can, soon at least.

        Where workers import for themselves, those that did serve on, whatever has
        become of the code since.
        """
        if self.supervisor.state is _FAILED and not self.has_workers:
            return self.supervisor.error
        return None

    @property
    def has_workers(self) -> bool:
        """Whether anybody can be served, now or when he who is served is done.

        Not by a worker whose zygote was succeeded: this invocation is its last.
        """
        if self._idle or not self.busy:
            return bool(self._idle)
        current = self.supervisor.zygote
        return any(
            worker.zygote is current
            and worker.state in (WorkerState.BUSY, WorkerState.RETIRING)
            for worker in self.workers.values()
        )

    @property
    def is_warming(self) -> bool:
        """Whether the handler is still being imported for the first worker."""
        if self.supervisor.state is LoadState.LOADING:
            return True
        return (
            self.supervisor.state is _READY
            and self.booting > 0
            and not self.has_workers
        )

    def retry_load(self) -> bool:
        """Have the handler loaded again; return whether that is under way."""
        return self.supervisor.retry() or self.load_error is None

    @property
    def idle(self) -> tuple[Worker, ...]:
        """The workers that are free, the one used last at the end."""
        return tuple(self._idle)

    # Lending.

    def take(self, worker: Worker | None = None) -> Worker | None:
        """Lend a free worker (or this one), if there is one."""
        if worker is not None:
            self._idle.remove(worker)
        elif self._idle:
            worker = self._idle.pop()
        else:
            return None
        worker.on(_LEASE)
        self.busy += 1
        if self._watched is not worker.zygote:
            self._watch(worker.zygote)
        self.balance()
        return worker

    def release(
        self, worker: Worker, *, worn_out: bool = False, counts: bool = True
    ) -> None:
        """Take back a worker whose conversation ended where it may end.

        A conversation that `counts` is an invocation, as opposed to a hook.
        """
        worker.holder = None
        if worker.state is WorkerState.DOOMED:
            # The order to kill it and its reply crossed; it was counted out then.
            return
        worker.served += counts
        self.busy -= 1
        is_current = worker.zygote is self.supervisor.zygote
        if is_current:
            self._young_deaths = 0
            self.supervisor.worker_served()
        if worn_out or not is_current or self._is_spent(worker) or self._is_stopping:
            worker.on(WorkerEvent.RETIRE)
        worker.on(_RELEASE)
        if worker.state is _IDLE:
            worker.idle_since = self._loop.now()
            self._idle.append(worker)
        else:
            self._send_off(worker)
            self.balance()
        if self.demand is not None and self.demand.waiting and self._idle:
            self.demand.workers_available()

    def drop_dead(self) -> None:
        """Lend none of the free workers whose death is not reported yet."""
        for worker in tuple(self._idle):
            if not worker.is_alive or worker.is_killed:
                self.kill(worker)

    def _is_spent(self, worker: Worker) -> bool:
        size = self.size
        if size.max_invocations and worker.served >= size.max_invocations:
            return True
        return bool(
            size.max_age_s and self._loop.now() - worker.born_at >= size.max_age_s
        )

    def kill(self, worker: Worker) -> None:
        """End a worker and everything it started; its exit report follows."""
        if worker.state in (WorkerState.DEAD, WorkerState.DOOMED):
            return
        self._count_out(worker)
        worker.on(WorkerEvent.KILL)
        worker.zygote.kill_worker(worker.slot)

    def retire(self, worker: Worker) -> None:
        """Let a worker go that is not in use."""
        self._count_out(worker)
        worker.on(WorkerEvent.RETIRE)
        self._send_off(worker)

    def _count_out(self, worker: Worker) -> None:
        """Note that a worker stops being what it is."""
        if worker.state is _IDLE:
            self._idle.remove(worker)
        elif worker.state is WorkerState.BOOTING:
            self._count_boot_out(worker)
        elif worker.state in (WorkerState.BUSY, WorkerState.RETIRING):
            self.busy -= 1

    def _count_boot_out(self, worker: Worker) -> None:
        if worker is self.trial:
            self.trial = None
        else:
            self.booting -= 1

    def _send_off(self, worker: Worker) -> None:
        worker.say_goodbye()
        self._expect(worker, _GOODBYE_S, self._hurry)

    # What workers should do in time. One timer for all: three for each would be a good
    # part of what one costs that serves once.

    def _expect(
        self, worker: Worker, within_s: float, otherwise: Callable[[Worker], object]
    ) -> None:
        """Call `otherwise` with this worker, unless more is heard of it in time."""
        worker.due_at = due_at = self._loop.now() + within_s
        worker.when_due = otherwise
        self._dues.set(due_at)

    def _look_who_is_due(self) -> None:
        now = self._loop.now()
        try:
            for worker in list(self.workers.values()):
                if worker.due_at <= now:
                    worker.due_at = math.inf
                    worker.when_due(worker)
        finally:
            # A bug about one of them is not to make the others wait for ever.
            dues = [worker.due_at for worker in self.workers.values()]
            due_at = min(dues, default=math.inf)
            if due_at < math.inf:
                self._dues.set(due_at)

    def _hurry(self, worker: Worker) -> None:
        """End a worker that was sent off and is still there."""
        worker.zygote.kill_worker(worker.slot)
        self._expect(worker, _REPORT_S, self._give_up_on)

    def _give_up_on(self, worker: Worker) -> None:
        """Go on without the report of a worker that has ended."""
        if worker.is_alive:
            self._expect(worker, _REPORT_S, self._give_up_on)
        else:
            self._bury(worker, ExitReport(ExitStatus()))

    # How many?

    def balance(self) -> None:  # noqa: C901 - one condition after another
        """Order forks until there are as many workers as are wanted."""
        supervisor = self.supervisor
        zygote = supervisor.zygote
        if (
            supervisor.state is not _READY
            or self._is_stopping
            or zygote is None
            or self._fork_timer is not None
        ):
            return
        waiting = self.demand.waiting if self.demand is not None else 0
        size, spares = self.size, self._spares
        wanted = self.busy + waiting
        if wanted:
            wanted += spares
        # On the way of every invocation, where a function for it would be a tenth.
        if wanted < size.min_workers:
            wanted = size.min_workers
        if wanted > size.max_workers:
            wanted = size.max_workers
        existing = self.busy + self.booting + len(self._idle)
        missing = wanted - existing
        if missing > 0 and supervisor.imports_in_worker:
            missing = self._worth_importing(missing)
        if missing > 0:
            # Several forked in one go cost less. Those who wait do not lose by it as long
            # as each has a worker under way.
            is_urgent = waiting > self.booting or existing < size.min_workers
            if is_urgent or missing >= min(spares, size.max_workers) // 2:
                self.booting += missing
                self._fork(zygote, missing, supervisor.boot_limit_s)
        if self._shrink_timer is None:
            self._watch_surplus()

    @property
    def _spares(self) -> int:
        """How many workers are kept ready beyond those at work."""
        if self.size.max_invocations != 1 or self.supervisor.imports_in_worker:
            return 1
        # Every invocation takes one for good.
        return _STOCK

    def _worth_importing(self, missing: int) -> int:
        """Return how many of the missing workers are to import for themselves now."""
        if not self.has_workers:
            # An import may take a second of a core: one worker tries it out first.
            return 1 - self.booting
        # While the code is changing those that have loaded are worth more than others
        # that may not: one that fails would make the handler fail.
        return 0 if self.supervisor.is_code_in_doubt else missing

    def _fork(self, zygote: Zygote, number: int, limit_s: float) -> list[Worker]:
        slots = list(islice(self._slots, number))
        workers = self._count_in(zygote, slots, limit_s)
        zygote.fork(slots)
        return workers

    def _count_in(
        self, zygote: Zygote, slots: Sequence[int], limit_s: float
    ) -> list[Worker]:
        workers: list[Worker] = []

        def give_up(worker: Worker) -> None:
            if worker.state is WorkerState.BOOTING:
                self._boot_too_slow(worker, limit_s)

        for slot in slots:
            worker = Worker(slot, zygote, self._loop, self, self._max_body)
            self.workers[slot] = worker
            workers.append(worker)
            self._expect(worker, limit_s, give_up)
        return workers

    def slots_ahead(self) -> list[int]:
        """Return slots for the workers that are wanted as soon as there is a zygote.

        It forks them while this process is still busy with its own start, or with
        whatever else.
        """
        number = 0 if self._fork_timer is not None else self.size.min_workers
        if self.supervisor.imports_in_worker:
            number = min(number, 1)
        return list(islice(self._slots, number))

    def workers_begun(
        self, zygote: Zygote, slots: Sequence[int], limit_s: float
    ) -> None:
        """Count workers in that a zygote is forking."""
        self.booting += len(slots)
        self._count_in(zygote, slots, limit_s)

    # Successors.

    def try_out(self, zygote: Zygote, limit_s: float) -> None:
        """Fork a successor's first worker, and tell whether it loads within the limit."""
        if not self._is_stopping:
            (self.trial,) = self._fork(zygote, 1, limit_s)

    def end_trial(self) -> None:
        """End the successor's first worker: the successor is given up."""
        if self.trial is not None:
            self.kill(self.trial)

    def succeeded(self, zygote: Zygote) -> None:
        """Let the workers of a zygote go that another one has succeeded.

        The busy ones finish, and go then.
        """
        self._young_deaths = 0
        for worker in list(self.workers.values()):
            is_free = worker.state in (WorkerState.BOOTING, WorkerState.IDLE)
            if worker.zygote is zygote and is_free:
                self.retire(worker)
        self._dismiss_if_deserted(zygote)

    def _dismiss_if_deserted(self, zygote: Zygote) -> None:
        if zygote is self.supervisor.zygote:
            return
        if not any(worker.zygote is zygote for worker in self.workers.values()):
            self.supervisor.dismiss(zygote)

    def _shrink(self) -> None:
        self._shrink_timer = None
        if self._is_stopping:
            return
        now, size = self._loop.now(), self.size
        surplus = min(
            len(self._idle) - (self._spares if self.busy else 0),
            len(self._idle) + self.busy + self.booting - size.min_workers,
        )
        for worker in self._idle[: max(0, surplus)]:
            if now - worker.idle_since >= _IDLE_S:
                self.retire(worker)
        if size.max_age_s:
            for worker in tuple(self._idle):
                if now - worker.born_at >= size.max_age_s:
                    self.retire(worker)
        self.balance()
        self._watch_surplus()

    def _watch_surplus(self) -> None:
        is_needed = len(self.workers) > self.size.min_workers or self.size.max_age_s
        if self._shrink_timer is None and is_needed:
            self._shrink_timer = self._loop.call_later(_SHRINK_EVERY_S, self._shrink)

    def _disarm(self) -> None:
        for timer in (self._shrink_timer, self._fork_timer):
            if timer is not None:
                timer.cancel()

    # Sampling costs a little, so it ends when nothing has been lent for a while.

    def _watch(self, zygote: Zygote) -> None:
        self._watched = zygote
        zygote.watch(True)
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        self._watch_timer = self._loop.call_later(_UNWATCHED_S, self._watch_on)

    def _watch_on(self) -> None:
        zygote = self._watched
        if zygote is not None and self.busy:
            self._watch_timer = self._loop.call_later(_UNWATCHED_S, self._watch_on)
        elif zygote is not None:
            self._watched = None
            zygote.watch(False)

    # What the supervisor says.

    def load_state_changed(self) -> None:
        """Fork, or tell everybody who waits why there is nothing to wait for."""
        if self.on_load_state is not None:
            self.on_load_state()
        error = self.load_error
        if error is not None and self.demand is not None:
            self.demand.handler_unavailable(error)
        else:
            self.balance()

    def worker_forked(
        self, zygote: Zygote, slot: int, pid: int, descriptors: dict[str, int]
    ) -> None:
        """Connect to a process that was just forked."""
        worker = self.workers.get(slot)
        if (
            worker is None
            or worker.zygote is not zygote
            or worker.pid
            or not descriptors.keys() >= _NEEDED
        ):
            for fd in descriptors.values():
                os.close(fd)
            raise ProtocolViolation(f"worker {slot} was not ordered like that")
        worker.attach(pid, descriptors)
        if self._is_output_paused:
            worker.pause_output()
        if worker.state is WorkerState.DOOMED:
            # It was sent off or killed before it was there.
            zygote.kill_worker(slot)

    def worker_unforked(self, zygote: Zygote, slot: int, reason: str) -> None:
        """Wait a little when the system has no process to spare."""
        worker = self.workers.get(slot)
        if worker is None or worker.zygote is not zygote or worker.pid:
            raise ProtocolViolation(f"worker {slot} was not ordered")
        del self.workers[slot]
        is_trial = worker is self.trial
        self._count_out(worker)
        worker.on(WorkerEvent.EXITED)
        _log.error("%scannot fork a worker: %s", self._whose, reason)
        if is_trial:
            error = WorkerDied(verdict_of_exit(ExitStatus(), 0.0), reason)
            self.supervisor.worker_failed_to_load(zygote, error)
        elif self._fork_timer is None:
            self._fork_timer = self._loop.call_later(
                _UNFORKED_RETRY_S, self._fork_again
            )
        self._dismiss_if_deserted(zygote)

    def _fork_again(self) -> None:
        self._fork_timer = None
        self.balance()

    def worker_exited(
        self,
        zygote: Zygote,
        slot: int,
        status: ExitStatus,
        peak_kb: int,
        excess: Excess,
    ) -> None:
        """Clear up after a worker, and tell its holder how it ended."""
        worker = self.workers.get(slot)
        if worker is not None:
            self._bury(worker, ExitReport(status, peak_kb / 1024, excess))

    def worker_vanished(self, worker: Worker) -> None:
        """Note a death; the zygote's report of it is on its way, or lost."""
        self._expect(worker, _REPORT_S, self._give_up_on)

    def _bury(self, worker: Worker, report: ExitReport) -> None:
        del self.workers[worker.slot]
        worker.due_at = math.inf
        was = worker.state
        is_trial = worker is self.trial
        if was is WorkerState.BUSY:
            # Its answer may still be in the pipe, but it must not be lent again.
            worker.on(WorkerEvent.RETIRE)
        worker.read_last_words()
        self._count_out(worker)
        worker.on(WorkerEvent.EXITED)
        if self.on_exit is not None:
            self.on_exit(worker, report)
        holder, worker.holder = worker.holder, None
        if holder is not None:
            holder.worker_exited(report)
        worker.close()
        if is_trial or self._died_young(worker, was):
            self._blame_the_handler(worker, report)
        self._dismiss_if_deserted(worker.zygote)
        if self._when_empty is not None and not self.workers:
            self._dismiss()
        error = self.load_error
        if error is not None and self.demand is not None:
            # The last one that could have served those who wait.
            self.demand.handler_unavailable(error)
        # Whoever was killed is replaced only now that its memory is free.
        self.balance()

    def zygote_gone(self, zygote: Zygote) -> None:
        """Bury the workers of a zygote that ended: the kernel killed them with it."""
        for worker in list(self.workers.values()):
            if worker.zygote is zygote:
                worker.kill_alone()
                self._bury(worker, ExitReport(ExitStatus(signal=9)))

    def zygote_output(self, data: bytes) -> None:
        """Hand on what the handler prints at import."""
        if self.demand is not None:
            self.demand.stray_output("stdout", data)

    # Output: whoever reads ours too slowly slows down those who write it.

    def pause_output(self) -> None:
        """Read no more of what workers print, for the time being."""
        if not self._is_output_paused:
            self._is_output_paused = True
            for worker in self.workers.values():
                worker.pause_output()

    def resume_output(self) -> None:
        """Go on reading what workers print."""
        if self._is_output_paused:
            self._is_output_paused = False
            for worker in self.workers.values():
                worker.resume_output()

    # What workers say outside of any lease.

    def frame_without_lease(self, worker: Worker, frame: Frame) -> None:
        """Take READY or FAILED; anything else is out of turn."""
        if worker.state is WorkerState.BOOTING and frame.kind == Kind.READY:
            self._count_boot_out(worker)
            worker.on(WorkerEvent.READY)
            if frame.meta:
                self.isolation.learn_from_worker(frame.meta)
            worker.idle_since = self._loop.now()
            # Below the others: those that have worked already have their memory in
            # the caches, and their connections open.
            self._idle.insert(0, worker)
            self.supervisor.worker_loaded(worker.zygote)
            if self.supervisor.imports_in_worker:
                # The first that has loaded says that others are worth forking.
                self.balance()
            if self.demand is not None:
                self.demand.workers_available()
        elif worker.state is WorkerState.BOOTING and frame.kind == Kind.FAILED:
            self._count_out(worker)
            worker.on(WorkerEvent.KILL)
            body = bytes(frame.body)
            if frame.flags & OUTPUT_PENDING:
                # What it stands for has said itself what was wrong.
                worker.read_last_output()
                body = with_last_words(body, worker.boot_output)
            error_type, _, place = frame.meta.decode("utf-8", "replace").partition("\n")
            error = HandlerNotLoaded(error_type, body, place)
            self.supervisor.worker_failed_to_load(worker.zygote, error)
        elif worker.state is not WorkerState.DOOMED:
            violation = ProtocolViolation(f"a frame of kind {frame.kind} out of turn")
            self.violation_without_lease(worker, violation)

    def output_without_lease(self, worker: Worker, stream: str, data: bytes) -> None:
        """Hand on what a worker prints at import or from a thread."""
        if worker.state in (WorkerState.BOOTING, WorkerState.DOOMED):
            worker.boot_output = (worker.boot_output + data)[-_BOOT_OUTPUT_BYTES:]
        if self.demand is not None:
            self.demand.stray_output(stream, data)

    def violation_without_lease(
        self, worker: Worker, violation: ProtocolViolation
    ) -> None:
        """End a worker that speaks when nobody asked it."""
        _log.warning("%s%r: %s; it is replaced", self._whose, worker, violation)
        self.kill(worker)

    def _died_young(self, worker: Worker, was: WorkerState) -> bool:
        """Return whether it ended before it could be of any use.

        One that falls over as soon as it is there would be replaced for ever, as
        fast as the machine forks.
        """
        if self._is_stopping or worker.zygote is not self.supervisor.zygote:
            return False
        age_s = self._loop.now() - worker.born_at
        is_unused = was is _IDLE and not worker.served and age_s < _YOUNG_S
        if not is_unused and was is not WorkerState.BOOTING:
            return False
        # Once or twice, somebody from outside may have killed it.
        self._young_deaths += 1
        is_importing = was is WorkerState.BOOTING and self.supervisor.imports_in_worker
        return is_importing or self._young_deaths >= _MAX_YOUNG_DEATHS

    def _blame_the_handler(self, worker: Worker, report: ExitReport) -> None:
        age_s = self._loop.now() - worker.born_at
        verdict = verdict_of_exit(report.status, age_s, report.peak_memory_mb)
        self.supervisor.worker_failed_to_load(worker.zygote, WorkerDied(verdict))

    def _boot_too_slow(self, worker: Worker, limit_s: float) -> None:
        self.kill(worker)
        verdict = Verdict("timeout", duration_ms=int(limit_s * 1000), timeout_s=limit_s)
        self.supervisor.worker_failed_to_load(worker.zygote, DeadlineExceeded(verdict))
