"""Starting, refusing to start, draining, stopping; as PID 1 too."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.calls import Calls
from tests.support.server import EXAMPLES, PROJECT, Serve, exchange
from tests.waiting import wait_until

BOTH_SIGNALS = pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])


def refused(*options: str, env: dict[str, str] | None = None) -> tuple[int, list[str]]:
    """Start with settings that cannot be; return the exit code and stderr's lines."""
    ended = subprocess.run(
        [sys.executable, "-m", "isoruntime", "serve", *options],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], **(env or {})},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.stdout == ""
    return ended.returncode, ended.stderr.splitlines()


@BOTH_SIGNALS
def test_an_idle_runtime_ends_at_once(serve: Serve, by: signal.Signals) -> None:
    server = serve("echo.handler")
    assert server.invoke(b"x").status == 200
    assert server.stop(by, within=5) == 0


@BOTH_SIGNALS
def test_a_drain_finishes_what_runs_and_refuses_the_rest(
    serve: Serve, gate: Path, by: signal.Signals
) -> None:
    server = serve("waits.handler")
    calls = Calls(server)
    calls.start(1, f"until {gate}")
    server.wait_for_line("waiting for")
    with server.raw() as kept:
        kept.send(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.answer().status == 200
        server.signal(by)
        wait_until(lambda: _health(server.port) in (None, 503), 10, "the drain")
        kept.send(b"POST /invoke HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\npid")
        reply = kept.answer()
        assert (reply.status, reply.error_type) == (503, "Draining")
        assert int(reply.headers["Retry-After"]) >= 1
        assert reply.headers["x-fc-status"] == "404"
        assert reply.headers["Connection"].lower() == "close"
        assert kept.is_closed_by_peer()
    assert not calls.replies
    gate.touch()
    assert calls.statuses() == [200]
    assert server.wait() == 0


def _health(port: int) -> int | None:
    """Return the status of /health on a connection of its own; None if refused."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        return exchange(connection, "GET", "/health").status
    except (ConnectionError, http.client.RemoteDisconnected):
        return None
    finally:
        connection.close()


def test_a_drain_has_an_end(serve: Serve) -> None:
    server = serve("waits.handler", "--drain", "0.5")
    calls = Calls(server)
    calls.start(1, "until /nowhere")
    server.wait_for_line("waiting for")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    (status,) = calls.statuses()
    assert status in (404, 503)


def test_every_bad_setting_is_named_at_once() -> None:
    code, lines = refused(
        *("--port", "seventy", "--max-workers", "0", "--errors", "html"),
        env={"ISORUNTIME_QUEUE": "-1", "ISORUNTIME_SANDBOX": "loose"},
    )
    assert code == 2
    for name in (
        "port",
        "max-workers",
        "errors",
        "ISORUNTIME_QUEUE",
        "ISORUNTIME_SANDBOX",
    ):
        assert sum(name in line for line in lines) == 1, name
    assert "Traceback" not in "\n".join(lines)


def test_an_unknown_option_is_refused() -> None:
    code, lines = refused("--no-such-option")
    assert code == 2
    assert any("--no-such-option" in line for line in lines)


def test_a_missing_code_directory_is_refused() -> None:
    code, lines = refused("--code-dir", "/nowhere/at/all")
    assert code == 2
    assert any("/nowhere/at/all" in line for line in lines)


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines = refused(
            *("--host", "127.0.0.1", "--port", str(port), "--code-dir", str(EXAMPLES))
        )
    assert code in (1, 2)
    (line,) = (line for line in lines if str(port) in line)
    assert re.search(r"in use", line)
    assert "Traceback" not in "\n".join(lines)


def test_a_flag_wins_over_a_variable_and_that_over_the_platform(serve: Serve) -> None:
    env = {
        "FC_FUNCTION_HANDLER": "counts.handler",
        "ISORUNTIME_HANDLER": "pkg.mod.handler",
    }
    assert serve("echo.handler", env=env).invoke(b"flag").body == b"flag"
    assert serve(env=env).invoke().body == b"from pkg.mod"
    del env["ISORUNTIME_HANDLER"]
    assert serve(env=env).invoke().json()["served"] == 1


def test_the_platform_s_port_is_listened_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = subprocess.Popen(
        [sys.executable, "-m", "isoruntime", "serve"],
        cwd=PROJECT,
        env={
            "PATH": os.environ["PATH"],
            "FC_FUNC_CODE_PATH": f"{EXAMPLES}/",
            "FC_CUSTOM_LISTEN_PORT": str(port),
            "FC_SERVER_PORT": "1",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _health(port) == 200, 10, "health")
        started.terminate()
        assert started.wait(10) == 0
    finally:
        started.kill()
        started.wait()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _cannot_be_pid_1() -> str:
    if shutil.which("unshare") is None:
        return "there is no unshare"
    tried = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tried.stderr.strip() if tried.returncode else ""


NOT_PID_1 = _cannot_be_pid_1()
AS_PID_1 = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.mark.skipif(bool(NOT_PID_1), reason=NOT_PID_1 or "possible")
def test_as_pid_1_it_serves_reaps_and_stops(serve: Serve) -> None:
    server = serve("slow.handler", prefix=AS_PID_1)
    assert server.front_end.pid != server.zygote.pid
    assert server.invoke("fine").body == b"in time"
    assert server.invoke("leave a child").status == 200
    # Orphaned by the zygote's death, its workers come to PID 1.
    dying = [server.zygote, *server.zygote.children()]
    server.zygote.kill()
    wait_until(lambda: not any(map(_runs, dying)), 5, "the end of the zygote's workers")
    assert server.invoke("fine").body == b"in time"
    wait_until(lambda: not _zombies(server.front_end), 5, "an end of zombies")
    assert server.stop(within=10) == 0


def _zombies(process: psutil.Process) -> list[psutil.Process]:
    below = process.children(recursive=True)
    return [one for one in below if one.status() == psutil.STATUS_ZOMBIE]
