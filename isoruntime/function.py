"""A function: what is run, by which workers, with which limits, and what it says.

Everything that belongs to one function and to no other; the runtime has the loop, the
log and the signals, and one function or several.
"""

from __future__ import annotations

import logging
import os

from isoruntime.dispatch.dispatcher import Dispatcher, Limits
from isoruntime.dispatch.invocation import Phase
from isoruntime.environment import environment_for_workers
from isoruntime.observe.journal import Journal
from isoruntime.pool.pool import PoolSize, WorkerPool
from isoruntime.pool.supervisor import Preload
from isoruntime.typed import TYPE_CHECKING, Final, NamedTuple, cast
from isoruntime.wire.order import LoadOrder
from isoruntime.zygote.folders import make_base, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from isoruntime.contract.answer import Details, Mode
    from isoruntime.errors import InvocationError
    from isoruntime.frontend.gateway.functions import Reachable
    from isoruntime.frontend.routes import Health, Routes
    from isoruntime.loop import Loop
    from isoruntime.observe.journal import Format, Sink
    from isoruntime.settings import Settings
    from isoruntime.zygote.spawn import Spawned

#: Lets a handler that names it have the STS triple of its invocation in `os.environ`.
_CREDENTIALS: Final = "ALIBABA_CLOUD_CREDENTIALS"

_log = logging.getLogger("isoruntime")


class Described(NamedTuple):
    """A function as somebody asks for it to be served."""

    settings: Settings
    #: what it is called; empty where that does not matter
    name: str = ""
    #: variables of its own, which it gets whatever they look like
    variables: Mapping[str, str] = {}
    region: str = ""
    account_id: str = ""
    #: how often a failed asynchronous invocation is tried again, and for how long
    max_retries: int = 3
    max_age_s: float = 24 * 3600.0


class Function:
    """The parts that serve one function."""

    def __init__(
        self,
        described: Described,
        environ: Mapping[str, str],
        loop: Loop,
        sink: Sink,
        format_: Format,
        *,
        spawned: Spawned | None = None,
        debug_port: int = 0,
        is_alone: bool = True,
    ) -> None:
        """Put them together; `spawned` is a process that is to be the first zygote."""
        self.name = described.name
        #: how lines of the log begin that are about it; empty where that is clear
        self.whose = "" if is_alone else f"{described.name}: "
        self.described = self.wanted = described
        self.settings = settings = described.settings
        self._environ = environ
        self._debug_port = debug_port
        self._temp_base = _make_temp_base(environ, settings.sandbox)
        self.environment, self.withheld = _environment(described, environ)
        self._facts = _facts(described)
        self.pool = WorkerPool(
            loop,
            _size(settings),
            self._order(described, self.environment),
            self.environment,
            preload=_preload(settings),
            init_timeout_s=settings.init_timeout_s,
            spawned=spawned,
            whose=self.whose,
        )
        self.dispatcher = Dispatcher(
            loop,
            self.pool,
            Journal(sink, format_),
            _limits(settings),
            os.urandom,
            phases=_phases(settings),
            is_server=bool(settings.upstream),
            error_details=cast("Details", settings.error_details),
            leftovers=settings.leftovers,
        )
        self.pool.supervisor.on_start = self._catch_up

    def _order(self, described: Described, environment: dict[str, str]) -> LoadOrder:
        order = _load_order(
            described.settings,
            self._environ,
            environment,
            self._temp_base,
            described.variables,
        )
        return order._replace(debug_port=self._debug_port)

    def reload(
        self,
        wanted: Described | None,
        on_end: Callable[[InvocationError | None], object],
    ) -> None:
        """Have the code that is there now take over as soon as it has loaded.

        With `wanted`, also what is asked for now. `on_end` is told why that cannot be,
        or None, unless another reload comes first.
        """
        if wanted is not None:
            self.wanted = wanted
            environment, _ = _environment(wanted, self._environ)
            self.pool.supervisor.replan(
                self._order(wanted, environment),
                environment,
                _preload(wanted.settings),
                wanted.settings.init_timeout_s,
            )
        if not self.pool.has_workers:
            # Nothing serves that was promised something else.
            self._adopt()

        def end(error: InvocationError | None) -> None:
            if error is None:
                self._adopt()
            on_end(error)

        self.pool.supervisor.reload(end)

    def _catch_up(self) -> None:
        """Apply what is asked for where a reload for it had failed."""
        if self.described is not self.wanted:
            self._adopt()

    def _adopt(self) -> None:
        """Apply what is asked for to all that does not belong to workers."""
        described = self.described = self.wanted
        settings = self.settings = described.settings
        self.environment, self.withheld = _environment(described, self._environ)
        self.pool.size = _size(settings)
        self.dispatcher.adopt(_limits(settings), _phases(settings), settings.leftovers)
        self._facts.clear()
        self._facts.update(_facts(described))

    def routes(self, health: Callable[[], Health]) -> Routes:
        """Return what answers requests to this function alone."""
        # Here rather than at the top: it imports waitress.
        from isoruntime.frontend.routes import Routes, Speaks

        settings = self.settings
        return Routes(
            self.dispatcher,
            health,
            max_event_bytes=settings.max_event_bytes,
            error_mode=cast("Mode", settings.errors),
            error_details=cast("Details", settings.error_details),
            speaks=Speaks(
                events=settings.takes_events,
                http_by_platform=not settings.command,
                http_by_path=bool(settings.http or settings.upstream),
                only_http=bool(settings.upstream),
            ),
        )

    def reachable(self) -> Reachable:
        """Return what the gateway knows of it."""
        from isoruntime.frontend.gateway.functions import Reachable

        described, settings = self.described, self.settings
        return Reachable(
            self.name,
            self.dispatcher,
            self._facts,
            settings.max_event_bytes,
            bool(settings.upstream),
            described.max_retries,
            described.max_age_s,
        )

    def health(self) -> Health:
        """Return whether it can be served."""
        from isoruntime.frontend.routes import Health, load_failure

        whose = f"{self.name}: " if self.name else ""
        if self.dispatcher.is_draining:
            return Health(False, "draining", "The runtime is shutting down")
        # Also while it is tried again: it is not well until that has worked.
        error = self.pool.supervisor.error
        if error is not None and not self.pool.has_workers:
            return Health(False, "broken", whose + load_failure(error))
        if self.pool.is_warming:
            return Health(True, "starting", whose + "The handler is being imported")
        return Health(True, "ok")

    def remove_folders(self) -> None:
        """Remove its workers' temporary folders, once all of them have ended."""
        if self._temp_base:
            remove(self._temp_base)


def _environment(
    described: Described, environ: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Return the variables its workers get, and the names of those withheld."""
    settings = described.settings
    passed, withheld = environment_for_workers(environ, settings.env, settings.on_fc)
    passed.update(described.variables)
    return passed, withheld


def _facts(described: Described) -> dict[str, str]:
    """Return the context headers that are the same for every invocation."""
    settings = described.settings
    facts = {
        "X_FC_FUNCTION_HANDLER": settings.handler,
        "X_FC_FUNCTION_MEMORY": str(settings.memory_mb or ""),
        "X_FC_FUNCTION_TIMEOUT": str(max(1, round(settings.timeout_s))),
        "X_FC_REGION": described.region,
        "X_FC_ACCOUNT_ID": described.account_id,
    }
    return {name: value for name, value in facts.items() if value}


def _size(settings: Settings) -> PoolSize:
    return PoolSize(
        settings.min_workers,
        settings.max_workers,
        settings.max_invocations,
        settings.max_age_s,
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        settings.timeout_s,
        settings.init_timeout_s,
        settings.queue,
        settings.queue_timeout_s,
        settings.max_response_bytes,
        settings.memory_mb,
    )


def _make_temp_base(environ: Mapping[str, str], sandbox: str) -> str:
    """Make the folder for the workers' temporary folders; empty if that fails."""
    from isoruntime.sandbox.paths import NO_GRANTS, temp_parents

    parents = temp_parents(environ, NO_GRANTS if sandbox == "off" else None)
    path, problems = make_base(parents)
    chosen = environ.get("TMPDIR")
    if not path:
        _log.warning("no folder for temporary files; workers share /tmp: %s", problems)
    elif problems and parents[0] == chosen:
        # What the operator chose is never replaced by another place in silence.
        _log.warning("temporary files go to %s: %s", path, problems)
    return path


def _load_order(
    settings: Settings,
    environ: Mapping[str, str],
    environment: dict[str, str],
    temp_base: str,
    variables: Mapping[str, str],
) -> LoadOrder:
    admitted = {name: environment[name] for name in settings.env if name in environment}
    # A zygote that was started ahead of need knows nothing of them.
    admitted.update(variables)
    is_python = not (settings.command or settings.upstream)
    return LoadOrder(
        handler=settings.handler if is_python and settings.takes_events else "",
        code_dir=str(settings.code_dir),
        environment=admitted,
        initializer=settings.initializer if is_python else None,
        pre_stop=settings.pre_stop,
        pre_freeze=settings.pre_freeze,
        http=settings.http,
        command=list(settings.command or ()),
        upstream=list(settings.upstream or ()),
        log_level=settings.log_level,
        max_response_bytes=settings.max_response_bytes,
        split_output=settings.log_format == "json",
        memory_limit_mb=settings.memory_mb,
        max_processes=settings.max_processes,
        temp_base=temp_base,
        chaos=environ.get("ISORUNTIME_CHAOS", ""),
        credentials_in_environment=_CREDENTIALS in settings.env,
        sandbox=settings.sandbox,
        has_network=settings.network == "host",
        allow_read=list(settings.allow_read),
        allow_write=list(settings.allow_write),
        keeps_bytecode=not settings.reload,
        serves_once=settings.max_invocations == 1,
    )


def _preload(settings: Settings) -> Preload:
    """Return where the handler is imported; under `strict` inside the walls only."""
    if settings.upstream:
        # Every worker starts a server of its own.
        return Preload.NEVER
    if settings.command:
        # There is nothing to import, only a file to look at.
        return Preload.ALWAYS
    preload = Preload(settings.preload)
    if settings.sandbox == "strict" and preload is Preload.AUTO:
        return Preload.NEVER
    return preload


def _phases(settings: Settings) -> frozenset[Phase]:
    if settings.upstream:
        # What of them the server knows, it says itself.
        return frozenset(Phase)
    if settings.command:
        return frozenset({Phase.INVOKE})
    configured = {
        Phase.INVOKE: settings.handler,
        Phase.INITIALIZE: settings.initializer,
        Phase.PRE_STOP: settings.pre_stop,
        Phase.PRE_FREEZE: settings.pre_freeze,
    }
    return frozenset(phase for phase, name in configured.items() if name)
