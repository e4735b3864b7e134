"""Code that is tried beside the code that serves, and everything that ends the attempt."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.server import Serve, Server
from tests.waiting import wait_until

GOOD = """\
import os, tempfile, time
def handler(event, context):
    if event:
        with tempfile.NamedTemporaryFile("w", delete=False) as file:
            file.write("kept")
        print("waiting", flush=True)
        while not os.path.exists(event.decode()):
            time.sleep(0.005)
        return open(file.name).read()
    return {value!r}
"""
HANGS = "import time\nprint('hanging', flush=True)\ntime.sleep(600)\n"
#: What may become of the newer code's import, and a part of what is told of it.
ENDS = {
    "exit": ("import os\nos._exit(3)\n", "ended the process with code 3"),
    "a signal": ("import os\nos.kill(os.getpid(), 11)\n", "ended by SIGSEGV"),
    "an exception": (
        "\n\nraise ValueError('no')\n",
        "ValueError: no (index.py line 3)",
    ),
    "no handler": ("x = 1\n", "'handler' is missing"),
    "no file": ("", "is missing"),
}


def write(code_dir: Path, text: str) -> None:
    (code_dir / "index.py").write_text(text)


def good(code_dir: Path, value: str) -> None:
    write(code_dir, GOOD.format(value=value))


@pytest.fixture
def server(serve: Serve, code_dir: Path) -> Server:
    """Return a server whose code is about to change."""
    good(code_dir, "old")
    started = serve("index.handler", "--reload", code_dir=code_dir)
    assert started.invoke().body == b"old"
    return started


def successor_of(server: Server, former: psutil.Process) -> psutil.Process:
    """Wait for the zygote of the newer code."""

    def others() -> list[psutil.Process]:
        return [one for one in server.zygotes if one.pid != former.pid]

    wait_until(others, 10, "there is a successor")
    return others()[0]


@pytest.mark.parametrize("preload", ["auto", "never"])
@pytest.mark.parametrize("how", ENDS)
def test_the_code_before_serves_on_however_the_newer_one_fails(
    serve: Serve, code_dir: Path, how: str, preload: str
) -> None:
    code, reason = ENDS[how]
    good(code_dir, "old")
    server = serve("index.handler", "--reload", "--preload", preload, code_dir=code_dir)
    assert server.invoke().body == b"old"
    (zygote,) = server.zygotes
    write(code_dir, code)
    line = server.wait_for_message("not reloaded")
    assert reason in line
    assert server.invoke().body == b"old"
    wait_until(lambda: server.zygotes == [zygote], 5, "the former zygote is alone")
    good(code_dir, "new")
    server.wait_for_answer(b"new")


def test_files_of_what_runs_survive_newer_code_that_fails(
    serve: Serve, code_dir: Path, gate: Path
) -> None:
    good(code_dir, "old")
    server = serve("index.handler", "--reload", "--sandbox", "off", code_dir=code_dir)
    with ThreadPoolExecutor(1) as others:
        running = others.submit(server.once, "POST", "/invoke", str(gate).encode())
        wait_until(lambda: server.stdout.contains(b"waiting"))
        (zygote,) = server.zygotes
        write(code_dir, "nonsense(")
        server.wait_for_message("not reloaded")
        wait_until(lambda: server.zygotes == [zygote], 5, "the successor is gone")
        gate.touch()
        assert running.result(10).body == b"kept"


def test_newer_code_that_hangs_gives_way_to_code_newer_still(
    server: Server, code_dir: Path
) -> None:
    (zygote,) = server.zygotes
    write(code_dir, HANGS)
    hanging = successor_of(server, zygote)
    wait_until(lambda: server.stdout.contains(b"hanging"))
    assert server.invoke().body == b"old"
    good(code_dir, "new")
    server.wait_for_answer(b"new")
    wait_until(lambda: not hanging.is_running(), 5, "what hung is gone")
    assert server.stderr.count(b"reloaded in") == 1


def test_newer_code_that_hangs_is_told_of_when_its_time_is_up(
    serve: Serve, code_dir: Path
) -> None:
    good(code_dir, "old")
    options = ("--reload", "--init-timeout", "1")
    server = serve("index.handler", *options, code_dir=code_dir)
    assert server.invoke().body == b"old"
    write(code_dir, HANGS)
    assert "timed out" in server.wait_for_message("not reloaded")
    assert server.invoke().body == b"old"
    assert len(server.zygotes) == 1


def test_a_successor_that_is_killed_is_no_more_than_told_of(
    server: Server, code_dir: Path
) -> None:
    (zygote,) = server.zygotes
    write(code_dir, HANGS)
    successor_of(server, zygote).send_signal(signal.SIGKILL)
    assert "ended by SIGKILL" in server.wait_for_message("not reloaded")
    assert server.invoke().body == b"old"


def test_newer_code_serves_also_where_what_it_succeeds_was_killed_meanwhile(
    server: Server, code_dir: Path, tmp_path: Path
) -> None:
    (zygote,) = server.zygotes
    loads = tmp_path / "loads"
    wait = (
        f"import os, time\nwhile not os.path.exists({str(loads)!r}): time.sleep(.01)\n"
    )
    write(code_dir, wait + GOOD.format(value="new"))
    successor_of(server, zygote)
    zygote.send_signal(signal.SIGKILL)
    wait_until(lambda: not zygote.is_running(), 5, "the former zygote is gone")
    loads.touch()
    server.wait_for_answer(b"new")
    wait_until(lambda: len(server.zygotes) == 1, 5, "one zygote is left")


def test_many_changes_in_a_row_leave_the_last_one_and_nothing_else(
    server: Server, code_dir: Path
) -> None:
    for number in range(12):
        good(code_dir, f"number {number}")
        assert server.invoke().status == 200
    server.wait_for_answer(b"number 11")
    wait_until(lambda: len(server.zygotes) == 1, 5, "one zygote is left")
    assert server.invoke().body == b"number 11"


def test_a_successor_holds_no_end_of_a_worker_it_did_not_fork(
    server: Server, code_dir: Path, gate: Path
) -> None:
    with ThreadPoolExecutor(1) as others:
        running = others.submit(server.once, "POST", "/invoke", str(gate).encode())
        wait_until(lambda: server.stdout.contains(b"waiting"))
        (former,) = server.zygotes
        good(code_dir, "new")
        server.wait_for_answer(b"new")
        held = pipes_of(successor_of(server, former)) & pipes_of(server.front_end)
        gate.touch()
        assert running.result(10).body == b"kept"
    assert held == set()


def pipes_of(process: psutil.Process) -> set[str]:
    """Return the pipes that a process has an end of, beside its output."""
    found = set()
    for fd in Path(f"/proc/{process.pid}/fd").iterdir():
        if int(fd.name) > 2:
            with suppress(FileNotFoundError):
                found.add(str(fd.readlink()))
    return {link for link in found if link.startswith("pipe:")}
