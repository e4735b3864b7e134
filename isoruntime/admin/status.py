"""The status: what a runtime serves, with which settings, by which workers."""

from __future__ import annotations

from isoruntime import __version__
from isoruntime.pool.states import WorkerState
from isoruntime.settings import DECLARED
from isoruntime.typed import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isoruntime.dispatch.dispatcher import Dispatcher
    from isoruntime.frontend.routes import Health
    from isoruntime.loop import Loop
    from isoruntime.pool.pool import WorkerPool
    from isoruntime.pool.worker import Worker
    from isoruntime.settings import Settings

#: A look into /proc takes some 20 µs a worker, and nobody may wait for long.
_MOST_MEASURED: Final = 100


class ServedFunction(Protocol):
    """What the status tells of one function."""

    name: str
    settings: Settings
    pool: WorkerPool
    dispatcher: Dispatcher

    def health(self) -> Health:
        """Return whether it can be served."""


class Subject(Protocol):
    """Whom the status is about."""

    loop: Loop
    started_at: float

    @property
    def functions(self) -> Sequence[ServedFunction]:
        """What is served."""

    @property
    def settings(self) -> Settings:
        """The settings of the runtime, and of its functions unless they have their own."""

    def health(self) -> Health:
        """Return whether all can be served."""


def status_of(subject: Subject) -> dict[str, Any]:
    """Return everything as plain values."""
    health = subject.health()
    return {
        "version": __version__,
        "status": health.status,
        "reason": health.reason or None,
        "uptimeSeconds": round(subject.loop.now() - subject.started_at, 3),
        "settings": _settings(subject.settings),
        "functions": [_function(one, subject.loop.now()) for one in subject.functions],
    }


def _settings(settings: Settings) -> dict[str, Any]:
    return {
        each.name: {
            "value": _shown(settings, each.name, each.is_secret),
            "source": settings.source(each.name),
        }
        for each in DECLARED
    }


def _shown(settings: Settings, name: str, is_secret: bool) -> Any:
    value = settings.value_of(name)
    if is_secret and value is not None:
        return "***"
    return list(value) if isinstance(value, tuple) else value


def _function(function: ServedFunction, now: float) -> dict[str, Any]:
    pool, dispatcher, settings = function.pool, function.dispatcher, function.settings
    health = function.health()
    workers = list(pool.workers.values())
    return {
        "name": function.name or None,
        "handler": _what_runs(settings),
        "codeDir": settings.code_dir,
        "status": health.status,
        "reason": health.reason or None,
        "reloadError": _reload_error(pool),
        "inFlight": dispatcher.in_flight,
        "waiting": dispatcher.waiting,
        "maxWorkers": settings.max_workers,
        "timeoutSeconds": settings.timeout_s,
        "memoryLimitMB": settings.memory_mb or None,
        "isolation": {
            "sandbox": settings.sandbox,
            "network": settings.network,
            "skipped": pool.isolation.skipped,
        },
        "workers": [
            _worker(worker, now, is_measured=number < _MOST_MEASURED)
            for number, worker in enumerate(workers)
        ],
    }


def _reload_error(pool: WorkerPool) -> str | None:
    """Return why the code that is there now is not the code that serves."""
    error = pool.supervisor.reload_error
    return None if error is None else str(error)


def _what_runs(settings: Settings) -> Any:
    for kind in ("command", "upstream"):
        words = settings.value_of(kind)
        if words:
            return {kind: list(words)}
    if not settings.takes_events:
        return {"http": settings.http}
    return settings.handler


def _worker(worker: Worker, now: float, *, is_measured: bool) -> dict[str, Any]:
    peak_mb = 0.0
    if is_measured and worker.pid and worker.state is not WorkerState.DEAD:
        peak_mb = worker.peak_memory_mb()
    return {
        "number": worker.slot,
        "pid": worker.pid or None,
        "state": worker.state.value,
        "served": worker.served,
        "ageSeconds": round(now - worker.born_at, 3),
        "maxMemoryMB": round(peak_mb, 2) or None,
    }
