"""The environment that other servers run in: made once, below the checkout."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.measure.markdown import note
from benchmarks.measure.servers import ROOT

_REQUIREMENTS: Final = ROOT / "benchmarks" / "requirements.txt"
_FOLDER: Final = ROOT / ".venv-peers"
_INSTALL_S: Final = 600


class NoPeers(Exception):
    """The other servers cannot be installed."""


class Environment:
    """The virtual environment with the other servers in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._versions: dict[str, str] = {}

    @classmethod
    def make(cls) -> Environment:
        """Return it, installing it first if it is not there or not up to date.

        Raises:
            NoPeers: something cannot be installed.
        """
        identity = f"{sys.version}\n{sys.base_prefix}\n{_REQUIREMENTS.read_text()}"
        complete = _FOLDER / "complete"
        # The lock is on the checkout itself, so there is no lock file to forget.
        lock = os.open(ROOT, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not complete.exists() or complete.read_text() != identity:
                _install()
                complete.write_text(identity)
        finally:
            os.close(lock)
        return cls(_FOLDER)

    def program(self, name: str) -> str:
        """Return the path of a program that was installed."""
        return str(self._folder / "bin" / name)

    def version(self, package: str) -> str:
        """Return the version of a package that was installed."""
        if package not in self._versions:
            code = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
            found = _run([self.program("python"), "-c", code, package]).strip()
            self._versions[package] = found
        return self._versions[package]


def _install() -> None:
    note(f"installing other servers into {_FOLDER}, once; uWSGI needs a C compiler")
    _run([sys.executable, "-m", "venv", "--clear", str(_FOLDER)])
    python = str(_FOLDER / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--requirement", str(_REQUIREMENTS)])


def _run(argv: list[str]) -> str:
    # An inherited path could make pip believe that a requirement is met.
    env = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    done = subprocess.run(  # noqa: S603 - a command line of ours
        argv, capture_output=True, text=True, timeout=_INSTALL_S, env=env, check=False
    )
    if done.returncode:
        raise NoPeers(f"this failed: {' '.join(argv)}\n{done.stderr[-2000:]}")
    return done.stdout
