"""Isolation that is asked for is given, or nothing is started."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.server import HANDLERS, MARK, Serve
from tests.waiting import wait_until

#: Refuses what Docker's default profile refuses: there are no namespaces then.
AS_IN_DOCKER = (
    sys.executable,
    str(Path(__file__).parents[1] / "sandbox" / "launch.py"),
    "--filter",
    "--capabilities",
    "none",
    "--",
)

#: Refuses system call filters, as a kernel without them would. EINVAL, x86_64 or aarch64.
WITHOUT_FILTERS = (
    sys.executable,
    "-c",
    """
import os, sys
from isoruntime.sandbox import _libc, bpf
prctl = {"x86_64": 157, "aarch64": 167}[os.uname().machine]
_libc.set_no_new_privileges()
_libc.install_filter(bpf.assemble([
    bpf.load(0), bpf.if_equal(prctl, then=1), bpf.give(0x7FFF0000),
    bpf.load(16), bpf.if_equal(22, then=1), bpf.give(0x7FFF0000),
    bpf.give(0x00050000 | 22),
]))
os.execv(sys.argv[1], sys.argv[1:])
""",
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


def test_all_that_strict_lacks_is_listed_a_line_each() -> None:
    lines = refused("--sandbox", "strict", prefix=(*AS_IN_DOCKER, *WITHOUT_FILTERS))
    named = [line.split(" cannot be kept: ")[1].split(":")[0] for line in lines]
    assert named == ["seccomp", "namespaces"]
    assert "the kernel has no system call filters: run on a kernel with" in lines[0]


def test_no_network_is_refused_where_only_half_of_it_could_be_kept() -> None:
    words = ("--sandbox", "standard", "--network", "none")
    lines = refused(*words, prefix=WITHOUT_FILTERS)
    assert lines[0].startswith(
        "isoruntime: --network none cannot be kept: seccomp: "
        "the kernel has no system call filters: "
    )


def test_standard_starts_without_what_the_host_lacks_and_says_so(
    serve: Serve,
) -> None:
    command = (*WITHOUT_FILTERS, sys.executable, "-m", "isoruntime", "serve")
    server = serve("echo.handler", command=command)
    assert server.invoke("still here").body == b"still here"
    said = "seccomp (the kernel has no system call filters)"
    wait_until(lambda: said.encode() in server.stderr.read(), 5, said)


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
        "serve.demand_isolation(read_settings({}, {}), {})\n"
        "print(*(name for name in sys.modules if 'rehearsal' in name or 'cli.iso' in name))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"
