"""Load: wrk, started for one run at a time, and what it counted."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.measure.invocation import SMALL, Request
from benchmarks.measure.servers import ServerFailed

_GRACE_S: Final = 30
_INSTALL: Final = "wrk is not on PATH; on Debian: apt-get install wrk"
#: Longer bodies are not written out in the script, where wrk would parse them.
_SHORT: Final = 4096
_PATIENCE_S: Final = 30.0
_SPARE_FDS: Final = 200

#: wrk reports through a script of its own language; latencies are in microseconds.
_SCRIPT: Final = """
wrk.method = "POST"
wrk.body = %s
%s
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests": %%d, "duration_us": %%d, "p50_us": %%d, "p99_us": %%d, ' ..
    '"max_us": %%d, "wrong_status": %%d, "socket_errors": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), latency.max,
    e.status, e.connect + e.read + e.write + e.timeout))
end
"""


class NoGenerator(Exception):
    """There is no load generator, or it did not do its work."""


class Load(NamedTuple):
    """What one run came to; latencies in milliseconds."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    wrong_status: int
    socket_errors: int

    @property
    def per_s(self) -> float:
        """How many calls a second were answered."""
        return self.requests / self.seconds

    @property
    def failures(self) -> int:
        """How many calls got no answer, or not the one they must get."""
        return self.wrong_status + self.socket_errors


def version() -> str:
    """Return wrk's version.

    Raises:
        NoGenerator: it is not installed.
    """
    wrk = _find()
    done = subprocess.run(  # noqa: S603 - found on PATH, no arguments from outside
        [wrk, "--version"], capture_output=True, text=True, check=False
    )
    return " ".join(done.stdout.split()[:2])


def run(port: int, connections: int, seconds: float, request: Request = SMALL) -> Load:
    """Send the same request over and over for so many seconds.

    Raises:
        NoGenerator: wrk is missing, or says nothing we understand.
        ServerFailed: not one answer came in all that time.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(script_of(request))
        script.flush()
        done = subprocess.run(  # noqa: S603 - found on PATH, arguments of ours
            [
                *(_find(), "--threads", "1", "--connections", str(connections)),
                *("--duration", f"{max(1, round(seconds))}s", "--timeout", "10s"),
                *("--script", script.name, f"http://127.0.0.1:{port}/invoke"),
            ],
            capture_output=True,
            text=True,
            timeout=seconds + _GRACE_S,
            check=False,
        )
    result = read(done.stdout, done.stderr)
    if not result.requests:
        raise ServerFailed(f"no answer to {connections} connections in {seconds:g} s")
    return result


def script_of(request: Request) -> str:
    """Return the script that makes wrk send a request and report in one line."""
    lines = "\n".join(
        f"wrk.headers[{_quoted(name)}] = {_quoted(value)}"
        for name, value in request.headers.items()
    )
    return _SCRIPT % (_body(request.body), lines)


def read(stdout: str, stderr: str = "") -> Load:
    """Return what wrk reported.

    Raises:
        NoGenerator: it reported nothing.
    """
    for line in stdout.splitlines():
        if line.startswith("RESULT "):
            result = json.loads(line.removeprefix("RESULT "))
            return Load(
                requests=result["requests"],
                seconds=result["duration_us"] / 1e6,
                p50_ms=result["p50_us"] / 1000,
                p99_ms=result["p99_us"] / 1000,
                max_ms=result["max_us"] / 1000,
                wrong_status=result["wrong_status"],
                socket_errors=result["socket_errors"],
            )
    raise NoGenerator(f"wrk gave no result: {stdout[-500:]} {stderr[-500:]}")


@contextlib.contextmanager
def idle_connections(port: int, count: int, request: bytes) -> Iterator[None]:
    """Hold so many connections that have had one answer each and say no more.

    Raises:
        ServerFailed: the server did not keep one open.
    """
    with contextlib.ExitStack() as stack:
        held = []
        for _ in range(count):
            try:
                one = socket.create_connection(("127.0.0.1", port), _PATIENCE_S)
                held.append(stack.enter_context(one))
                one.sendall(request)
                answer = one.recv(65536)
            except OSError as error:
                raise ServerFailed(f"idle connection {len(held)}: {error}") from error
            if not answer.startswith(b"HTTP/1.1 200"):
                raise ServerFailed(f"idle connection {len(held)}: {answer[:80]!r}")
        yield
        for one in held:
            one.setblocking(False)
        if any(map(_is_closed, held)):
            raise ServerFailed("idle connections were closed")


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(65536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def raise_descriptor_limit(connections: int) -> None:
    """Let this process, and the servers it starts, hold so many connections.

    Raises:
        NoGenerator: the system allows fewer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _SPARE_FDS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise NoGenerator(f"{wanted} descriptors are needed: raise `ulimit -Hn {hard}`")
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _find() -> str:
    found = shutil.which("wrk")
    if found is None:
        raise NoGenerator(_INSTALL)
    return str(Path(found))


def _body(body: bytes) -> str:
    if len(body) <= _SHORT:
        return _quoted(body.decode())
    assert body.count(body[:1]) == len(body), "long bodies are one letter, repeated"
    return f"string.rep({_quoted(body[:1].decode())}, {len(body)})"


def _quoted(text: str) -> str:
    # JSON's escapes are among Lua's, as long as everything is printable ASCII.
    assert text.isascii()
    assert text.isprintable()
    return json.dumps(text)
