"""Other servers: an environment of their own to run in, and how they are started."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.measure.markdown import note
from benchmarks.measure.servers import HANDLERS, ROOT, isoruntime_argv
from isoruntime import __version__

_REQUIREMENTS: Final = ROOT / "benchmarks" / "peers.txt"
_INSTALL_S: Final = 600
#: Seconds that an invocation may take, for servers that can be told.
LIMIT_S: Final = 2

OURS: Final = "isoruntime"


class NoPeers(Exception):
    """The other servers cannot be installed."""


class Peer(NamedTuple):
    """One server, and what its row says about how it was run."""

    name: str
    setting: str
    argv: Callable[[int], list[str]]
    env: Mapping[str, str]


class Environment:
    """The virtual environment with the other servers in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def make(cls) -> Environment:
        """Return it, installing it first if it is not there.

        Raises:
            NoPeers: something cannot be installed.
        """
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        identity = f"{sys.version}{sys.base_prefix}{_REQUIREMENTS.read_text()}"
        digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
        folder = cache / "isoruntime-benchmarks" / f"peers-{digest}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "complete").exists():
                _install(folder)
        return cls(folder)

    def program(self, name: str) -> str:
        """Return the path of a program that was installed."""
        return str(self._folder / "bin" / name)

    def version(self, package: str) -> str:
        """Return the version of a package that was installed."""
        code = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
        return _run([self.program("python"), "-c", code, package]).strip()


def _install(folder: Path) -> None:
    note(
        f"installing other servers into {folder}, once; uWSGI is built with a C compiler"
    )
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--requirement", str(_REQUIREMENTS)])
    (folder / "complete").touch()


def _run(argv: list[str]) -> str:
    # An inherited path could make pip believe that a requirement is met.
    env = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    done = subprocess.run(  # noqa: S603 - a command line of ours
        argv, capture_output=True, text=True, timeout=_INSTALL_S, env=env, check=False
    )
    if done.returncode:
        raise NoPeers(f"this failed: {' '.join(argv)}\n{done.stderr[-2000:]}")
    return done.stdout


def all_servers(environment: Environment) -> list[Peer]:
    """Return every server of the table, ours first.

    Each is run as its documentation has it, with room for two calls at a time and,
    where it has such a setting, a limit of two seconds for each.
    """
    program, version = environment.program, environment.version
    limit = str(LIMIT_S)
    path = {"PYTHONPATH": str(HANDLERS)}

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
            path,
        ),
        Peer(
            f"gunicorn {version('gunicorn')} sync",
            f"`--workers 2 --timeout {limit}`",
            gunicorn("--workers", "2"),
            path,
        ),
        Peer(
            f"gunicorn {version('gunicorn')} gthread",
            f"`--workers 1 --threads 2 --timeout {limit}`",
            gunicorn("--workers", "1", "--threads", "2"),
            path,
        ),
        Peer(
            f"functions-framework {version('functions-framework')}",
            f"`CLOUD_RUN_TIMEOUT_SECONDS={limit}`",
            lambda port: [
                *(program("functions-framework"), "--host", "127.0.0.1"),
                *("--port", str(port), "--target", "main"),
                *("--source", str(HANDLERS / "framework.py")),
            ],
            {**path, "CLOUD_RUN_TIMEOUT_SECONDS": limit},
        ),
        Peer(
            f"uWSGI {version('uwsgi')}",
            f"`--http … --master --processes 2 --harakiri {limit}`",
            lambda port: [
                *(program("uwsgi"), "--http", f"127.0.0.1:{port}", "--master"),
                *("--processes", "2", "--harakiri", limit, "--need-app"),
                *("--die-on-term", "--module", "wsgi:app"),
            ],
            path,
        ),
    ]
