"""Putting the parts together; signals, drain, and the way out.

The order of the start is the order of the waiting. When this module is imported the
socket listens already, so that the platform sees a server at once, and the zygote's
process is starting on another core. It is told what to load as soon as the loop is
there; then this process imports waitress.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from isoruntime import __version__
from isoruntime.dispatch.dispatcher import Dispatcher, Limits
from isoruntime.dispatch.invocation import Phase
from isoruntime.environment import environment_for_workers
from isoruntime.loop import Loop
from isoruntime.observe.formats import FcFormat, JsonFormat
from isoruntime.observe.journal import CopyingSink, Journal
from isoruntime.observe.messages import SinkHandler, configure
from isoruntime.observe.sink import LogSink
from isoruntime.pool.pool import PoolSize, WorkerPool
from isoruntime.pool.supervisor import LoadState, Preload
from isoruntime.reaper import Reaper
from isoruntime.wire.order import LoadOrder
from isoruntime.zygote.folders import make_base, remove

if TYPE_CHECKING:
    from isoruntime.contract.answer import Details, Mode
    from isoruntime.frontend.http import HttpServer
    from isoruntime.frontend.routes import Health
    from isoruntime.settings import Settings
    from isoruntime.zygote.spawn import Spawned

#: Descriptors: six a worker, one or two a connection, and some to spare.
_WANTED_FILES: Final = 65536
_FILES_KEPT_BACK: Final = 64
_FILES_PER_WORKER: Final = 8
_LAST_BYTES_S: Final = 1.0
_MAX_CONNECTIONS: Final = 16384
#: Lets a handler that names it have the STS triple of its invocation in `os.environ`.
_CREDENTIALS: Final = "ALIBABA_CLOUD_CREDENTIALS"

_log = logging.getLogger("isoruntime")


class Begun(NamedTuple):
    """What was begun before this module was imported, since others wait for it."""

    sockets: list[socket.socket]
    zygote: Spawned | None


def serve(settings: Settings, environ: Mapping[str, str], begun: Begun) -> int:
    """Serve until told to stop; return the exit code."""
    runtime = Runtime(settings, environ, begun)
    try:
        runtime.start(begun.sockets)
        runtime.loop.run()
    except Exception:  # noqa: BLE001 - the last one who can say what happened
        _log.exception("the runtime cannot go on")
        return 1
    finally:
        runtime.close()
    return 0


class Runtime:
    """The front end: every part, and the signals that end it."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        begun: Begun,
        *,
        log_fd: int = 1,
        on_log: Callable[[bytes], object] | None = None,
        debug_port: int = 0,
    ) -> None:
        """Put the parts together; what functions print goes to `log_fd`.

        `on_log` is given a copy of it. With a `debug_port` a worker waits for a
        debugger there before it imports anything of the function's.
        """
        self._settings = settings
        self.loop = Loop()
        self.log = LogSink(log_fd, self.loop, on_relief=self._relieved)
        is_same = is_same_file(log_fd, 2)
        stderr = self.log if is_same else LogSink(2, self.loop)
        self._messages: SinkHandler = configure(
            settings.log_level,
            "json" if settings.log_format == "json" else "fc",
            stderr,
        )
        is_json = settings.log_format == "json"
        self._format = JsonFormat() if is_json else FcFormat()
        sink = self.log if on_log is None else CopyingSink(self.log, on_log)
        self._journal = Journal(sink, self._format)
        environment, withheld = environment_for_workers(
            environ, settings.env, settings.on_fc
        )
        self._passed, self.withheld = environment, withheld
        self._temp_base = _make_temp_base(environ, settings.sandbox)
        self.pool = WorkerPool(
            self.loop,
            PoolSize(
                settings.min_workers,
                settings.max_workers,
                settings.max_invocations,
                settings.max_age_s,
            ),
            _load_order(settings, environ, environment, self._temp_base)._replace(
                debug_port=debug_port
            ),
            environment,
            preload=_preload(settings),
            init_timeout_s=settings.init_timeout_s,
            spawned=begun.zygote,
        )
        self.dispatcher = Dispatcher(
            self.loop,
            self.pool,
            self._journal,
            Limits(
                settings.timeout_s,
                settings.init_timeout_s,
                settings.queue,
                settings.queue_timeout_s,
                settings.max_response_bytes,
                settings.memory_mb,
            ),
            os.urandom,
            phases=_phases(settings),
            is_server=bool(settings.upstream),
            error_details=cast("Details", settings.error_details),
            leftovers=settings.leftovers,
        )
        self._reaper = Reaper(self.loop, self.pool.supervisor)
        self._http: HttpServer | None = None
        self._has_said_inited = False
        self._signals = 0
        #: called with the number of a signal that asks for the end; by default a drain
        self.on_stop: Callable[[int], object] = self._drain
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.loop.at_turn_end += [self._flush]

    def begin(self) -> None:
        """Start the zygote, and take invocations and signals from now on."""
        self._reaper.start()
        if self._settings.sandbox != "off":
            self._hide_secrets()
        self._watch_signals()
        self.pool.start()

    def start(self, sockets: list[socket.socket]) -> None:
        """Begin, and serve HTTP on these sockets."""
        self.begin()
        connection_limit = _connection_limit(self._settings.max_workers)
        # Here rather than at the top: importing waitress takes as long as starting
        # the zygote, which now happens meanwhile.
        from isoruntime.frontend.http import HttpServer
        from isoruntime.frontend.routes import Routes, Speaks

        routes = Routes(
            self.dispatcher,
            self._health,
            max_event_bytes=self._settings.max_event_bytes,
            error_mode=cast("Mode", self._settings.errors),
            error_details=cast("Details", self._settings.error_details),
            speaks=Speaks(
                events=self._settings.takes_events,
                http_by_platform=not self._settings.command,
                http_by_path=bool(self._settings.http or self._settings.upstream),
                only_http=bool(self._settings.upstream),
            ),
        )
        self._http = HttpServer(
            self.loop,
            sockets,
            routes.route,
            max_event_bytes=self._settings.max_event_bytes,
            connection_limit=connection_limit,
        )
        self._introduce(sockets)
        self.loop.call_soon(self._say_inited)
        self.pool.on_load_state = self._say_inited
        self.pool.isolation.on_news = self._say_skipped

    def _hide_secrets(self) -> None:
        """Keep others of our user from looking in, before code of theirs runs."""
        # Imported here for the reason the reaper has.
        from isoruntime.sandbox import _libc, startup_secrets

        startup_secrets.overwrite_environment(lambda name: name not in self._passed)
        startup_secrets.overwrite_arguments(self._settings.secrets_in_arguments())
        _libc.set_dumpable(False)

    def _introduce(self, sockets: list[socket.socket]) -> None:
        host, port = sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        # Whatever the level: with port 0 this is the only way to learn the address.
        text = f"version {__version__} listening on http://{shown}:{port}"
        self._messages.handle(
            _log.makeRecord(_log.name, logging.INFO, "", 0, text, (), None)
        )
        if self.withheld:
            _log.info(
                "withheld from handlers, as they look like credentials: %s"
                " (pass one on with --env NAME)",
                ", ".join(self.withheld),
            )

    def _say_inited(self) -> None:
        """Write the line that marks a cold start, once, when it can serve."""
        is_ready = self.pool.supervisor.state is LoadState.READY
        if is_ready and not self._has_said_inited:
            self._has_said_inited = True
            self.log.write(self._format.inited())

    def _say_skipped(self, skipped: dict[str, str]) -> None:
        """Write once what this host lacks to keep handlers inside."""
        _log.info(
            "sandbox %s without %s (isoruntime doctor says what to do)",
            self._settings.sandbox,
            ", ".join(f"{name} ({reason})" for name, reason in skipped.items()),
        )

    def _health(self) -> Health:
        from isoruntime.frontend.routes import Health, load_failure

        if self.dispatcher.is_draining:
            return Health(False, "draining", "The runtime is shutting down")
        # Also while it is tried again: it is not well until that has worked.
        error = self.pool.supervisor.error
        if error is not None and not self.pool.has_workers:
            return Health(False, "broken", load_failure(error))
        if self.pool.is_warming:
            return Health(True, "starting", "The handler is being imported")
        return Health(True, "ok")

    def _flush(self) -> None:
        self.log.flush()
        if self.log.is_congested:
            self.pool.pause_output()

    def _relieved(self) -> None:
        self.pool.resume_output()

    # Signals only leave a byte in a pipe; what they mean is decided in the loop.

    def _watch_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, _note_signal)
        # A reader that goes away must be an error where we write, not our end.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        self.loop.watch(self._wake_r, self._on_signal)

    def _on_signal(self, events: int) -> None:
        for number in os.read(self._wake_r, 4096):
            if number == signal.SIGCHLD:
                self._reaper.reap()
            else:
                self._signals += 1
                self.on_stop(number)

    def _drain(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._signals == 1:
            _log.info(
                "%s: finishing %d invocations, taking no new ones",
                name,
                self.dispatcher.in_flight + self.dispatcher.waiting,
            )
            self.loop.call_later(self._settings.drain_s, self._drain_is_over)
            self.dispatcher.drain(self._stop_workers)
        else:
            _log.info("%s again: ending what still runs", name)
            self.dispatcher.give_up()

    def _drain_is_over(self) -> None:
        if self.dispatcher.in_flight or self.dispatcher.waiting:
            _log.warning(
                "%d invocations did not finish within %g s and are ended",
                self.dispatcher.in_flight + self.dispatcher.waiting,
                self._settings.drain_s,
            )
            self.dispatcher.give_up()

    def _stop_workers(self) -> None:
        self.pool.stop(self._send_last_bytes)

    def _send_last_bytes(self) -> None:
        until = self.loop.now() + _LAST_BYTES_S

        def stop_when_sent() -> None:
            http = self._http
            if http is not None and http.has_unsent and self.loop.now() < until:
                self.loop.call_later(0.005, stop_when_sent)
            else:
                self.loop.stop()

        stop_when_sent()

    def close(self) -> None:
        """Leave nothing behind, however the loop ended."""
        if self._http is not None:
            self._http.stop_listening()
            self._http.close_connections()
        self.pool.supervisor.kill()
        self._reaper.reap_all()
        if self._temp_base:
            remove(self._temp_base)
        signal.set_wakeup_fd(-1)
        if self._signals and self._http is not None:
            _log.info("stopped")
        self.log.drain(_LAST_BYTES_S)
        self._messages.drain(_LAST_BYTES_S)


def _note_signal(number: int, frame: object) -> None:
    """Do nothing: the wake-up descriptor has been written to, which is all."""


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
) -> LoadOrder:
    admitted = {name: environment[name] for name in settings.env if name in environment}
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


def is_same_file(first: int, second: int) -> bool:
    """Tell whether two descriptors lead to the same pipe, terminal or file."""
    try:
        return os.path.sameopenfile(first, second)
    except OSError:
        return False


def _connection_limit(max_workers: int) -> int:
    """Raise the limit of open files as far as allowed; return what it leaves us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = (
        _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    left = soft - _FILES_KEPT_BACK - max_workers * _FILES_PER_WORKER
    # A connection whose event was spilled to a file needs two.
    return max(64, min(_MAX_CONNECTIONS, left // 2))
