"""Other servers, and how each of them is started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from benchmarks.hosted.hosting import HANDLER_VARIABLE
from benchmarks.measure.environment import Environment
from benchmarks.measure.servers import HANDLERS, Server, free_port, isoruntime_argv
from isoruntime import __version__

#: Seconds that an invocation may take in the crash table, for servers that can be told.
LIMIT_S: Final = 2

OURS: Final = "isoruntime"


class Peer(NamedTuple):
    """One server, and what its row says about how it was run."""

    name: str
    setting: str
    argv: Callable[[int], list[str]]
    env: Mapping[str, str]

    def server(self, stdout: int | None = None) -> Server:
        """Return it on a port that is free, to be started."""
        port = free_port()
        return Server(self.argv(port), port, env=self.env, stdout=stdout)


def hosting_variables(handler: str) -> dict[str, str]:
    """Return the variables by which the programs in `hosted` find a handler."""
    return {"PYTHONPATH": str(HANDLERS), HANDLER_VARIABLE: handler}


def all_servers(environment: Environment) -> list[Peer]:
    """Return every server of the crash table, ours first.

    Each is run as its documentation has it, with room for two calls at a time and,
    where it has such a setting, a limit of two seconds for each.
    """
    program, version = environment.program, environment.version
    limit = str(LIMIT_S)
    variables = hosting_variables("crashes.handler")

    def gunicorn(*options: str) -> Callable[[int], list[str]]:
        return lambda port: [
            *(program("gunicorn"), "--bind", f"127.0.0.1:{port}"),
            *("--timeout", limit, *options, "wsgi:app"),
        ]

    return [
        Peer(
            f"{OURS} {__version__}",
            f"`--timeout {limit}`",
            lambda port: isoruntime_argv(
                "crashes.handler", HANDLERS, port, "--timeout", limit
            ),
            {},
        ),
        Peer(
            f"Flask's server {version('flask')}",
            "`app.run()`, no limit to set",
            lambda port: [program("python"), str(HANDLERS / "wsgi.py"), str(port)],
            variables,
        ),
        Peer(
            f"gunicorn {version('gunicorn')} sync",
            f"`--workers 2 --timeout {limit}`",
            gunicorn("--workers", "2"),
            variables,
        ),
        Peer(
            f"gunicorn {version('gunicorn')} gthread",
            f"`--workers 1 --threads 2 --timeout {limit}`",
            gunicorn("--workers", "1", "--threads", "2"),
            variables,
        ),
        Peer(
            f"functions-framework {version('functions-framework')}",
            f"`CLOUD_RUN_TIMEOUT_SECONDS={limit}`",
            lambda port: functions_framework_argv(environment, port),
            {**variables, "CLOUD_RUN_TIMEOUT_SECONDS": limit},
        ),
        Peer(
            f"uWSGI {version('uwsgi')}",
            f"`--http … --master --processes 2 --harakiri {limit}`",
            lambda port: [
                *(program("uwsgi"), "--http", f"127.0.0.1:{port}", "--master"),
                *("--processes", "2", "--harakiri", limit, "--need-app"),
                *("--die-on-term", "--module", "wsgi:app"),
            ],
            variables,
        ),
    ]


def functions_framework_argv(environment: Environment, port: int) -> list[str]:
    """Return the command line of functions-framework."""
    return [
        *(environment.program("functions-framework"), "--host", "127.0.0.1"),
        *("--port", str(port), "--target", "main"),
        *("--source", str(HANDLERS / "framework.py")),
    ]
