"""The end of every part of the runtime, asked for or not, at every moment."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.calls import Calls
from tests.support.server import Reply, Serve, Server, is_sleep
from tests.waiting import wait_until

POLITE = pytest.mark.parametrize(
    "by", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda one: one.name
)


def occupy(server: Server, gate: Path | str, count: int = 1) -> Calls:
    """Return invocations that have a worker each until the gate exists."""
    calls = Calls(server)
    calls.start(count, f"until {gate}")
    wanted = f"waiting for {gate}".encode()
    wait_until(lambda: server.stdout.count(wanted) == count, 10, f"{count} at work")
    return calls


def is_draining(server: Server) -> bool:
    reply = server.once("GET", "/health")
    return (reply.status, reply.json().get("status")) == (503, "draining")


# Asked to stop.


@POLITE
def test_idle_it_stops_at_once(serve: Serve, by: signal.Signals) -> None:
    server = serve("waits.handler")
    assert server.invoke("pid").status == 200
    began = time.monotonic()
    assert server.stop(by) == 0
    assert time.monotonic() - began < 2


@POLITE
def test_what_runs_and_what_waits_is_finished(
    serve: Serve, gate: Path, by: signal.Signals
) -> None:
    server = serve("waits.handler", "--max-workers", "1", "--queue-timeout", "30")
    running = occupy(server, gate)
    waiting = Calls(server)
    waiting.start(3, "pid")
    # They are admitted once the health check, sent after them, is answered.
    wait_until(lambda: len(_connections(server)) >= 4, 5, "four connections")
    for _ in range(3):
        assert server.once("GET", "/live").status == 200
    server.signal(by)
    wait_until(lambda: is_draining(server), 5, "the drain")
    refused = server.once("POST", "/invoke", b"pid")
    assert (refused.status, refused.error_type) == (503, "Draining")
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["Connection"].lower() == "close"
    sick = server.once("GET", "/health")
    assert (sick.status, sick.json()["status"]) == (503, "draining")
    assert not running.replies
    assert not waiting.replies
    gate.touch()
    assert running.statuses() == [200]
    assert waiting.statuses() == [200, 200, 200]
    assert server.wait(5) == 0


def _connections(server: Server) -> list[object]:
    return [
        one for one in server.front_end.net_connections() if one.status == "ESTABLISHED"
    ]


def check_typed(replies: list[Reply]) -> None:
    """Check that these were told something, if not what they wanted to hear."""
    for reply in replies:
        known = {"ProcessExitedError", "Draining", "ResourceExhausted"}
        assert reply.error_type in known
        assert reply.status in (404, 429, 503)
        assert reply.headers["x-fc-status"] == "404"


def test_a_hung_handler_does_not_outlast_the_drain(serve: Serve) -> None:
    server = serve(
        "waits.handler",
        *("--drain", "1", "--max-workers", "2", "--queue-timeout", "30"),
    )
    calls = occupy(server, "/nowhere", 2)
    calls.start(2, "pid")
    for _ in range(3):
        assert server.once("GET", "/live").status == 200
    server.signal(signal.SIGTERM)
    began = time.monotonic()
    assert server.wait(5) == 0
    assert 0.9 <= time.monotonic() - began < 2.5
    replies = calls.finish()
    assert len(replies) == 4
    check_typed(replies)


@pytest.mark.parametrize(
    "second", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name
)
def test_asked_twice_it_ends_what_still_runs(
    serve: Serve, second: signal.Signals
) -> None:
    server = serve("waits.handler", "--max-workers", "1", "--queue-timeout", "30")
    calls = occupy(server, "/nowhere")
    calls.start(2, "pid")
    for _ in range(3):
        assert server.once("GET", "/live").status == 200
    server.signal(signal.SIGTERM)
    wait_until(lambda: is_draining(server), 5, "the drain")
    server.signal(second)
    began = time.monotonic()
    assert server.wait(5) == 0
    assert time.monotonic() - began < 2
    replies = calls.finish()
    assert len(replies) == 3
    check_typed(replies)


def test_asked_a_hundred_times_it_still_ends_well(serve: Serve) -> None:
    server = serve("waits.handler")
    calls = occupy(server, "/nowhere", 3)
    for _ in range(100):
        if not server.front_end.is_running():
            break
        try:
            server.signal(signal.SIGTERM)
        except psutil.NoSuchProcess:
            break
    assert server.wait(5) == 0
    check_typed(calls.finish())


def test_asked_again_on_its_way_out_it_still_ends_well(serve: Serve) -> None:
    # An interpreter that ends gives signals their usual effect back.
    server = serve("waits.handler")
    server.signal(signal.SIGTERM)
    wait_until(lambda: server.stderr.contains(b"stopped"), 5, "the last word")
    with suppress(psutil.NoSuchProcess):
        while server.front_end.status() != psutil.STATUS_ZOMBIE:
            server.signal(signal.SIGTERM)
            server.signal(signal.SIGINT)
    assert server.wait(5) == 0


def test_asked_while_it_still_imports_it_stops(serve: Serve, code_dir: Path) -> None:
    (code_dir / "index.py").write_text("import time\ntime.sleep(600)\n")
    server = serve("index.handler", code_dir=code_dir)
    assert server.stop(within=5) == 0


def test_asked_while_broken_it_stops(serve: Serve, code_dir: Path) -> None:
    (code_dir / "index.py").write_text("raise ValueError\n")
    server = serve("index.handler", code_dir=code_dir)
    wait_until(lambda: server.once("GET", "/health").status == 503, 5, "the failure")
    assert server.stop(within=5) == 0


# The death of the zygote.


def restart_s(server: Server) -> float:
    """Kill the zygote; return the seconds until a worker of the next one answers."""
    old = {b"%d" % pid for pid in server.pids}
    server.zygote.kill()
    began = time.monotonic()

    def is_back() -> bool:
        reply = server.invoke("pid")
        return reply.status == 200 and reply.body not in old

    wait_until(is_back, 5, "an answer")
    return time.monotonic() - began


def test_after_the_death_of_an_idle_zygote_it_is_back_at_once(serve: Serve) -> None:
    server = serve("waits.handler")
    assert server.invoke("pid").status == 200
    took_s = []
    for _ in range(5):
        took_s.append(restart_s(server))
        server.wait_for_line("inited")
    print(f"back after {statistics.median(took_s) * 1000:.0f} ms (median of 5)")
    assert max(took_s) < 2
    assert server.once("GET", "/health").status == 200
    wait_until(lambda: len(server.zygotes) == 1, 2, "one zygote")


def test_the_death_of_a_busy_zygote_costs_those_in_flight_a_typed_answer(
    serve: Serve,
) -> None:
    server = serve("marks.handler", "--max-workers", "3", "--queue-timeout", "30")
    calls = Calls(server)
    calls.start(3, "litter|/nowhere")
    wait_until(lambda: server.stdout.count(b"waiting for") == 3, 10, "three at work")
    orphans = [*server.front_end.children(recursive=True)]
    waiting = Calls(server)
    waiting.start(2, "pid")
    for _ in range(3):
        assert server.once("GET", "/live").status == 200
    took_s = restart_s(server)
    replies = calls.finish()
    assert len(replies) == 3
    assert {(one.status, one.error_type) for one in replies} == {
        (404, "ProcessExitedError")
    }
    assert waiting.statuses() == [200, 200]
    print(f"back after {took_s * 1000:.0f} ms")
    assert took_s < 2
    wait_until(
        lambda: not any(orphan.is_running() for orphan in orphans),
        2,
        "an end of all that was below the zygote",
    )


# As the first process of a container.


def _cannot_be_pid_1() -> str:
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return "there is no unshare or nsenter"
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
def test_as_pid_1_it_reaps_strangers_and_stops_in_mid_work(
    serve: Serve, gate: Path
) -> None:
    server = serve("waits.handler", prefix=AS_PID_1)
    running = occupy(server, gate)
    # What an administrator starts in the container ends as an orphan of PID 1.
    inside = f"nsenter --target {server.front_end.pid} --pid".split()
    subprocess.run(
        [*inside, "sh", "-c", "for i in 1 2 3 4 5; do sleep 0.2 & done"],
        check=True,
        timeout=10,
    )
    below = server.front_end.children
    assert sum(is_sleep(one) for one in below()) == 5
    wait_until(lambda: not any(is_sleep(one) for one in below()), 5, "their end")
    assert not running.replies
    server.signal(signal.SIGTERM)
    wait_until(lambda: is_draining(server), 5, "the drain")
    gate.touch()
    assert running.statuses() == [200]
    assert server.wait(5) == 0


@pytest.mark.skipif(bool(NOT_PID_1), reason=NOT_PID_1 or "possible")
def test_as_pid_1_it_leaves_nothing_when_asked_twice(serve: Serve) -> None:
    server = serve("marks.handler", prefix=AS_PID_1)
    calls = Calls(server)
    calls.start(2, "litter|/nowhere")
    wait_until(lambda: server.stdout.count(b"waiting for") == 2, 10, "two at work")
    server.signal(signal.SIGTERM)
    wait_until(lambda: is_draining(server), 5, "the drain")
    server.signal(signal.SIGTERM)
    assert server.wait(5) == 0
    check_typed(calls.finish())
    assert os.getpid() not in [child.pid for child in psutil.Process().children()]
