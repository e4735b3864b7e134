"""Isolation that is asked for is given, or nothing is started."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.server import HANDLERS, MARK, Serve

#: Refuses what Docker's default profile refuses: there are no namespaces then.
AS_IN_DOCKER = (
    sys.executable,
    str(Path(__file__).parents[1] / "sandbox" / "launch.py"),
    "--filter",
    "--capabilities",
    "none",
    "--",
)


def refused(*words: str, prefix: tuple[str, ...] = ()) -> list[str]:
    """Return the complaints of a start that must not happen."""
    mark = f"refused-{time.monotonic_ns()}"
    command = [*prefix, sys.executable, "-m", "isoruntime", "serve", "--port", "0"]
    done = subprocess.run(
        [*command, "--code-dir", str(HANDLERS), *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={
            "PYTHONPATH": str(HANDLERS.parents[1]),
            "PATH": "/usr/bin:/bin",
            MARK: mark,
        },
    )
    assert done.returncode == 2
    assert done.stdout == ""
    left = [one for one in psutil.process_iter(["environ"]) if _has(one, mark)]
    psutil.wait_procs(left, timeout=5)
    assert not any(one.is_running() for one in left)
    return done.stderr.splitlines()


def _has(process: psutil.Process, mark: str) -> bool:
    environ: dict[str, str] | None = process.info["environ"]
    return bool(environ) and environ.get(MARK) == mark


def test_strict_does_not_start_without_namespaces_and_says_what_to_do() -> None:
    lines = refused("--sandbox", "strict", prefix=AS_IN_DOCKER)
    assert all("--sandbox strict cannot be kept: " in line for line in lines)
    (line,) = [line for line in lines if ": namespaces: " in line]
    assert "Operation not permitted" in line
    assert "seccomp=unconfined" in line


def test_without_a_sandbox_there_is_no_way_to_keep_handlers_from_the_network() -> None:
    (line,) = refused("--sandbox", "off", "--network", "none")
    assert line.startswith("isoruntime: --network none cannot be kept: ")
    assert "--sandbox standard or strict" in line


@pytest.mark.parametrize("words", [("standard", "none"), ("strict", "none")])
def test_where_no_network_was_asked_for_there_is_none(
    serve: Serve, words: tuple[str, str], code_dir: Path
) -> None:
    (code_dir / "index.py").write_text(
        "import socket\n"
        "def handler(event, context):\n"
        "    port = int(event)\n"
        "    try:\n"
        "        socket.create_connection(('127.0.0.1', port), 1).close()\n"
        "    except OSError:\n"
        "        return 'refused'\n"
        "    return 'connected'\n"
    )
    sandbox, network = words
    server = serve(None, "--sandbox", sandbox, "--network", network, code_dir=code_dir)
    # The front end's own port is the first thing a handler would try.
    assert server.invoke(str(server.port)).body == b"refused"


def test_the_usual_start_waits_for_no_rehearsal() -> None:
    code = (
        "import sys, isoruntime.cli.serve as serve\n"
        "from isoruntime.settings import read_settings\n"
        "serve._demand_isolation(read_settings({}, {}), {})\n"
        "print(*(name for name in sys.modules if 'rehearsal' in name or 'cli.iso' in name))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"
