"""A server under measurement: started, waited for, and ended with all it started.

Everything a server starts carries `MARK` in its environment, and while servers run
this process adopts orphans. So whatever a server leaves behind is found, by one way
or the other, however it has detached itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

import psutil

ROOT: Final = Path(__file__).resolve().parents[2]
HANDLERS: Final = ROOT / "benchmarks" / "hosted"
MARK: Final = "BENCHMARK_MARK"

_SET_CHILD_SUBREAPER: Final = 36
_START_S: Final = 30.0
_STOP_S: Final = 10.0


class ServerFailed(Exception):
    """A server did not start, so there is nothing to measure."""


def isoruntime_argv(
    handler: str, code_dir: Path, port: int, *options: str
) -> list[str]:
    """Return the command line of the runtime itself."""
    return [
        *(sys.executable, "-m", "isoruntime", "serve", handler),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--code-dir", str(code_dir), "--env", MARK, *options),
    ]


def output_of(argv: Sequence[str]) -> str:
    """Run a command line of ours to its end; return what it printed.

    Raises:
        ServerFailed: with what it said of its failure.
    """
    done = subprocess.run(argv, capture_output=True, text=True, check=False)  # noqa: S603 - see above
    if done.returncode:
        raise ServerFailed(done.stderr)
    return done.stdout


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(
    condition: Callable[[], object], within_s: float, every_s: float = 0.005
) -> bool:
    """Return whether `condition` came true in time."""
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(every_s)
    return True


#: The processes of all that are within their `with` block.
_started: Final[set[int]] = set()


class Server:
    """One server process with its tree, for the duration of a `with` block.

    `stdout` is where its output goes: a descriptor, or `None` for nowhere. Its
    standard error is kept in a file, for `said()`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        port: int,
        *,
        env: Mapping[str, str] | None = None,
        stdout: int | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self.port = port
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self._argv = list(argv)
        self._cwd = cwd
        self._stdout = stdout
        self._dir = Path(tempfile.mkdtemp(prefix="benchmark-"))
        self.temp_dir = self._dir / "tmp"
        self.temp_dir.mkdir()
        # Workers may be other users than we are.
        self._dir.chmod(0o755)
        self.temp_dir.chmod(0o1777)
        self._stderr = self._dir / "stderr"
        self._env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self._dir),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.temp_dir),
            "PYTHONPATH": str(ROOT),
            MARK: self.mark,
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0

    def __enter__(self) -> Server:
        """Start it, without waiting for anything."""
        adopt_orphans()
        with self._stderr.open("wb") as stderr:
            self.started_at = time.monotonic()
            self._process = subprocess.Popen(  # noqa: S603 - a command line of ours
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if self._stdout is None else self._stdout,
                stderr=stderr,
                env=self._env,
                cwd=self._cwd,
            )
        _started.add(self.pid)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it and whatever it left."""
        self.stop()
        self.kill_left_over()
        _started.discard(self.pid)
        shutil.rmtree(self._dir, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None
        return self._process.pid

    @property
    def process(self) -> psutil.Process:
        """The process that was started."""
        return psutil.Process(self.pid)

    @property
    def has_ended(self) -> bool:
        """Whether the process that was started has ended."""
        return self._process is None or self._process.poll() is not None

    def said(self, tail: int = 4000) -> str:
        """Return the end of its standard error."""
        return self._stderr.read_bytes()[-tail:].decode(errors="replace")

    def connect(
        self, timeout_s: float = 30.0, every_s: float = 0.0002
    ) -> socket.socket:
        """Return the first connection it accepts.

        Raises:
            ServerFailed: it ended, or did not listen in time.
        """
        until = time.monotonic() + _START_S
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), timeout_s)
            except ConnectionRefusedError:
                if self.has_ended or time.monotonic() > until:
                    raise ServerFailed(
                        f"{self._argv}: does not listen: {self.said()}"
                    ) from None
                time.sleep(every_s)

    def stop(self) -> int | None:
        """Ask it to end, force it if need be; return the exit code it chose itself."""
        process = self._process
        if process is None:
            return None
        process.terminate()
        try:
            return process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None

    def left_over(self) -> list[psutil.Process]:
        """Return what lives of it besides the process that was started.

        Whose the orphans are that hide where they come from cannot be told: with several
        servers up they count as left over by each.
        """
        found = [*_marked(self.mark), *_adopted()]
        return [
            process
            for process in dict.fromkeys(found)
            if process.pid not in _started and lives(process)
        ]

    def kill_left_over(self) -> None:
        """SIGKILL everything of it that is still there."""

        def is_all_gone() -> bool:
            left = self.left_over()
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            return not left

        wait_until(is_all_gone, _STOP_S)


def lives(process: psutil.Process) -> bool:
    """Return whether it runs; an adopted zombie is reaped on the way."""
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return True
        if process.ppid() == os.getpid():
            os.waitpid(process.pid, os.WNOHANG)
    except (psutil.NoSuchProcess, ChildProcessError):
        pass
    return False


def end_on_signals() -> None:
    """Have a signal end this program as an error does: servers are ended too."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def adopt_orphans() -> None:
    """Make this process the parent of whatever a server orphans."""
    # Safe because it only decides who adopts: nothing here waits for any child.
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _adopted() -> list[psutil.Process]:
    """Return our children: those that are no servers were adopted."""
    return psutil.Process().children()


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found
