"""The runtime as its users see it: a process with a port, an output and an exit code.

`Server` starts the real thing, talks HTTP to it, and proves at the end that nothing
of it is left: no process, no file in its temporary directory. While one is running the
test process is a child subreaper, so that whatever escapes the runtime's own tree
becomes a child of ours, is found, and is killed.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import psutil

from isoruntime.sandbox.paths import temp_parents
from tests.waiting import wait_until

PROJECT = Path(__file__).resolve().parents[2]
HANDLERS = PROJECT / "tests" / "handlers"
EXAMPLES = PROJECT / "examples"

_LISTENING = re.compile(rb"listening on http://[^\s/]*:(\d+)")
_SET_CHILD_SUBREAPER = 36
#: Present in the environment of everything the runtime starts, workers included.
MARK = "E2E_MARK"


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Return the body as the JSON value it must be."""
        return json.loads(self.body)

    @property
    def error_type(self) -> str:
        """The `errorType` of a failure's body."""
        value = self.json()["errorType"]
        assert isinstance(value, str)
        return value

    @property
    def request_id(self) -> str:
        """The id every answer carries."""
        return str(self.headers["x-fc-request-id"])


class Output:
    """One output stream of the runtime, collected as it comes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._collected = bytearray()
        self._lock = threading.Lock()
        self._may_read = threading.Event()
        self._may_read.set()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while chunk := os.read(self._stream.fileno(), 1 << 16):
            with self._lock:
                self._collected += chunk
            self._may_read.wait()

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Read nothing (but what is being read already) for the block's duration."""
        self._may_read.clear()
        try:
            yield
        finally:
            self.resume()

    def resume(self) -> None:
        """Go on reading."""
        self._may_read.set()

    def abandon(self) -> None:
        """Close our end, as a log reader that died does."""
        # Another descriptor takes the pipe's place, so that the thread meets no
        # descriptor number that may be somebody else's by now.
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), self._stream.fileno())

    def read(self, since: int = 0) -> bytes:
        """Return what came so far, from a byte offset on."""
        with self._lock:
            return bytes(self._collected[since:])

    def contains(self, wanted: bytes, since: int = 0) -> bool:
        """Return whether `wanted` came after the byte offset `since`."""
        with self._lock:
            return self._collected.find(wanted, since) >= 0

    def count(self, wanted: bytes) -> int:
        """Return how often `wanted` came so far."""
        with self._lock:
            return self._collected.count(wanted)

    def size(self) -> int:
        """Return how much came so far."""
        return len(self._collected)

    def finish(self) -> None:
        """Take in the rest; every holder of the other end must be gone."""
        self._may_read.set()
        self._thread.join(10)
        assert not self._thread.is_alive(), "somebody still holds the runtime's output"
        self._stream.close()


def temp_folder() -> Path:
    """Make a folder that no worker reaches which it was not granted to, if possible.

    In one below /tmp the runtime would make no temporary folders of workers.
    """
    for parent in temp_parents({"HOME": os.environ.get("HOME", "/")}):
        try:
            Path(parent).mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix="e2e-", dir=parent))
        except OSError:
            continue
    raise AssertionError("there is no place for temporary files")


#: Starts servers that end with the test; the fixture `serve`.
Serve = Callable[..., "Server"]

#: Those that run now, for the fixture that looks for leftovers between tests.
running: list[Server] = []


class Server:
    """The real runtime with a handler, for the duration of a `with` block."""

    def __init__(
        self,
        handler: str | None = None,
        *options: str,
        code_dir: Path = HANDLERS,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "isoruntime", "serve"),
        prefix: Sequence[str] = (),
        within: float = 20,
        belongs: str = "",
    ) -> None:
        """`belongs`: part of the command line of what workers have beside them."""
        self._argv = [*prefix, *command, *([handler] if handler else [])]
        self._argv += ["--port", "0", "--host", "127.0.0.1"]
        self._argv += ["--code-dir", str(code_dir), "--env", MARK, *options]
        self._has_prefix = bool(prefix)
        self._within = within
        self._belongs = belongs
        self._mark = f"{os.getpid()}-{id(self)}-{time.monotonic_ns()}"
        self._temp_dir = temp_folder()
        # Others than root must get through to it, since workers may be others.
        self._temp_dir.chmod(0o1777)
        self._env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": os.environ.get("HOME", "/"),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self._temp_dir),
            "PYTHONPATH": str(PROJECT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ISORUNTIME_PYTHON": sys.executable,
            MARK: self._mark,
            **(env or {}),
        }
        self._connections: dict[int, http.client.HTTPConnection] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._has_ended = False
        self.port = 0

    # Starting and ending

    def __enter__(self) -> Server:
        """Start it and wait until it listens."""
        _be_subreaper(True)
        self._process = subprocess.Popen(
            self._argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._env,
            cwd=PROJECT,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.stdout = Output(self._process.stdout)
        self.stderr = Output(self._process.stderr)
        running.append(self)
        try:
            wait_until(self._has_port_or_ended, self._within, "the port")
            assert self.port, f"it ended: {self.stderr.read().decode()}"
        except BaseException:
            self._abandon()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it; without an error, prove that nothing is left."""
        try:
            if kind is None and not self._has_ended:
                assert self.stop() == 0
        finally:
            self._abandon()

    def stop(self, by: signal.Signals = signal.SIGTERM, within: float = 15) -> int:
        """Send a signal, wait for the end, prove that nothing is left.

        Return the exit code, negative for a signal.
        """
        self.signal(by)
        return self.wait(within)

    def signal(self, which: signal.Signals) -> None:
        """Send a signal to the front end."""
        self.front_end.send_signal(which)

    def wait(self, within: float = 15) -> int:
        """Wait for the end by itself and prove that nothing is left."""
        assert self._process is not None
        self.close_connections()
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            said = self.stderr.read().decode(errors="replace")
            raise AssertionError(f"still running after {within} s; {said}") from None
        wait_until(lambda: not self.left_over(), 2, f"an end of {self.left_over()}")
        self.stdout.finish()
        self.stderr.finish()
        left = [path.name for path in self._temp_dir.iterdir()]
        assert not left, f"left in the temporary directory: {left}"
        self._has_ended = True
        return code

    def left_over(self) -> list[psutil.Process]:
        """Return what still lives although the front end is gone."""
        found = [*_adopted(), *marked(self._mark)]
        return [process for process in dict.fromkeys(found) if lives(process)]

    def _has_port_or_ended(self) -> bool:
        assert self._process is not None
        found = _LISTENING.search(self.stderr.read())
        if found:
            self.port = int(found[1])
        return self.port != 0 or self._process.poll() is not None

    def _abandon(self) -> None:
        """Kill whatever there still is, by process id."""
        if self not in running:
            return
        running.remove(self)
        assert self._process is not None
        self.close_connections()
        tree = []
        if self._process.poll() is None:
            tree = psutil.Process(self._process.pid).children(recursive=True)
            self._process.kill()
            self._process.wait()
        for process in dict.fromkeys([*tree, *self.left_over()]):
            # It may end by itself between the look and the signal.
            if lives(process):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        wait_until(lambda: not self.left_over(), 5, "the end of what was killed")
        for stream in (self.stdout, self.stderr):
            if not stream._stream.closed:
                stream.finish()
        # pytest shows it beside a failure.
        print(self.stderr.read()[-4000:].decode(errors="replace"))
        shutil.rmtree(self._temp_dir, ignore_errors=True)
        _be_subreaper(bool(running))

    # Processes

    @property
    def front_end(self) -> psutil.Process:
        """The process with the port."""
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        return process.children()[0] if self._has_prefix else process

    @property
    def zygotes(self) -> list[psutil.Process]:
        """The processes that fork workers: one, and beside it one that is replaced."""
        children = self.front_end.children()
        return [child for child in children if "zygote" in _command_of(child)]

    @property
    def zygote(self) -> psutil.Process:
        """The process that forks workers now."""
        return max(self.zygotes, key=lambda zygote: zygote.create_time())

    @property
    def pids(self) -> list[int]:
        """The workers, busy or not."""
        return [worker.pid for zygote in self.zygotes for worker in zygote.children()]

    def strays(self) -> list[psutil.Process]:
        """Return what there is below the front end but zygotes, workers and theirs."""
        return [one for one in self._below() if not self._is_theirs(one)]

    def beside_workers(self) -> list[psutil.Process]:
        """Return the processes that belong to workers, such as servers of the user's."""
        return [one for one in self._below() if self._is_theirs(one)]

    def _below(self) -> list[psutil.Process]:
        below = self.front_end.children(recursive=True)
        # Theirs may have it in an argument: the socket that one is to listen on.
        return [
            one
            for one in below
            if self._is_theirs(one) or "isoruntime" not in _command_of(one)
        ]

    def _is_theirs(self, process: psutil.Process) -> bool:
        return bool(self._belongs) and self._belongs in _command_of(process)

    # Output

    def lines(self, since: int = 0) -> list[str]:
        """Return the complete lines of stdout, from a byte offset on."""
        text = self.stdout.read(since)
        complete = text[: text.rfind(b"\n") + 1]
        decoded = complete.decode(errors="replace")
        return decoded.split("\n")[:-1]

    def wait_for_line(self, text: str, since: int = 0, within: float = 10) -> str:
        """Return the first line of stdout that contains `text`, once there is one."""
        found: list[str] = []

        def look() -> bool:
            wanted = text.encode()
            if self.stdout.contains(wanted, since):
                found.extend(line for line in self.lines(since) if text in line)
            return bool(found)

        wait_until(look, within, f"a line with {text!r}")
        return found[0]

    def wait_for_message(self, text: str) -> str:
        """Wait for a message of the runtime's own, and return its line."""
        wanted = text.encode()
        wait_until(lambda: self.stderr.contains(wanted), 10, f"a message with {text!r}")
        lines = self.stderr.read().decode().splitlines()
        return next(line for line in lines if text in line)

    def wait_for_answer(self, body: bytes) -> None:
        """Call until this is the answer."""
        wait_until(lambda: self.invoke().body == body, 10, f"the answer {body!r}")

    def log_of(self, request_id: str, phase: str = "Invoke") -> list[str]:
        """Return the lines from Start to End of an invocation that had it alone."""
        self.wait_for_line(f"FC {phase} End RequestId: {request_id}")
        lines = self.lines()
        start = lines.index(f"FC {phase} Start RequestId: {request_id}")
        (end,) = (
            number
            for number, line in enumerate(lines)
            if line.split(",")[0] == f"FC {phase} End RequestId: {request_id}"
        )
        return lines[start : end + 1]

    # HTTP

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = 30,
    ) -> Reply:
        """Send a request on this thread's keep-alive connection."""
        connection = self._connections.get(threading.get_ident())
        if connection is None:
            connection = http.client.HTTPConnection(
                "127.0.0.1", self.port, timeout=timeout
            )
            self._connections[threading.get_ident()] = connection
        return exchange(connection, method, path, body, headers)

    def once(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            return exchange(connection, method, path, body, headers)
        finally:
            connection.close()

    def invoke(
        self,
        event: bytes | str = b"",
        headers: Mapping[str, str] | None = None,
        *,
        request_id: str | None = None,
    ) -> Reply:
        """Send an event; on this thread's keep-alive connection."""
        body = event.encode() if isinstance(event, str) else event
        wanted = dict(headers or {})
        if request_id is not None:
            wanted["x-fc-request-id"] = request_id
        return self.request("POST", "/invoke", body, wanted)

    @contextmanager
    def raw(self) -> Iterator[RawConnection]:
        """Open a connection for bytes no HTTP client would send."""
        made = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection = RawConnection(made)
        try:
            yield connection
        finally:
            connection.close()

    def close_connections(self) -> None:
        """Close every keep-alive connection."""
        while self._connections:
            self._connections.popitem()[1].close()


class RawConnection:
    """A connection written to in bytes and read answer by answer."""

    def __init__(self, made: socket.socket) -> None:
        self._socket = made
        self._incoming = made.makefile("rb")

    def send(self, data: bytes) -> None:
        """Write bytes."""
        self._socket.sendall(data)

    def answer(self, method: str = "POST") -> Reply:
        """Read one answer, and not a byte more."""
        status_line = self._incoming.readline()
        status = int(status_line.split()[1])
        headers = http.client.parse_headers(self._incoming)
        has_body = method != "HEAD" and status not in (100, 204, 304)
        length = int(headers["Content-Length"]) if has_body else 0
        return Reply(status, headers, self._incoming.read(length))

    def is_closed_by_peer(self) -> bool:
        """Wait for the peer's end; a reset is one, where it left bytes unread."""
        try:
            return self._incoming.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """Close it."""
        self._incoming.close()
        self._socket.close()


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | Iterator[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send one request and read its whole answer."""
    wanted = dict(headers or {})
    is_chunked = "Transfer-Encoding" in wanted
    connection.request(method, path, body, wanted, encode_chunked=is_chunked)
    response = connection.getresponse()
    return Reply(response.status, response.headers, response.read())


def _be_subreaper(wanted: bool) -> None:
    # Safe because it only decides who adopts orphans; undone with the last server,
    # so that tests of other parts see orphans go where they always go.
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)


def _adopted() -> list[psutil.Process]:
    """Return what the kernel made our child because its parents are gone."""
    known = {server._process.pid for server in running if server._process}
    return [child for child in psutil.Process().children() if child.pid not in known]


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes that were started, or whose parents were, with this mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _command_of(process: psutil.Process) -> str:
    """Return the command line, empty for a zombie; an ended process was never there."""
    try:
        return " ".join(process.cmdline())
    except psutil.ZombieProcess:
        return ""
    except psutil.NoSuchProcess:
        return "isoruntime, ended"


def is_sleep(process: psutil.Process) -> bool:
    """Return whether it is, or was until somebody collects it, a sleep."""
    try:
        return process.name() == "sleep"
    except psutil.NoSuchProcess:
        return False


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
