"""The supervisor: keeps one zygote that has the handler loaded.

    LOADING --loaded--> READY --died--> LOADING (at once, or after a back-off)
       |
       +--failed, died, too slow--> FAILED --due, or asked for--> LOADING

A failing start never ends the runtime: while FAILED, `error` is what every caller
is told, and the next attempt runs the user's code afresh, so that a repaired
function is served without a restart.

Code that has changed is tried beside the code that serves, by a successor:

    reload --> its zygote loads --> its first worker is ready --> it is the current one
                     |                        |
                     +---- failed, died, too slow ----> dismissed; nothing has changed

There is one successor at most; another reload takes its place. Where nothing serves
(LOADING, or FAILED without workers) there is no code to keep: the supervisor is LOADING
then until the successor is the current one, or FAILED as after a start. A zygote that
was succeeded keeps the workers that are busy, and is dismissed after the last of them.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Mapping, Sequence

from isoruntime.errors import (
    DeadlineExceeded,
    ExitStatus,
    HandlerNotLoaded,
    InvocationError,
    Verdict,
    WorkerDied,
    verdict_of_exit,
)
from isoruntime.loop import Loop, Timer
from isoruntime.pool.backoff import Backoff
from isoruntime.pool.isolation import Isolation
from isoruntime.pool.successor import Successor
from isoruntime.pool.successor import Verdict as ReloadVerdict
from isoruntime.typed import Protocol
from isoruntime.wire.order import LoadOrder
from isoruntime.zygote.client import WorkerListener, Zygote
from isoruntime.zygote.spawn import Spawned, spawn

_log = logging.getLogger("isoruntime.pool")

#: A zygote that was ready is replaced at once, unless so many have died lately.
_MAX_DEATHS = 5
_DEATHS_WITHIN_S = 10.0
#: How long a zygote may take to end its workers' trees, and itself.
_DISMISSAL_S = 2.0
#: What a worker may take to be ready that has nothing to import: milliseconds, unless
#: a hook of the handler's at its fork hangs.
_BOOT_S = 10.0


class LoadState(enum.Enum):
    """How far the handler is."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


class Preload(enum.Enum):
    """Where the handler is imported: `--preload`."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class WorkerKeeper(WorkerListener, Protocol):
    """What the supervisor tells the pool."""

    @property
    def isolation(self) -> Isolation:
        """What of the sandbox is in force."""

    @property
    def has_workers(self) -> bool:
        """Whether anybody can be served, now or when he who is served is done."""

    def load_state_changed(self) -> None:
        """Learn that the handler was loaded, or could not be, or is about to be."""

    def balance(self) -> None:
        """Order as many workers as are wanted."""

    def slots_ahead(self) -> list[int]:
        """Return slots for the workers that are wanted as soon as there is a zygote."""

    def workers_begun(
        self, zygote: Zygote, slots: Sequence[int], limit_s: float
    ) -> None:
        """Learn that a zygote is forking workers for slots that it had from us."""

    def zygote_gone(self, zygote: Zygote) -> None:
        """Learn that a zygote was reaped, and with it the kernel killed its workers."""

    def try_out(self, zygote: Zygote, limit_s: float) -> None:
        """Fork a successor's first worker, and tell whether it loads within the limit."""

    def end_trial(self) -> None:
        """End the successor's first worker: the successor is given up."""

    def succeeded(self, zygote: Zygote) -> None:
        """Let the workers of a zygote go that another one has succeeded."""


class Supervisor:
    """Starts zygotes, judges how the handler loads, and tries again."""

    def __init__(
        self,
        loop: Loop,
        pool: WorkerKeeper,
        order: LoadOrder,
        environment: Mapping[str, str],
        *,
        preload: Preload = Preload.AUTO,
        init_timeout_s: float = 300.0,
        spawned: Spawned | None = None,
        whose: str = "",
    ) -> None:
        """`spawned` is a process that was started already, to be the first zygote.

        What it writes into the log begins with `whose`.
        """
        self._spawned = spawned
        self._whose = whose
        self._loop = loop
        self._pool = pool
        self._preload = preload
        #: what a zygote is told whose code nobody has tried yet
        self._first_order = order._replace(preload=preload is not Preload.NEVER)
        #: what the current one was told
        self._order = self._first_order
        self._environment = environment
        self._init_timeout_s = init_timeout_s
        self._started_at = 0.0
        self._timer: Timer | None = None
        self._backoff = Backoff()
        self._deaths: list[float] = []
        self._is_stopping = False
        self._on_all_gone: Callable[[], object] | None = None
        self.on_zygote_died: Callable[[], object] | None = None
        #: called as a zygote is started that is told the latest plan, with nobody served
        #: by what was planned before
        self.on_start: Callable[[], object] | None = None
        #: all zygotes that have not been reaped
        self._zygotes: list[Zygote] = []
        self._successor: Successor | None = None
        self.zygote: Zygote | None = None
        self.state = LoadState.LOADING
        self.error: InvocationError | None = None
        #: why the code that is there now is not the code that serves
        self.reload_error: InvocationError | None = None

    @property
    def imports_in_worker(self) -> bool:
        """Whether every worker imports the handler for itself."""
        return not self._order.preload

    @property
    def pids(self) -> frozenset[int]:
        """The processes of all zygotes that have not been reaped."""
        return frozenset(zygote.pid for zygote in self._zygotes)

    @property
    def boot_limit_s(self) -> float:
        """Seconds that a worker may take to be ready, import included if it does that."""
        return self._boot_limit_s(self._order)

    def _boot_limit_s(self, order: LoadOrder) -> float:
        return _BOOT_S if order.preload else self._init_timeout_s

    @property
    def is_code_in_doubt(self) -> bool:
        """Whether a worker that imports now might not load, unlike those there are."""
        return self._successor is not None or self.reload_error is not None

    def start(self) -> None:
        """Start a zygote and have it load the handler."""
        self._disarm()
        first = self._first_order
        if self._order._replace(preload=first.preload) != first:
            # What was planned since the last one was started.
            self._order = first
        self.state = LoadState.LOADING
        self._loop.tickers.add(self)
        self._started_at = self._loop.now()
        if self.on_start is not None:
            self.on_start()
        try:
            self.zygote = self._spawn(self._order, self._pool.slots_ahead())
        except OSError as error:
            self._fail(self._unstartable(error))
            return
        self._timer = self._loop.call_later(self._init_timeout_s, self._too_slow)

    def _spawn(self, order: LoadOrder, ahead: Sequence[int] = ()) -> Zygote:
        spawned, self._spawned = self._spawned, None
        if spawned is None:
            spawned = spawn(self._environment)
        zygote = Zygote(self._loop, self, self._pool, order, spawned, ahead)
        self._zygotes.append(zygote)
        return zygote

    def retry(self) -> bool:
        """Try to load again if the last attempt is not too recent.

        Return whether an attempt is under way, whose result is worth waiting for.
        """
        if self.state is LoadState.FAILED and self._backoff.may_try(self._loop.now()):
            self._restart()
        return self.state is LoadState.LOADING

    def stop(self, on_gone: Callable[[], object]) -> None:
        """Dismiss the zygote with its workers; call `on_gone` when it is reaped."""
        self._is_stopping = True
        self._disarm()
        self._on_all_gone = on_gone
        self.end_reload()
        for zygote in self._zygotes:
            _let_go(zygote)
        self._loop.call_later(_DISMISSAL_S, self.kill)
        self._check_all_gone()

    def kill(self) -> None:
        """End whatever zygote is left, at once."""
        for zygote in self._zygotes:
            zygote.kill()

    # What the zygote says.

    def zygote_loaded(
        self,
        zygote: Zygote,
        threads: int,
        seconds: float,
        skipped: dict[str, str],
        begun: Sequence[int],
    ) -> None:
        """Take a zygote into service, or start another one that does not preload."""
        if begun:
            # Whatever has become of it meanwhile: they are there, or will be.
            self._pool.workers_begun(zygote, begun, self.boot_limit_s)
        if self._is_stopping:
            return
        if self._is_successor(zygote):
            self._successor_loaded(threads, skipped)
            return
        if zygote is not self.zygote:
            return
        if self._must_not_preload(threads, self._order):
            self._order = self._order._replace(preload=False)
            zygote.dismiss()
            self.start()
            return
        self._disarm()
        self.reload_error = None
        if self._order.preload:
            _log.debug(
                "%sthe handler was imported in %.0f ms", self._whose, seconds * 1000
            )
        self.state, self.error = LoadState.READY, None
        # First, since the zygote forks them while we write what there is to say.
        self._pool.balance()
        self._pool.isolation.learn(skipped)
        self._pool.load_state_changed()

    def _must_not_preload(self, threads: int, order: LoadOrder) -> bool:
        if threads <= 1 or self._preload is not Preload.AUTO or not order.preload:
            return False
        _log.info(
            "%simporting the handler leaves %d threads behind, which no fork copies;"
            " every worker imports it for itself (--preload never)",
            self._whose,
            threads - 1,
        )
        return True

    def zygote_failed(
        self, zygote: Zygote, error_type: str, body: bytes, place: str
    ) -> None:
        """Take note that the handler does not load."""
        error = HandlerNotLoaded(error_type, body, place)
        if self._is_successor(zygote):
            self._give_successor_up(error)
        elif zygote is self.zygote:
            self._fail(error)

    def zygote_died(self, zygote: Zygote, status: ExitStatus) -> None:
        """Replace a zygote that ended, unless it was told to."""
        self._zygotes.remove(zygote)
        was_current = zygote is self.zygote
        if was_current:
            self.zygote = None
        if self._successor is not None and self._is_successor(zygote):
            lived_s = self._loop.now() - self._successor.began_at
            self._give_successor_up(WorkerDied(verdict_of_exit(status, lived_s)))
        self._pool.zygote_gone(zygote)
        if self.on_zygote_died is not None:
            self.on_zygote_died()
        if self._is_stopping:
            self._check_all_gone()
            return
        if not was_current:
            return
        lived_s = self._loop.now() - self._started_at
        if self.state is LoadState.LOADING:
            self._fail(WorkerDied(verdict_of_exit(status, lived_s)))
        elif self.state is LoadState.READY:
            self._replace(status, lived_s)

    def _replace(self, status: ExitStatus, lived_s: float) -> None:
        """Start another zygote for one that was ready: at once, if not too often."""
        _log.warning(
            "%sthe zygote ended (%s); starting another one", self._whose, status
        )
        now = self._loop.now()
        self._deaths = [at for at in self._deaths if now - at < _DEATHS_WITHIN_S]
        self._deaths.append(now)
        if len(self._deaths) > _MAX_DEATHS:
            self._fail(WorkerDied(verdict_of_exit(status, lived_s)))
            return
        self.start()
        self._pool.load_state_changed()

    # What a worker's own import came to, where workers import.

    def worker_loaded(self, zygote: Zygote) -> None:
        """Take note that a worker is ready, and so that the handler loads in it."""
        if self._is_successor(zygote):
            self._succeed()
        elif zygote is self.zygote and self.imports_in_worker:
            self.reload_error = None
            if self.state is LoadState.FAILED:
                self._disarm()
                self.state, self.error = LoadState.READY, None
                self._pool.load_state_changed()

    def worker_served(self) -> None:
        """Take note that the handler works: not just loads, but answers."""
        if self._backoff.failures:
            self._backoff.succeed()

    def worker_failed_to_load(self, zygote: Zygote, error: InvocationError) -> None:
        """Take note that the handler does not load in a worker."""
        if self._is_successor(zygote):
            self._give_successor_up(error)
        elif zygote is self.zygote and self.state is not LoadState.FAILED:
            self._fail(error)

    # Newer code, beside what serves.

    def replan(
        self,
        order: LoadOrder,
        environment: Mapping[str, str],
        preload: Preload,
        init_timeout_s: float,
    ) -> None:
        """Have every zygote that is started from now on told this."""
        self._preload = preload
        self._first_order = order._replace(preload=preload is not Preload.NEVER)
        self._environment = environment
        self._init_timeout_s = init_timeout_s

    def reload(self, on_end: ReloadVerdict) -> None:
        """Have the code that is there now take over, once a worker of it is ready.

        If that fails, whatever serves goes on. `on_end` learns of either, but not if
        another reload or the end of the runtime comes first.
        """
        if self._is_stopping:
            return
        self.end_reload()
        if self.state is not LoadState.READY and not self._pool.has_workers:
            # Nobody is served by what there is; who waits, waits for the newer code.
            self._disarm()
            zygote, self.zygote = self.zygote, None
            if zygote is not None:
                self._pool.succeeded(zygote)
            self.state = LoadState.LOADING
        self._try(self._first_order, self._loop.now(), on_end)

    def _try(self, order: LoadOrder, began_at: float, on_end: ReloadVerdict) -> None:
        try:
            zygote = self._spawn(order)
        except OSError as error:
            self._report_failure(self._unstartable(error), on_end)
            return
        self._successor = Successor(self._loop, zygote, order, began_at, on_end)
        self._successor.limit(self._init_timeout_s, self._successor_too_slow)

    def _unstartable(self, error: OSError) -> InvocationError:
        _log.error("%scannot start a zygote: %s", self._whose, error)
        return WorkerDied(verdict_of_exit(ExitStatus(), 0.0))

    def _is_successor(self, zygote: Zygote) -> bool:
        return self._successor is not None and self._successor.zygote is zygote

    def _successor_loaded(self, threads: int, skipped: dict[str, str]) -> None:
        successor = self._successor
        assert successor is not None
        if successor.is_on_trial:
            # Code of the user's has run in there; once is enough to be told.
            return
        successor.disarm()
        order = successor.order
        if self._must_not_preload(threads, order):
            self.end_reload()
            without = order._replace(preload=False)
            self._try(without, successor.began_at, successor.on_end)
            return
        successor.is_on_trial = True
        self._pool.isolation.learn(skipped)
        self._pool.try_out(successor.zygote, self._boot_limit_s(order))

    def _succeed(self) -> None:
        successor, self._successor = self._successor, None
        assert successor is not None
        former, self.zygote = self.zygote, successor.zygote
        self._order = successor.order
        self._started_at = successor.began_at
        self._backoff, self._deaths = Backoff(), []
        self._disarm()
        self.state, self.error, self.reload_error = LoadState.READY, None, None
        if former is not None:
            self._pool.succeeded(former)
        successor.on_end(None)
        self._pool.load_state_changed()

    def _successor_too_slow(self) -> None:
        self._give_successor_up(_too_late(self._init_timeout_s))

    def _give_successor_up(self, error: InvocationError) -> None:
        successor = self._successor
        assert successor is not None
        self.end_reload()
        self._report_failure(error, successor.on_end)

    def _report_failure(self, error: InvocationError, on_end: ReloadVerdict) -> None:
        self.reload_error = error
        if self.zygote is None and self.state is LoadState.LOADING:
            self._fail(error)
        on_end(error)

    def end_reload(self) -> None:
        """Give up whatever is tried; nobody is told."""
        successor, self._successor = self._successor, None
        if successor is not None:
            successor.disarm()
            self._pool.end_trial()
            _let_go(successor.zygote)

    def dismiss(self, zygote: Zygote) -> None:
        """End a zygote that was succeeded and has no workers any more."""
        if zygote is not self.zygote and not self._is_successor(zygote):
            _let_go(zygote)

    def _fail(self, error: InvocationError) -> None:
        self._disarm()
        self.state, self.error = LoadState.FAILED, error
        delay_s = self._backoff.fail(self._loop.now())
        _log.error(
            "%s%s; trying again in %g s, or when it is called",
            self._whose,
            error,
            delay_s,
        )
        self._timer = self._loop.call_later(delay_s, self._restart)
        self._pool.load_state_changed()

    def _restart(self) -> None:
        # A zygote that does not import is as good as new: only its workers failed. One
        # that does import is replaced, unless workers of it are of use.
        if self.zygote is not None and (
            not self._order.preload or self._pool.has_workers
        ):
            self._disarm()
            self.state = LoadState.READY
        else:
            if self.zygote is not None:
                self.zygote.dismiss()
            self.start()
        self._pool.load_state_changed()

    def _too_slow(self) -> None:
        zygote, self.zygote = self.zygote, None
        if zygote is not None:
            zygote.kill()
        self._fail(_too_late(self._init_timeout_s))

    def _disarm(self) -> None:
        self._loop.tickers.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_all_gone(self) -> None:
        if not self._zygotes and self._on_all_gone is not None:
            self._loop.call_soon(self._on_all_gone)
            self._on_all_gone = None


def _let_go(zygote: Zygote) -> None:
    """End a zygote with its workers, in the gentlest way that it can hear of."""
    if zygote.has_loaded:
        zygote.dismiss()
    else:
        # It is busy importing, for ever perhaps.
        zygote.kill()


def _too_late(limit_s: float) -> InvocationError:
    verdict = Verdict("timeout", duration_ms=int(limit_s * 1000), timeout_s=limit_s)
    return DeadlineExceeded(verdict)
