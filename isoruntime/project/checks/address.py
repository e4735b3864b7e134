"""Whether the server listens where the platform connects to: on all addresses, one port.

What isoruntime is told is known exactly. Other servers are looked at by their command
lines, and by calls in the script that is started: crude, and so a warning there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from itertools import dropwhile

from isoruntime.project.finding import ERROR, WARNING, Finding, Kind, Place
from isoruntime.project.function import (
    Function,
    Line,
    Told,
    environment_of,
    script_of,
)
from isoruntime.project.manifest import shown
from isoruntime.typed import Final, NamedTuple

_NOT_STARTED: Final = (
    "Function instance health check failed on port 9000 in 120 seconds. / FunctionNotStarted: "
    "The CA's http server cannot be started:ContainerStartDuration:25000000000. Ping CA "
    "failed due to: dial tcp 21.0.X.X:9000: getsockopt: connection refused"
)
_EQUAL: Final = (
    "let both be the same: customRuntimeConfig.port, and what the server is told"
)
_EVERYWHERE: Final = "listen on 0.0.0.0"

PORT: Final = Kind(
    "port-mismatch",
    ERROR,
    "The server is told another port than customRuntimeConfig.port (9000 if not given), "
    "which is the one the platform connects to.",
    _EQUAL,
    _NOT_STARTED,
)
LOCAL: Final = Kind(
    "listens-locally",
    ERROR,
    "The server is told to listen on 127.0.0.1 or localhost, or does so by itself; the "
    "platform connects from outside.",
    _EVERYWHERE,
    _NOT_STARTED,
)
PORT_IN_CODE: Final = Kind(
    "port-mismatch-in-code",
    WARNING,
    "A call in the script that is started seems to listen on another port than "
    "customRuntimeConfig.port.",
    _EQUAL,
    _NOT_STARTED,
)
LOCAL_IN_CODE: Final = Kind(
    "listens-locally-in-code",
    WARNING,
    "A call in the script that is started seems to listen on 127.0.0.1 or localhost.",
    _EVERYWHERE,
    _NOT_STARTED,
)
HEALTH: Final = Kind(
    "health-check-path",
    ERROR,
    "healthCheckConfig.httpGetUrl is a path that isoruntime answers with 404.",
    "use /health (200 while it can serve or will soon), or /live",
    "Function instance health check failed on port 9000 in 120 seconds.",
)

_HERE: Final = frozenset({"localhost", "::1", "[::1]", "ip6-localhost"})
#: Servers by name, with the address they take when they are told none.
_SERVERS: Final = {
    "gunicorn": ("127.0.0.1", 8000),
    "uvicorn": ("127.0.0.1", 8000),
    "hypercorn": ("127.0.0.1", 8000),
    "flask": ("127.0.0.1", 5000),
    "waitress-serve": ("0.0.0.0", 8080),  # noqa: S104 - what it does
}
_BINDS: Final = ("--bind", "-b", "--listen", "-l")
_HOSTS: Final = ("--host", "-h", "--address")
_PORTS: Final = ("--port", "-p")
#: Their variables may say what their words do not.
_VARIABLES: Final = ("GUNICORN_", "UVICORN_", "FLASK_", "PORT")
_CALLS: Final = frozenset(
    {
        *("run", "serve", "run_simple", "make_server", "create_server", "run_app"),
        *("HTTPServer", "ThreadingHTTPServer", "WSGIServer", "TCPServer"),
    }
)
_HEALTHY: Final = ("/health", "/live")


class _Address(NamedTuple):
    """What was read of where a server listens; empty and 0 where nothing was."""

    host: str = ""
    port: int = 0

    @property
    def is_local(self) -> bool:
        return self.host in _HERE or self.host.startswith("127.")


def check(function: Function) -> Iterator[Finding]:
    """Yield what keeps the platform from reaching the server."""
    if not function.is_custom:
        return
    if function.told:
        yield from _of_ours(function, function.told)
        yield from _health(function)
        return
    for line in function.start.lines:
        if place := _place(function, line):
            yield from _of_command(function, line, place)
    yield from _of_script(function)


def _of_ours(function: Function, told: Told) -> Iterator[Finding]:
    settings = told.settings
    source = settings.source("port")
    by_us = source in ("--port", "ISORUNTIME_PORT")
    if by_us and function.port and settings.port != function.port:
        cause = (
            f"{source} is {settings.port}, and the platform connects to {function.port}"
        )
        fix = f"leave {source} out: the port comes from customRuntimeConfig.port"
        yield PORT.at(_place_of(function, source), cause, fix)
    address = _Address(settings.host)
    if address.is_local:
        source = settings.source("host")
        cause = f"{source} is {settings.host}, where the platform cannot connect to"
        yield LOCAL.at(_place_of(function, source), cause, f"leave {source} out")


def _place_of(function: Function, source: str) -> Place:
    """Return where a flag, or a variable of ours, was given."""
    if source in function.variables:
        return function.place(f"environmentVariables.{source}")
    return function.place_of_flag(source) or function.start.place


def _health(function: Function) -> Iterator[Finding]:
    key = "customRuntimeConfig.healthCheckConfig.httpGetUrl"
    path = function.props.text(key)
    if path and path.partition("?")[0] not in _HEALTHY:
        yield HEALTH.at(function.place(key), f"'{path}' is answered with 404")


# Other servers, by their words.


def _place(function: Function, line: Line) -> Place | None:
    """Return where a line stands, if it may be the one that starts the server."""
    if line.number and line.words[0] != "exec" and not _server_of(line.words):
        return None
    file = function.start.file
    return (
        Place(shown(file), line.number)
        if line.number and file
        else function.start.place
    )


def _of_command(function: Function, line: Line, place: Place) -> Iterator[Finding]:
    if any("$" in word for word in line.words):
        return
    server = _server_of(line.words)
    told = _told(line.words, is_server=bool(server))
    host, port = told
    if server and not _is_configured(function, line.words):
        host, port = host or _SERVERS[server][0], port or _SERVERS[server][1]
    yield from _judged(function, place, _Address(host, port), told, (LOCAL, PORT))


def _server_of(words: list[str]) -> str:
    """Return the name of the server that a command runs, if it is one that is known."""
    rest = [*dropwhile(lambda word: word in ("exec", "env") or "=" in word, words)]
    if rest[:1] and rest[0].rpartition("/")[2].startswith("python"):
        rest = rest[2:] if rest[1:2] == ["-m"] else []
    name = rest[0].rpartition("/")[2] if rest else ""
    # Flask has other commands as well.
    is_known = name in _SERVERS and (name != "flask" or "run" in rest)
    return name if is_known else ""


def _is_configured(function: Function, words: list[str]) -> bool:
    """Tell whether the address may come from a file or a variable."""
    if any(word in ("-c", "--config", "--fd") for word in words):
        return True
    if function.folder and (function.folder / "gunicorn.conf.py").exists():
        return True
    return any(name.startswith(_VARIABLES) for name in environment_of(function))


def _told(words: list[str], *, is_server: bool) -> _Address:
    """Return the address that words give."""
    host, port = "", 0
    for option, value in _options(words):
        # Letters mean what the program wants them to.
        if not (is_server or option.startswith("--")):
            continue
        if option in _HOSTS:
            host = value
        elif option in _PORTS and value.isdecimal():
            port = int(value)
        elif option in _BINDS:
            host, port = _split(value, host, port)
    return _Address(host, port)


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    for at, word in enumerate(words):
        if word.startswith("--") and "=" in word:
            option, _, value = word.partition("=")
            yield option, value
        elif word.startswith("-") and at + 1 < len(words):
            yield word, words[at + 1]


def _split(value: str, host: str, port: int) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`."""
    named, colon, number = value.rpartition(":")
    if colon and number.isdecimal():
        return named or host, int(number)
    return (host, int(value)) if value.isdecimal() else (value, port)


def _judged(
    function: Function,
    place: Place,
    address: _Address,
    told: _Address,
    kinds: tuple[Kind, Kind],
) -> Iterator[Finding]:
    local, other_port = kinds
    if address.is_local:
        how = "" if told.host else ", because it is told no other address"
        yield local.at(place, f"it listens on {address.host}{how}")
    if address.port and function.port and address.port != function.port:
        how = "" if told.port else ", because it is told no other port"
        cause = f"it listens on port {address.port}{how}; the platform connects to {function.port}"
        yield other_port.at(place, cause)


# Other servers, by their code.


def _of_script(function: Function) -> Iterator[Finding]:
    script = function.start.file
    if script is None or not _is_python(script.name, script_of(script)):
        return
    try:
        tree = ast.parse(script_of(script))
    except (SyntaxError, ValueError):
        # Told by the check of the code.
        return
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _name(call.func) in _CALLS:
            address = _of_call(call)
            place = Place(shown(script), call.lineno)
            kinds = (LOCAL_IN_CODE, PORT_IN_CODE)
            yield from _judged(function, place, address, address, kinds)


def _is_python(name: str, text: str) -> bool:
    return name.endswith(".py") or "python" in text.partition("\n")[0]


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _of_call(call: ast.Call) -> _Address:
    """Return the address in a call, as far as it is written out."""
    values = [*call.args]
    if values and isinstance(values[0], ast.Tuple):
        values = [*values[0].elts]
    texts: Mapping[str, ast.expr] = {
        keyword.arg: keyword.value for keyword in call.keywords if keyword.arg
    }
    hosts = [texts.get("host"), texts.get("hostname"), *values[:1]]
    ports = [texts.get("port"), *values[1:2]]
    host = next(filter(None, map(_text, hosts)), "")
    port = next(filter(None, map(_number, ports)), 0)
    if listen := _text(texts.get("listen")):
        host, port = _split(listen, host, port)
    return _Address(host if _is_address(host) else "", port)


def _text(node: ast.expr | None) -> str:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, str) else ""


def _number(node: ast.expr | None) -> int:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if type(value) is int else 0


def _is_address(text: str) -> bool:
    return text in _HERE or text.replace(".", "").isdecimal()
