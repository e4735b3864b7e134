"""From words and variables to invocations, and to an exit code."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from importlib.util import find_spec

from isoruntime.cli import events
from isoruntime.cli.env_file import read_env_file
from isoruntime.cli.invoke import fields
from isoruntime.cli.invoke.report import BY_SIGNAL, RETURNED, Report, say
from isoruntime.cli.invoke.target import Credentials, Target, Unreachable
from isoruntime.cli.options import Option, parse
from isoruntime.cli.serve import demand_isolation, spawn_ahead
from isoruntime.cli.text import BAD_USAGE, complain, settings_help
from isoruntime.cli.version import version_line
from isoruntime.errors import ConfigurationError, InvalidSettings
from isoruntime.settings import DECLARED, Settings, read_settings
from isoruntime.settings.parse import whole
from isoruntime.typed import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


OWN: Final = (
    Option(
        *("-e", "--event"),
        metavar="TEXT|@FILE|-",
        doc="event: the text itself, a file, or - for stdin; by default an empty one. "
        "@NAME is also events/NAME.json in the code folder",
    ),
    Option(
        "--env-file",
        metavar="FILE",
        doc="KEY=VALUE lines that become variables of the handler",
    ),
    Option(
        "--header",
        metavar="NAME=VALUE",
        is_list=True,
        doc="x-fc-* header of the invocation; may be repeated",
    ),
    Option(
        "--context",
        metavar="JSON",
        doc="fields of the handler's context, as in "
        '{"region": "cn-hangzhou", "function": {"name": "thumbnail"}}',
    ),
    Option(
        "--repeat",
        metavar="N",
        doc="invoke so often, and tell latencies in the end [1]",
    ),
    Option("--raw", doc="the result alone, byte for byte [this is the default]"),
    Option(
        "--json",
        doc="one JSON object an invocation: outcome, result, durations, memory, log",
    ),
    Option(
        "--target",
        metavar="URL",
        doc="invoke through a runtime that runs already, http://HOST:PORT, or a "
        "gateway's URL .../invocations, signed if ALIBABA_CLOUD_ACCESS_KEY_ID and "
        "_SECRET are set",
    ),
    Option("--async", doc="with --target: have the gateway invoke it later"),
    Option(
        "--debug",
        metavar="PORT",
        doc="wait for a debugger on 127.0.0.1:PORT before the handler is imported; "
        "needs debugpy (isoruntime[debug]), and there is no deadline then",
    ),
)
_INTRODUCTION: Final = (
    "Runs one event through a real worker, with the limits and walls that it has under "
    "serve. The result goes to stdout; what the handler prints and a summary go to "
    "stderr. Exit code: 0 returned, 1 function error, 2 bad usage, 3 process exited, "
    "4 timeout, 5 out of memory. In brackets: variables that are read where the flag is "
    "not given, and the default."
)
#: Settings of a server that one worker, asked by nobody else, has no use for.
_OF_SERVERS: Final = frozenset(
    {
        *("upstream", "http", "pre_stop", "pre_freeze", "min_workers", "max_workers"),
        *("max_age_s", "reload", "queue", "queue_timeout_s", "errors"),
    }
)
_OWN_FLAGS: Final = frozenset(flag for option in OWN for flag in option.flags)
TAKEN: Final = tuple(
    setting
    for setting in DECLARED
    if setting.group != "server"
    and setting.name not in _OF_SERVERS
    and setting.flag not in _OWN_FLAGS
)
#: What has a meaning also where somebody else runs the function.
_FOR_TARGETS: Final = frozenset(
    {
        *("event", "header", "context", "repeat", "raw", "json", "target", "async"),
        *("timeout_s", "code_dir"),
    }
)
_MOST: Final = 1_000_000
#: The longest there is: nobody is hurried who thinks at a breakpoint.
_A_YEAR_S: Final = str(365 * 86400)
_SLOW_S: Final = 1.0


def main(argv: Sequence[str]) -> int:
    """Invoke as the words say; 2 with every problem listed if that cannot be."""
    _stand_in_for_closed_streams()
    try:
        return _run(argv, time.monotonic())
    except KeyboardInterrupt:
        # Where an invocation runs, the runtime deals with it.
        say("isoruntime: ended by SIGINT")
        return BY_SIGNAL + signal.SIGINT


def _stand_in_for_closed_streams() -> None:
    """Keep the numbers of standard streams from going to somebody else's descriptors."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(fd, "r" if fd == 0 else "w"))  # noqa: PTH123, SIM115 - open until the end


def _run(argv: Sequence[str], started_at: float) -> int:
    flags, problems = parse(argv, "invoke", OWN, TAKEN)
    if flags.pop("help", False):
        usage = "usage: isoruntime invoke [HANDLER] [-e EVENT] [OPTIONS]"
        print(settings_help(usage, _INTRODUCTION, OWN, TAKEN))
        return RETURNED
    if flags.pop("version", False):
        print(version_line())
        return RETURNED
    wanted = _Wanted(flags, problems)
    if wanted.problems:
        complain(wanted.problems)
        return BAD_USAGE
    report = Report(as_json=wanted.as_json, repeat=wanted.repeat)
    try:
        if wanted.target is not None:
            return _through_target(wanted, wanted.target, report)
        return _through_worker(wanted, report, started_at)
    except ConfigurationError as error:
        complain(str(error).splitlines())
        return BAD_USAGE


class _Wanted:
    """What the words ask for, and everything that is wrong with them."""

    def __init__(self, flags: dict[str, object], problems: list[str]) -> None:
        self.problems = problems
        own = {name: flags.pop(name) for name in _names() if name in flags}
        self._own = own
        for option in OWN:
            if own.get(option.name, "") is None:
                flag = option.flags[-1]
                problems.append(f"{flag} lacks its value: give {flag} {option.metavar}")
        self.as_json = bool(own.get("json"))
        self.is_async = bool(own.get("async"))
        if self.as_json and own.get("raw"):
            problems.append("--raw and --json exclude each other: give one of the two")
        self.repeat = self._number("repeat", 1, _MOST, 1)
        self.debug_port = self._number("debug", 1, 65535, 0)
        self.variables = self._variables()
        self.settings = self._settings(flags)
        self.target = self._target(flags)
        self.headers = self._headers()
        self.event = b"" if problems else self._event()

    def _text(self, name: str) -> str | None:
        value = self._own.get(name)
        return value if isinstance(value, str) else None

    def _number(self, name: str, lowest: int, highest: int, otherwise: int) -> int:
        text = self._text(name)
        if text is None:
            return otherwise
        try:
            return whole(lowest, highest)(text)
        except ValueError as error:
            self.problems.append(f"--{name} '{text}' {error}")
            return otherwise

    def _variables(self) -> dict[str, str]:
        path = self._text("env_file")
        if path is None:
            return {}
        variables, problems = read_env_file(path)
        self.problems += problems
        return variables

    def _settings(self, flags: dict[str, object]) -> Settings:
        wanted: dict[str, object] = {"min_workers": "1", "max_workers": "1", **flags}
        if self.variables:
            # Whoever lists them for the handler wants it to have them.
            named = wanted.get("env", [])
            wanted["env"] = [
                *(named if isinstance(named, list) else []),
                *self.variables,
            ]
        if self.debug_port:
            # Whatever would end what one wants to look into.
            wanted |= {"timeout_s": _A_YEAR_S, "init_timeout_s": _A_YEAR_S}
            wanted |= {"preload": "never", "leftovers": "allow"}
        try:
            settings = read_settings(wanted, os.environ)
        except InvalidSettings as error:
            self.problems += error.problems
            return Settings()
        if settings.upstream or not settings.takes_events:
            source = settings.source("upstream" if settings.upstream else "http")
            self.problems.append(
                f"{source} makes this an HTTP function, which takes no events: serve it, "
                "and ask it by a path of its own"
            )
        self.problems += self._not_for_debuggers(settings) if self.debug_port else []
        return settings

    def _not_for_debuggers(self, settings: Settings) -> list[str]:
        problems = []
        if settings.command:
            problems.append("--debug is for Python: leave it out, or --command")
        if settings.network == "none":
            problems.append(
                "--debug cannot reach a worker without a network: give --network host"
            )
        return problems

    def _target(self, flags: Mapping[str, object]) -> Target | None:
        url = self._text("target")
        if url is None:
            if self.is_async:
                self.problems.append(
                    "--async has no meaning without --target: a worker of this command "
                    "ends with it; give the URL of a gateway"
                )
            return None
        given = {name for name, value in self._own.items() if value not in (None, [])}
        for name in sorted((given | flags.keys()) - _FOR_TARGETS):
            self.problems.append(
                f"{_flag_of(name)} has no meaning with --target, where another runtime "
                "has a worker: leave one of the two out"
            )
        has_limit = self.settings.source("timeout_s") != "default"
        timeout_s = self.settings.timeout_s if has_limit else None
        try:
            target = Target(
                url,
                is_async=self.is_async,
                timeout_s=timeout_s,
                credentials=Credentials.of(os.environ),
            )
        except ValueError as error:
            self.problems.append(f"--target '{url}' {error}")
            return None
        if self.is_async and not target.is_gateway:
            self.problems.append(
                f"--async: {target.url} answers when the handler has: give a gateway's "
                "URL that ends with /invocations"
            )
        return target

    def _headers(self) -> dict[str, str]:
        given: Any = self._own.get("header", [])
        is_remote = self._text("target") is not None
        try:
            return fields.headers_of(given, self._text("context"), is_remote=is_remote)
        except fields.BadFields as error:
            self.problems += error.problems
            return {}

    def _event(self) -> bytes:
        given = self._text("event") or ""
        try:
            return events.read(given, self.settings.code_dir)
        except ValueError as error:
            self.problems.append(f"-e {given} {error}")
            return b""


def _names() -> list[str]:
    return [option.name for option in OWN]


def _flag_of(name: str) -> str:
    flags = {setting.name: setting.flag for setting in DECLARED}
    flags |= {option.name: option.flags[-1] for option in OWN}
    return flags.get(name, f"--{name}")


def _through_worker(wanted: _Wanted, report: Report, started_at: float) -> int:
    settings = wanted.settings
    if wanted.debug_port:
        _announce_debugger(wanted.debug_port)
    demand_isolation(settings, os.environ)
    # Another interpreter's start is not waited for, but it must know its variables.
    ahead = None if wanted.variables else spawn_ahead()
    # Only here: what a target needs none of.
    from isoruntime.cli.invoke.local import Local, Request

    environ = {**os.environ, **wanted.variables}
    local = Local(
        settings,
        environ,
        ahead,
        report.tell,
        started_at=started_at,
        debug_port=wanted.debug_port,
    )
    report.say, report.flush = local.say, local.flush
    by_signal = local.run(Request(wanted.event, wanted.headers, wanted.repeat))
    report.say, report.flush = say, sys.stderr.flush
    report.tell_all()
    if report.exit_code and local.withheld:
        say(
            "isoruntime: withheld from the handler, as they look like credentials: "
            f"{', '.join(local.withheld)} (pass one on with --env NAME)"
        )
    return by_signal or report.exit_code


def _announce_debugger(port: int) -> None:
    if find_spec("debugpy") is None:
        raise ConfigurationError(
            "--debug needs debugpy, which is not installed: "
            "pip install 'isoruntime[debug]'"
        )
    try:
        # Where it is taken, the worker would end before it could say so.
        with socket.create_server(("127.0.0.1", port)):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"--debug {port} cannot be listened on ({error.strerror}): give another port"
        ) from error
    say(
        f"isoruntime: waiting for a debugger on 127.0.0.1:{port}, with one worker and "
        "no deadline"
    )


def _through_target(wanted: _Wanted, target: Target, report: Report) -> int:
    patience = threading.Timer(_SLOW_S, say, [f"isoruntime: waiting for {target.url}"])
    patience.daemon = True
    if sys.stderr.isatty():
        patience.start()
    try:
        for _ in range(wanted.repeat):
            result = target.invoke(wanted.event, wanted.headers)
            if result.log:
                sys.stderr.write(result.log)
            report.tell(result)
    except Unreachable as error:
        complain([str(error)])
        return BAD_USAGE
    finally:
        patience.cancel()
        report.tell_all()
    return report.exit_code
