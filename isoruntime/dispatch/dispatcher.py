"""The dispatcher: admits invocations, finds workers for them, minds their deadlines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from isoruntime.contract.answer import answer_of
from isoruntime.contract.http import Response
from isoruntime.dispatch.invocation import Invocation, Outcome, Phase, is_failure
from isoruntime.dispatch.lease import Lease, LeaseState
from isoruntime.errors import (
    Draining,
    InvocationError,
    NoWorkerAvailable,
    RuntimeFault,
)
from isoruntime.loop import Alarm
from isoruntime.typed import TYPE_CHECKING, Any, Final
from isoruntime.wire.frames import NONCE_BYTES

if TYPE_CHECKING:
    from isoruntime.contract.answer import Details
    from isoruntime.loop import Loop, Timer
    from isoruntime.observe.journal import Journal, Output
    from isoruntime.pool.pool import WorkerPool

_WITH_DEADLINE: Final = frozenset(
    {LeaseState.RUNNING, LeaseState.INITIALIZING, LeaseState.STREAMING}
)
#: They concern every process that holds something.
_OF_ALL: Final = frozenset({Phase.PRE_STOP, Phase.PRE_FREEZE})
# As in `lease`: for what every invocation asks.
_INVOKE: Final = Phase.INVOKE
_INITIALIZE: Final = Phase.INITIALIZE
#: Drawn at once: a system call for every invocation would cost more than the draw.
_NONCES_PER_DRAW: Final = 256
#: How often to look whether waiting counts yet, with a queue timeout of next to nothing.
_WARMING_LOOK_S: Final = 0.05


class Limits:
    """What invocations may take, in time, number and size."""

    __slots__ = (
        "init_timeout_s",
        "max_response_bytes",
        "memory_mb",
        "queue",
        "queue_timeout_s",
        "timeout_s",
    )

    def __init__(
        self,
        timeout_s: float = 60.0,
        init_timeout_s: float = 300.0,
        queue: int = 100,
        queue_timeout_s: float = 5.0,
        max_response_bytes: int = 32 << 20,
        memory_mb: int = 0,
    ) -> None:
        self.timeout_s = timeout_s
        self.init_timeout_s = init_timeout_s
        self.queue = queue
        self.queue_timeout_s = queue_timeout_s
        self.max_response_bytes = max_response_bytes
        self.memory_mb = memory_mb


class Dispatcher:
    """Turns invocations into outcomes, and never answers inside `submit`."""

    def __init__(
        self,
        loop: Loop,
        pool: WorkerPool,
        journal: Journal,
        limits: Limits,
        random: Callable[[int], bytes],
        *,
        phases: frozenset[Phase] = frozenset({Phase.INVOKE}),
        is_server: bool = False,
        error_details: Details = "summary",
        leftovers: str = "kill",
    ) -> None:
        """`phases` are those the function has code for; `random` draws nonces.

        `is_server`: it may have code for all of them, and only says so when it is asked.
        """
        self._loop = loop
        self.pool = pool
        self.journal = journal
        self._random = random
        self._error_details = error_details
        self._is_server = is_server
        self.has_initializer = False
        self.adopt(limits, phases, leftovers)
        #: what a server that speaks HTTP is sent to initialize it
        self.initialize_request: bytes | None = None
        self.now = loop.now
        self.call_later = loop.call_later
        self.is_draining = False
        self._has_given_up = False
        self._is_initialized = False
        self._queue: deque[Invocation] = deque()
        self._in_flight: set[Lease] = set()
        #: looks at all deadlines when this one is due, at the latest
        self.watch_deadline = Alarm(loop, self._look_at_deadlines).set
        self._queue_timer: Timer | None = None
        # While nothing can be served yet, nobody's wait counts.
        self._waits_count_from = 0.0
        self._nonces: list[bytes] = []
        self._stray: Output | None = None
        self.on_quiet: Callable[[], object] | None = None
        pool.demand = self

    def adopt(self, limits: Limits, phases: frozenset[Phase], leftovers: str) -> None:
        """Apply these to every invocation that begins from now on."""
        self._limits = limits
        self._phases = phases
        self.leftovers = leftovers
        self.timeout_s = limits.timeout_s
        self.init_timeout_s = limits.init_timeout_s
        self.max_response_bytes = limits.max_response_bytes
        self.memory_limit_mb = limits.memory_mb
        if not self._is_server:
            self.has_initializer = Phase.INITIALIZE in phases

    # Admission.

    @property
    def waiting(self) -> int:
        """How many invocations wait for a worker."""
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        """How many invocations have a worker."""
        return len(self._in_flight)

    def submit(self, invocation: Invocation) -> None:
        """Run it as soon as a worker is free; `invocation.done` gets the outcome."""
        if self.is_draining:
            self._refuse(invocation, Draining())
            return
        phase = invocation.phase
        if phase is not _INVOKE and self._is_settled(phase):
            self._refuse(invocation, b"")
            return
        if self.pool.load_error is not None and not self.pool.retry_load():
            self._fail_to_load(invocation, self.pool.load_error)
            return
        if phase in _OF_ALL:
            self._run_in_all(invocation)
        else:
            self._lend_or_enqueue(invocation)

    def _lend_or_enqueue(self, invocation: Invocation) -> None:
        worker = None if self._queue else self.pool.take()
        if worker is not None:
            self._lend(invocation, worker)
        else:
            self._enqueue(invocation)

    def _is_settled(self, phase: Phase) -> bool:
        if phase is _INITIALIZE and self._is_initialized:
            return True
        return phase not in self._phases

    def _refuse(self, invocation: Invocation, outcome: Outcome) -> None:
        if invocation.started is not None and isinstance(outcome, InvocationError):
            # A worker had it and died before taking it: the log waits for the end.
            self._log_failure(invocation, outcome)
        self._loop.call_soon(lambda: invocation.done(outcome))

    def _fail_to_load(self, invocation: Invocation, error: InvocationError) -> None:
        self._log_failure(invocation, error)
        self._loop.call_soon(lambda: invocation.done(error))

    def _log_failure(self, invocation: Invocation, error: InvocationError) -> None:
        """Write whatever lines an invocation still lacks that no worker will end."""
        phase, request_id = invocation.phase, invocation.request_id
        started = invocation.started
        if started is not phase:
            if started is not None:
                self.journal.end(started.word, request_id, failed=True)
            self.journal.start(phase.word, request_id)
        self.journal.error(request_id, self.error_body(error))
        self.journal.end(phase.word, request_id, failed=True)

    def _lend(self, invocation: Invocation, worker: Any) -> None:
        lease = Lease(self, invocation, worker)
        self._in_flight.add(lease)
        self._loop.tickers.add(self)
        lease.begin()

    def _enqueue(self, invocation: Invocation) -> None:
        # Whoever has a worker under way for him does not take up the queue.
        places = max(0, self.pool.size.max_workers - self.pool.busy)
        queue = self._limits.queue
        if len(self._queue) - places >= queue:
            message = (
                f"All {self.pool.size.max_workers} workers are busy and {queue} "
                "invocations wait already (see --max-workers and --queue)"
            )
            self._refuse(invocation, NoWorkerAvailable(message))
            return
        invocation.queued_at = self.now()
        self._queue.append(invocation)
        self._watch_queue()
        self.pool.balance()

    def workers_available(self) -> None:
        """Give free workers to those who wait, the longest first."""
        while self._queue:
            if self._queue[0].is_retry:
                # What ended one worker may have ended others, also one that has said
                # it was ready before it died; and there is no third try.
                self.pool.drop_dead()
            worker = self.pool.take()
            if worker is None:
                break
            self._lend(self._queue.popleft(), worker)
        self._watch_queue()

    def _watch_queue(self) -> None:
        if self._queue_timer is not None or not self._queue:
            return
        if self.pool.is_warming:
            self._waits_count_from = self.now()
        since = max(self._queue[0].queued_at, self._waits_count_from)
        delay_s = since + self._limits.queue_timeout_s - self.now()
        self._queue_timer = self._loop.call_later(
            max(0.0, delay_s), self._look_at_queue
        )

    def _look_at_queue(self) -> None:
        self._queue_timer = None
        now, limit_s = self.now(), self._limits.queue_timeout_s
        if self.pool.is_warming:
            self._waits_count_from = now
            delay_s = max(limit_s, _WARMING_LOOK_S)
            self._queue_timer = self._loop.call_later(delay_s, self._look_at_queue)
            return
        while self._queue:
            first = self._queue[0]
            if now - max(first.queued_at, self._waits_count_from) < limit_s:
                break
            self._queue.popleft()
            message = (
                f"No worker came free within {limit_s:g} seconds "
                "(see --max-workers and --queue-timeout)"
            )
            self._refuse(first, NoWorkerAvailable(message))
        self._watch_queue()
        self._check_quiet()

    def handler_unavailable(self, error: InvocationError) -> None:
        """Tell everybody who waits that the handler does not load."""
        while self._queue:
            self._fail_to_load(self._queue.popleft(), error)
        self._check_quiet()

    def abandon(self, invocation: Invocation) -> None:
        """Note that nobody waits for it any more.

        If it has not begun it never does; a handler that runs is let finish, since
        half of its effects are worse than all of them.
        """
        if invocation in self._queue:
            self._queue.remove(invocation)
            self._check_quiet()
            self._refuse(invocation, NoWorkerAvailable("The caller went away"))
        elif invocation.stream is not None:
            # What is sent piece by piece may have no end.
            for lease in self._in_flight:
                if lease.invocation is invocation:
                    lease.abandon()

    def stream_relieved(self, invocation: Invocation) -> None:
        """Go on with an answer in pieces whose reader has caught up."""
        for lease in self._in_flight:
            if lease.invocation is invocation:
                lease.stream_relieved()

    # Hooks.

    def _run_in_all(self, invocation: Invocation) -> None:
        used = [worker for worker in self.pool.idle if worker.served]
        if not used:
            self._lend_or_enqueue(invocation)
            return
        outcomes: list[Outcome] = []

        def one_is_done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            if len(outcomes) == len(used):
                failed = [one for one in outcomes if is_failure(one)]
                answered = outcome if isinstance(outcome, Response) else b""
                invocation.done(failed[0] if failed else answered)

        for worker in used:
            part = Invocation(
                invocation.phase,
                invocation.request_id,
                invocation.context,
                b"",
                one_is_done,
                invocation.arrived_at,
                invocation.platform_timeout_s,
                invocation.request,
            )
            self.pool.take(worker)
            self._lend(part, worker)

    # Leases.

    def next_nonce(self) -> bytes:
        """Return bytes that no worker can have seen."""
        if not self._nonces:
            drawn = self._random(NONCE_BYTES * _NONCES_PER_DRAW)
            self._nonces = [
                drawn[at : at + NONCE_BYTES] for at in range(0, len(drawn), NONCE_BYTES)
            ]
        return self._nonces.pop()

    def initializer_ran(self, request: bytes | None) -> None:
        """Have every worker initialized before its first invocation, from now on.

        Whether a server has something to initialize shows when the platform asks for it.
        """
        if request is not None:
            self.has_initializer = True
            self.initialize_request = request

    def lease_ended(self, lease: Lease) -> None:
        """Take note of an outcome, just before the caller does."""
        if lease.invocation.phase is _INITIALIZE and lease.worker.is_initialized:
            self._is_initialized = True
        self._in_flight.discard(lease)
        if not self._in_flight:
            self._loop.tickers.discard(self)
            self._check_quiet()

    def try_again(self, lease: Lease) -> None:
        """Give an invocation to another worker, once, before all others."""
        invocation = lease.invocation
        if self._has_given_up:
            self._refuse(invocation, Draining())
            self.lease_ended(lease)
            return
        invocation.is_retry = True
        invocation.queued_at = self.now()
        self._queue.appendleft(invocation)
        # Not before it waits again: between the two all would seem to be done.
        self.lease_ended(lease)
        self._watch_queue()
        self._loop.call_soon(self.workers_available)

    def error_body(self, error: InvocationError | RuntimeFault) -> bytes:
        """Return an error as the caller is going to see it, for the log."""
        return bytes(answer_of(error, "fc", self._error_details).body)

    def stray_output(self, stream: str, data: bytes) -> None:
        """Log what user code prints outside of any invocation."""
        if self._stray is None:
            self._stray = self.journal.open(None)
        self._stray.feed(stream, data)

    # Deadlines.

    def _look_at_deadlines(self) -> None:
        now = self.now()
        due = [lease for lease in self._in_flight if lease.deadline <= now]
        for lease in due:
            if lease.state in _WITH_DEADLINE:
                lease.deadline_passed()
        pending = [
            lease.deadline for lease in self._in_flight if lease.state in _WITH_DEADLINE
        ]
        if pending:
            self.watch_deadline(min(pending))

    # The end.

    def drain(self, on_quiet: Callable[[], object]) -> None:
        """Take nothing new; call `on_quiet` when nothing waits or runs."""
        self.is_draining = True
        self.on_quiet = on_quiet
        self._check_quiet()

    def _check_quiet(self) -> None:
        if self.on_quiet is not None and not self._queue and not self._in_flight:
            on_quiet, self.on_quiet = self.on_quiet, None
            self._loop.call_soon(on_quiet)

    def give_up(self) -> None:
        """Refuse what waits and end what runs; the drain took too long."""
        self._has_given_up = True
        while self._queue:
            self._refuse(self._queue.popleft(), Draining())
        for lease in tuple(self._in_flight):
            self.pool.kill(lease.worker)
        self._check_quiet()
