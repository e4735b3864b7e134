"""The servers that `benchmarks/run` compares, each with the handler it is asked for."""

from __future__ import annotations

import sys
import time
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.measure.environment import Environment
from benchmarks.measure.peers import Peer, functions_framework_argv, hosting_variables
from benchmarks.measure.servers import HANDLERS, MARK, isoruntime_argv
from isoruntime import __version__

OURS: Final = "isoruntime"
OFF: Final = "isoruntime `--sandbox off`"
WAITRESS: Final = {threads: f"waitress, {threads} threads" for threads in (4, 8, 200)}
GUNICORN: Final = "gunicorn, Flask, 2 sync workers"
FRAMEWORK: Final = "functions-framework"
SAMPLE: Final = "the platform's Flask sample"
UWSGI: Final = "uWSGI's router, 2 processes"
PEBBLE: Final = "pebble, 2 processes"
SPAWN: Final = "`python handler.py` per call"

SAMPLE_ANSWER: Final = b"Hello, World!"

_BUSY_S: Final = 0.005
_PROBE_STEPS: Final = 100_000


class Contenders:
    """Says how each server is started. One object serves a whole run."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def isoruntime(
        self,
        handler: str,
        *options: str,
        sandbox: str = "standard",
        ballast_mb: int = 0,
    ) -> Peer:
        """Return the runtime, as somebody gets it who changes no more than this."""
        told = [*options, "--sandbox", sandbox]
        return Peer(
            OURS if sandbox == "standard" else OFF,
            " ".join(told),
            lambda port: isoruntime_argv(handler, HANDLERS, port, *told),
            {
                "BENCHMARK_STEPS": str(self.busy_steps),
                "BENCHMARK_BALLAST_MB": str(ballast_mb),
            },
        )

    def packaged(self, name: str, handler: str, code: Path) -> Peer:
        """Return the runtime as the platform starts it, from an unpacked zip."""
        return Peer(
            name,
            "bootstrap",
            lambda port: [
                *(str(code / "bootstrap"), handler, "--code-dir", str(code)),
                *("--host", "127.0.0.1", "--port", str(port), "--env", MARK),
            ],
            {"ISORUNTIME_PYTHON": sys.executable},
        )

    def both(self, handler: str, *options: str) -> list[Peer]:
        """Return the runtime with its default sandbox, and without any."""
        return [
            self.isoruntime(handler, *options, sandbox=sandbox)
            for sandbox in ("standard", "off")
        ]

    def waitress(self, handler: str, threads: int = 8) -> Peer:
        """Return waitress calling the handler in its own process."""
        return self._script(
            WAITRESS[threads], handler, "inprocess.py", str(threads), is_peer=False
        )

    def gunicorn(self, handler: str) -> Peer:
        """Return gunicorn with as many workers as the machine has cores, and Flask."""
        gunicorn = self._environment.program("gunicorn")
        return Peer(
            GUNICORN,
            "--workers 2",
            lambda port: [
                *(gunicorn, "--bind", f"127.0.0.1:{port}", "--workers", "2"),
                "wsgi:app",
            ],
            self._variables(handler),
        )

    def functions_framework(self, handler: str) -> Peer:
        """Return functions-framework as it starts by default."""
        return Peer(
            FRAMEWORK,
            "",
            lambda port: functions_framework_argv(self._environment, port),
            self._variables(handler),
        )

    def sample(self) -> Peer:
        """Return the sample of the platform's documentation, with its own handler."""
        return self._script(SAMPLE, "", "run_sample.py")

    def uwsgi(self, handler: str) -> Peer:
        """Return uWSGI with its router in C, keeping connections, without Flask."""
        uwsgi = self._environment.program("uwsgi")
        return Peer(
            UWSGI,
            "--http … --http-keepalive --master --processes 2 --disable-logging",
            lambda port: [
                *(uwsgi, "--http", f"127.0.0.1:{port}", "--http-keepalive=75"),
                *("--master", "--processes", "2", "--disable-logging"),
                *("--need-app", "--die-on-term", "--module", "wsgi:plain"),
            ],
            self._variables(handler),
        )

    def pebble(self, handler: str) -> Peer:
        """Return a pool of processes with limits, as one would build it."""
        return self._script(PEBBLE, handler, "pooled.py", "2")

    def spawn(self) -> Peer:
        """Return a server that starts an interpreter for every call."""
        return self._script(SPAWN, "functions.small", "spawning.py", is_peer=False)

    def kind(self, name: str, *options: str) -> Peer:
        """Return the runtime with another kind of function than a handler."""
        # The applications import what only the peers' environment has.
        return Peer(
            name,
            " ".join(options),
            lambda port: [
                *(self.peer_program("python"), "-m", "isoruntime", "serve"),
                *("--host", "127.0.0.1", "--port", str(port)),
                *("--code-dir", str(HANDLERS), "--env", MARK, *options),
            ],
            {},
        )

    def commanding(self, name: str, *argv: str) -> Peer:
        """Return a web server that runs a command for every call."""
        return Peer(
            name,
            "commanding.py",
            lambda port: [
                *(sys.executable, str(HANDLERS / "commanding.py"), str(port), *argv)
            ],
            hosting_variables("functions.echo"),
        )

    def serving(self, name: str, program: str, *words: str) -> Peer:
        """Return a server as it is; `{port}` or PORT tells it where to listen."""
        return Peer(
            name,
            " ".join(words),
            lambda port: [
                *("env", "--chdir", str(HANDLERS), f"PORT={port}"),
                self.peer_program(program),
                *(word.replace("{port}", str(port)) for word in words),
            ],
            {},
        )

    def peer_program(self, name: str) -> str:
        """Return a program of the environment that has the peers."""
        return self._environment.program(name)

    def versions(self) -> dict[str, str]:
        """Return the versions of everything that is compared."""
        found = {"isoruntime": __version__, "waitress": version("waitress")}
        for package in (
            "flask",
            "gunicorn",
            FRAMEWORK,
            "uwsgi",
            "pebble",
            "starlette",
            "uvicorn",
        ):
            found[package] = self._environment.version(package)
        return found

    @cached_property
    def busy_steps(self) -> int:
        """How many steps of `functions.busy` this machine does in 5 ms when alone."""
        best_s = min(_steps_s(_PROBE_STEPS) for _ in range(20))
        return round(_PROBE_STEPS * _BUSY_S / best_s)

    def _script(
        self, name: str, handler: str, script: str, *words: str, is_peer: bool = True
    ) -> Peer:
        # What needs nothing that we have not runs where we run, with our waitress.
        python = self._environment.program("python") if is_peer else sys.executable
        return Peer(
            name,
            " ".join([script, *words]),
            lambda port: [python, str(HANDLERS / script), str(port), *words],
            self._variables(handler),
        )

    def _variables(self, handler: str) -> dict[str, str]:
        return {
            **hosting_variables(handler),
            "BENCHMARK_STEPS": str(self.busy_steps),
        }


def _steps_s(steps: int) -> float:
    began = time.perf_counter()
    total = 0
    for number in range(steps):
        total += number & 7
    return time.perf_counter() - began
