"""The supervisor: keeps one zygote that has the handler loaded.

    LOADING --loaded--> READY --died--> LOADING (at once, or after a back-off)
       |
       +--failed, died, too slow--> FAILED --due, or asked for--> LOADING

A failing start never ends the runtime: while FAILED, `error` is what every caller
is told, and the next attempt runs the user's code afresh, so that a repaired
function is served without a restart.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

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
from isoruntime.wire.order import LoadOrder
from isoruntime.zygote.client import WorkerListener, Zygote
from isoruntime.zygote.spawn import Spawned, spawn

_log = logging.getLogger("isoruntime.pool")

#: A zygote that was ready is replaced at once, unless so many have died lately.
_MAX_DEATHS = 5
_DEATHS_WITHIN_S = 10.0
#: How long a zygote may take to end its workers' trees, and itself.
_DISMISSAL_S = 2.0


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

    def zygote_gone(self, zygote: Zygote) -> None:
        """Learn that a zygote was reaped, and with it the kernel killed its workers."""


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
    ) -> None:
        """`spawned` is a process that was started already, to be the first zygote."""
        self._spawned = spawned
        self._loop = loop
        self._pool = pool
        self._preload = preload
        self._order = order._replace(preload=preload is not Preload.NEVER)
        self._environment = environment
        self._init_timeout_s = init_timeout_s
        self._started_at = 0.0
        self._timer: Timer | None = None
        self._backoff = Backoff()
        self._deaths: list[float] = []
        self._is_stopping = False
        self._on_all_gone: Callable[[], object] | None = None
        self.on_zygote_died: Callable[[], object] | None = None
        #: all zygotes that have not been reaped, the current one last
        self._zygotes: list[Zygote] = []
        self.zygote: Zygote | None = None
        self.state = LoadState.LOADING
        self.error: InvocationError | None = None

    @property
    def imports_in_worker(self) -> bool:
        """Whether every worker imports the handler for itself."""
        return not self._order.preload

    @property
    def pids(self) -> frozenset[int]:
        """The processes of all zygotes that have not been reaped."""
        return frozenset(zygote.pid for zygote in self._zygotes)

    @property
    def init_timeout_s(self) -> float:
        """Seconds that an import may take."""
        return self._init_timeout_s

    def start(self) -> None:
        """Start a zygote and have it load the handler."""
        self._disarm()
        self.state = LoadState.LOADING
        self._loop.tickers.add(self)
        self._started_at = self._loop.now()
        try:
            spawned, self._spawned = self._spawned, None
            if spawned is None:
                spawned = spawn(self._environment)
            self.zygote = Zygote(self._loop, self, self._pool, self._order, spawned)
        except OSError as error:
            _log.error("cannot start a zygote: %s", error)
            self._fail(WorkerDied(verdict_of_exit(ExitStatus(), 0.0)))
            return
        self._zygotes.append(self.zygote)
        self._timer = self._loop.call_later(self._init_timeout_s, self._too_slow)

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
        for zygote in self._zygotes:
            if self.state is LoadState.LOADING and zygote is self.zygote:
                # It is busy importing and would not hear of it.
                zygote.kill()
            else:
                zygote.dismiss()
        self._loop.call_later(_DISMISSAL_S, self.kill)
        self._check_all_gone()

    def kill(self) -> None:
        """End whatever zygote is left, at once."""
        for zygote in self._zygotes:
            zygote.kill()

    # What the zygote says.

    def zygote_loaded(
        self, zygote: Zygote, threads: int, seconds: float, skipped: dict[str, str]
    ) -> None:
        """Take a zygote into service, or start another one that does not preload."""
        if zygote is not self.zygote or self._is_stopping:
            return
        if threads > 1 and self._preload is Preload.AUTO and self._order.preload:
            _log.info(
                "importing the handler leaves %d threads behind, which no fork copies;"
                " every worker imports it for itself (--preload never)",
                threads - 1,
            )
            self._order = self._order._replace(preload=False)
            zygote.dismiss()
            self.start()
            return
        self._disarm()
        if self._order.preload:
            _log.debug("the handler was imported in %.0f ms", seconds * 1000)
        self.state, self.error = LoadState.READY, None
        self._pool.isolation.learn(skipped)
        self._pool.load_state_changed()

    def zygote_failed(self, zygote: Zygote, error_type: str, body: bytes) -> None:
        """Take note that the handler does not load."""
        if zygote is self.zygote:
            self._fail(HandlerNotLoaded(error_type, body))

    def zygote_died(self, zygote: Zygote, status: ExitStatus) -> None:
        """Replace a zygote that ended, unless it was told to."""
        self._zygotes.remove(zygote)
        was_current = zygote is self.zygote
        if was_current:
            self.zygote = None
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
        _log.warning("the zygote ended (%s); starting another one", status)
        now = self._loop.now()
        self._deaths = [at for at in self._deaths if now - at < _DEATHS_WITHIN_S]
        self._deaths.append(now)
        if len(self._deaths) > _MAX_DEATHS:
            self._fail(WorkerDied(verdict_of_exit(status, lived_s)))
            return
        self.start()
        self._pool.load_state_changed()

    # What a worker's own import came to, where workers import.

    def worker_loaded(self) -> None:
        """Take note that the handler loads in a worker."""
        if self.state is LoadState.FAILED:
            self._disarm()
            self.state, self.error = LoadState.READY, None
            self._pool.load_state_changed()

    def worker_served(self) -> None:
        """Take note that the handler works: not just loads, but answers."""
        if self._backoff.failures:
            self._backoff.succeed()

    def worker_failed_to_load(self, error: InvocationError) -> None:
        """Take note that the handler does not load in a worker."""
        if self.state is not LoadState.FAILED:
            self._fail(error)

    def _fail(self, error: InvocationError) -> None:
        self._disarm()
        self.state, self.error = LoadState.FAILED, error
        delay_s = self._backoff.fail(self._loop.now())
        _log.error("%s; trying again in %g s, or when it is called", error, delay_s)
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
        limit = self._init_timeout_s
        verdict = Verdict("timeout", duration_ms=int(limit * 1000), timeout_s=limit)
        self._fail(DeadlineExceeded(verdict))

    def _disarm(self) -> None:
        self._loop.tickers.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_all_gone(self) -> None:
        if not self._zygotes and self._on_all_gone is not None:
            self._loop.call_soon(self._on_all_gone)
            self._on_all_gone = None
