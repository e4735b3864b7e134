"""Putting the parts together; signals, drain, and the way out.

The order of the start is the order of the waiting. When this module is imported the
socket listens already, so that the platform sees a server at once, and the zygote's
process is starting on another core. It is told what to load as soon as the loop is
there; then this process imports waitress.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Mapping, Sequence

from isoruntime import __version__
from isoruntime.function import Described, Function
from isoruntime.loop import Loop
from isoruntime.observe.formats import FcFormat, JsonFormat
from isoruntime.observe.journal import CopyingSink
from isoruntime.observe.messages import SinkHandler, configure
from isoruntime.observe.sink import LogSink
from isoruntime.pool.supervisor import LoadState
from isoruntime.reaper import Reaper
from isoruntime.typed import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

if TYPE_CHECKING:
    from isoruntime.admin.port import AdminPort
    from isoruntime.contract.answer import Details
    from isoruntime.dispatch.dispatcher import Dispatcher
    from isoruntime.frontend.gateway.entrance import Entrance
    from isoruntime.frontend.http import Exchange, HttpServer
    from isoruntime.frontend.routes import Health
    from isoruntime.pool.pool import WorkerPool
    from isoruntime.settings import Settings
    from isoruntime.zygote.spawn import Spawned

#: Descriptors: six a worker, one or two a connection, and some to spare.
_WANTED_FILES: Final = 65536
_FILES_KEPT_BACK: Final = 64
_FILES_PER_WORKER: Final = 8
_LAST_BYTES_S: Final = 1.0
_MAX_CONNECTIONS: Final = 16384
_STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_log = logging.getLogger("isoruntime")


class Begun(NamedTuple):
    """What was begun before this module was imported, since others wait for it."""

    sockets: list[socket.socket]
    zygote: Spawned | None
    #: of the admin port
    admin: Sequence[socket.socket] = ()


def serve(
    settings: Settings,
    environ: Mapping[str, str],
    begun: Begun,
    functions: Sequence[Described] = (),
    reloading: Callable[[Runtime], Reloading] | None = None,
) -> int:
    """Serve until told to stop; return the exit code.

    `reloading` makes what watches for newer code, before any is loaded.
    """
    runtime = Runtime(settings, environ, begun, functions=functions)
    try:
        if reloading is not None:
            runtime.reloading = reloading(runtime)
        runtime.start(begun)
        # What was made until now stays, and is never looked through.
        gc.freeze()
        gc.enable()
        runtime.loop.run()
    except Exception:  # noqa: BLE001 - the last one who can say what happened
        _log.exception("the runtime cannot go on")
        return 1
    finally:
        runtime.close()
        # Else an interpreter that ends gives them their usual effect back, and who asks
        # a second time gets "killed by SIGTERM" for an exit code.
        for number in _STOPS:
            signal.signal(number, signal.SIG_IGN)
    return 0


class Reloading(Protocol):
    """What has newer code loaded."""

    def start(self) -> None:
        """Do so from now on."""

    def close(self) -> None:
        """Do so no more."""


class Runtime:
    """The front end: every part, and the signals that end it."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        begun: Begun,
        *,
        functions: Sequence[Described] = (),
        log_fd: int = 1,
        on_log: Callable[[bytes], object] | None = None,
        debug_port: int = 0,
    ) -> None:
        """Put the parts together; what functions print goes to `log_fd`.

        Without `functions` there is one, which the settings are about. `on_log` is
        given a copy of the log. With a `debug_port` a worker waits for a debugger
        there before it imports anything of the function's.
        """
        self.settings = settings
        self._environ = environ
        self.loop = Loop()
        self.started_at = self.loop.now()
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
        spawned = begun.zygote
        self.functions: list[Function] = []
        functions = functions or (Described(settings),)
        for described in functions:
            function = Function(
                described,
                environ,
                self.loop,
                sink,
                self._format,
                spawned=spawned,
                debug_port=debug_port,
                is_alone=len(functions) == 1,
            )
            self.functions.append(function)
            # There is one that was started ahead, and it goes to the first of them.
            spawned = None
        self._reaper = Reaper(
            self.loop, [function.pool.supervisor for function in self.functions]
        )
        self._http: HttpServer | None = None
        self._entrance: Entrance | None = None
        self._admin: AdminPort | None = None
        self.reloading: Reloading | None = None
        self._has_said_inited = False
        self._signals = 0
        #: called with the number of a signal that asks for the end; by default a drain
        self.on_stop: Callable[[int], object] = self._drain
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.loop.at_turn_end += [self._flush]

    @property
    def pool(self) -> WorkerPool:
        """The workers of the first function, which mostly is the only one."""
        return self.functions[0].pool

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher of the first function."""
        return self.functions[0].dispatcher

    def begin(self) -> None:
        """Start the zygotes, and take invocations and signals from now on."""
        self._reaper.start()
        if self.settings.sandbox != "off":
            self._hide_secrets()
        self._watch_signals()
        for function in self.functions:
            function.pool.start()

    def start(self, begun: Begun) -> None:
        """Begin, and serve HTTP on the sockets that listen already."""
        self.begin()
        most_workers = sum(one.settings.max_workers for one in self.functions)
        connection_limit = _connection_limit(most_workers)
        # Here rather than at the top: importing waitress takes as long as starting
        # the zygote, which now happens meanwhile.
        from isoruntime.frontend.http import HttpServer

        self._http = HttpServer(
            self.loop,
            begun.sockets,
            self._way_in(),
            max_event_bytes=max(one.settings.max_event_bytes for one in self.functions),
            connection_limit=connection_limit,
        )
        self._introduce(begun.sockets)
        if begun.admin:
            self._start_admin(begun.admin)
        self.loop.call_soon(self._say_inited)
        for function in self.functions:
            function.pool.on_load_state = self._say_inited
        self.pool.isolation.on_news = self._say_skipped
        if self.reloading is not None:
            self.reloading.start()

    def _way_in(self) -> Callable[[Exchange], None]:
        """Return what every request is handed to."""
        first = self.functions[0].routes(self.health)
        if not self.settings.gateway:
            return first.route
        from isoruntime.frontend.gateway.entrance import Entrance

        self._entrance = entrance = Entrance(
            [function.reachable() for function in self.functions],
            first,
            self.loop,
            self.settings.key,
            cast("Details", self.settings.error_details),
        )
        return entrance.route

    def _start_admin(self, sockets: Sequence[socket.socket]) -> None:
        from isoruntime.admin.port import AdminPort

        self._admin = AdminPort(
            self.loop,
            sockets,
            self,
            self._entrance.tasks if self._entrance is not None else None,
            self._environ.get("ISORUNTIME_ADMIN_TOKEN", ""),
        )

    def _hide_secrets(self) -> None:
        """Keep others of our user from looking in, before code of theirs runs."""
        # Imported here for the reason the reaper has.
        from isoruntime.sandbox import _libc, startup_secrets

        passed = self.functions[0].environment
        startup_secrets.overwrite_environment(lambda name: name not in passed)
        startup_secrets.overwrite_arguments(self.settings.secrets_in_arguments())
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
        named = [function.name for function in self.functions if function.name]
        if self.settings.gateway:
            _log.info(
                "answering the invocation API for %s%s",
                ", ".join(named) or "a function of whatever name",
                "" if self.settings.key else "; signatures are not checked",
            )

    @property
    def withheld(self) -> list[str]:
        """Variables that no worker gets, as they look like credentials."""
        return self.functions[0].withheld

    def _say_inited(self) -> None:
        """Write the line that marks a cold start, once, when all that loads has."""
        states = {function.pool.supervisor.state for function in self.functions}
        is_ready = LoadState.READY in states and LoadState.LOADING not in states
        if is_ready and not self._has_said_inited:
            self._has_said_inited = True
            self.log.write(self._format.inited())

    def _say_skipped(self, skipped: dict[str, str]) -> None:
        """Write once what this host lacks to keep handlers inside."""
        _log.info(
            "sandbox %s without %s (isoruntime doctor says what to do)",
            self.settings.sandbox,
            ", ".join(f"{name} ({reason})" for name, reason in skipped.items()),
        )

    def health(self) -> Health:
        """Return how the function is; of several, the one that is worst off."""
        healths = [function.health() for function in self.functions]
        return min(healths, key=lambda health: (health.is_up, health.status == "ok"))

    def _flush(self) -> None:
        self.log.flush()
        if self.log.is_congested:
            for function in self.functions:
                function.pool.pause_output()

    def _relieved(self) -> None:
        for function in self.functions:
            function.pool.resume_output()

    # Signals only leave a byte in a pipe; what they mean is decided in the loop.

    def _watch_signals(self) -> None:
        for number in (*_STOPS, signal.SIGCHLD):
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

    @property
    def _unfinished(self) -> int:
        return sum(
            one.dispatcher.in_flight + one.dispatcher.waiting for one in self.functions
        )

    def _drain(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._signals == 1:
            _log.info(
                "%s: finishing %d invocations, taking no new ones",
                name,
                self._unfinished,
            )
            self.loop.call_later(self.settings.drain_s, self._drain_is_over)
            if self._entrance is not None:
                self._entrance.tasks.stop()
            quiet = _after(len(self.functions), self._stop_workers)
            for function in self.functions:
                function.dispatcher.drain(quiet)
        else:
            _log.info("%s again: ending what still runs", name)
            self._give_up()

    def _drain_is_over(self) -> None:
        if self._unfinished:
            _log.warning(
                "%d invocations did not finish within %g s and are ended",
                self._unfinished,
                self.settings.drain_s,
            )
            self._give_up()

    def _give_up(self) -> None:
        for function in self.functions:
            function.dispatcher.give_up()

    def _stop_workers(self) -> None:
        gone = _after(len(self.functions), self._send_last_bytes)
        for function in self.functions:
            function.pool.stop(gone)

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
        if self.reloading is not None:
            self.reloading.close()
        if self._http is not None:
            self._http.stop_listening()
            self._http.close_connections()
        if self._admin is not None:
            self._admin.close()
        for function in self.functions:
            function.pool.supervisor.kill()
        self._reaper.reap_all()
        for function in self.functions:
            function.remove_folders()
        signal.set_wakeup_fd(-1)
        if self._signals and self._http is not None:
            _log.info("stopped")
        self.log.drain(_LAST_BYTES_S)
        self._messages.drain(_LAST_BYTES_S)


def _note_signal(number: int, frame: object) -> None:
    """Do nothing: the wake-up descriptor has been written to, which is all."""


def _after(times: int, call: Callable[[], object]) -> Callable[[], None]:
    """Return what calls `call` when it has been called so often."""
    left = [times]

    def one_more() -> None:
        left[0] -= 1
        if not left[0]:
            call()

    return one_more


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
