"""Commands as their users type them: run to their end, and nothing of them left."""

from __future__ import annotations

import json
import os
import pty
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.server import MARK, PROJECT, lives, marked, temp_folder
from tests.waiting import wait_until


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    stdout: bytes
    stderr: str

    def json(self) -> Any:
        """Return stdout as the JSON value it must be."""
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[str]:
        """The lines of stderr."""
        return self.stderr.splitlines()


def environment(
    mark: str, temp: Path, more: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the variables of a command whose processes are to be found."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "TMPDIR": str(temp),
        "PYTHONPATH": str(PROJECT),
        "PYTHONDONTWRITEBYTECODE": "1",
        MARK: mark,
        "ISORUNTIME_ENV": MARK,
        **(more or {}),
    }


def a_free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at present."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def on_a_terminal(*argv: str, cwd: Path, env: Mapping[str, str]) -> str:
    """Run a program to its end on a terminal of its own; return what a person sees."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        argv,
        **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
        cwd=cwd,
        env=env,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:
            # The last one that had the terminal has ended.
            break
    os.close(ours)
    process.wait(20)
    return shown.decode()


def without(module: str, folder: Path) -> dict[str, str]:
    """Return variables with which Python does not find an installed module."""
    (folder / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "def find_others(name, path=None, target=None):\n"
        f"    return None if name == {module!r} else find(name, path, target)\n"
        "PathFinder.find_spec = find_others\n"
    )
    return {"PYTHONPATH": f"{folder}:{PROJECT}"}


class Command:
    """One command with a folder for temporary files, for the length of a `with` block."""

    def __init__(
        self,
        *words: str,
        cwd: Path = PROJECT,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self._mark = f"{os.getpid()}-{id(self)}-{time.monotonic_ns()}"
        self._temp = temp_folder()
        self._temp.chmod(0o1777)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "isoruntime", *words],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=environment(self._mark, self._temp, env),
        )

    def end(self, given: bytes | None = None, within: float = 30) -> Done:
        """Wait for the end, and prove that nothing is left."""
        try:
            out, err = self.process.communicate(given, timeout=within)
            wait_until(lambda: not self._left(), 2, f"an end of {self._left()}")
            assert [path.name for path in self._temp.iterdir()] == []
        finally:
            self.process.kill()
            for process in self._left():
                process.kill()
            shutil.rmtree(self._temp, ignore_errors=True)
        return Done(self.process.returncode, out, err.decode())

    def _left(self) -> list[Any]:
        return [process for process in marked(self._mark) if lives(process)]


def run(*words: str, given: bytes | None = None, **options: Any) -> Done:
    """Run a command to its end."""
    if given is not None:
        options["stdin"] = subprocess.PIPE
    return Command(*words, **options).end(given)
