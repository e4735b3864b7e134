"""Load: wrk, started for one run at a time, and what it counted."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

_GRACE_S: Final = 15
_INSTALL: Final = "wrk is not on PATH; on Debian: apt-get install wrk"

#: wrk reports through a script of its own language; latencies are in microseconds.
_SCRIPT: Final = """
wrk.method = "POST"
wrk.body = %s
%s
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests": %%d, "duration_us": %%d, "p50_us": %%d, "p99_us": %%d, ' ..
    '"max_us": %%d, "failures": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), latency.max,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


class NoGenerator(Exception):
    """There is no load generator, or it did not do its work."""


class Load(NamedTuple):
    """What one run came to; latencies in milliseconds."""

    per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    requests: int
    failures: int


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


def run(
    port: int,
    connections: int,
    seconds: float,
    body: bytes,
    headers: Mapping[str, str],
) -> Load:
    """Send the same request over and over for so many seconds.

    Raises:
        NoGenerator: wrk is missing, or says nothing we understand.
    """
    lines = "\n".join(
        f"wrk.headers[{_quoted(name)}] = {_quoted(value)}"
        for name, value in headers.items()
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % (_quoted(body.decode()), lines))
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
    return _read(done.stdout, done.stderr)


def _read(stdout: str, stderr: str) -> Load:
    for line in stdout.splitlines():
        if line.startswith("RESULT "):
            result = json.loads(line.removeprefix("RESULT "))
            return Load(
                per_s=result["requests"] / (result["duration_us"] / 1e6),
                p50_ms=result["p50_us"] / 1000,
                p99_ms=result["p99_us"] / 1000,
                max_ms=result["max_us"] / 1000,
                requests=result["requests"],
                failures=result["failures"],
            )
    raise NoGenerator(f"wrk gave no result: {stdout[-500:]} {stderr[-500:]}")


def _find() -> str:
    found = shutil.which("wrk")
    if found is None:
        raise NoGenerator(_INSTALL)
    return str(Path(found))


def _quoted(text: str) -> str:
    # JSON's escapes are among Lua's, as long as everything is printable ASCII.
    assert text.isascii()
    assert text.isprintable()
    return json.dumps(text)
