"""Frozen for a while, as the platform does with an instance between invocations."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.calls import Calls
from tests.support.server import Serve, Server
from tests.waiting import wait_until

#: Longer than every limit in here.
FREEZE_S = 4.0


@contextmanager
def frozen(*servers: Server) -> Iterator[None]:
    """Stop every process of these servers for the duration of the block."""
    trees = [
        process
        for server in servers
        for process in (server.front_end, *server.front_end.children(recursive=True))
    ]
    for process in trees:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in trees:
            process.send_signal(signal.SIGCONT)


def let_pass(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, seconds + 5)


def check_nobody_was_blamed(*servers: Server) -> None:
    for server in servers:
        said = server.stderr.read()
        assert b"the zygote ended" not in said
        assert b"trying again" not in said
        assert b"TimeoutError" not in server.stdout.read()


def test_a_freeze_kills_nobody(serve: Serve) -> None:
    """A handler has 1.4 s and needs 1 s of running, before and after the freeze."""
    idle = serve("waits.handler")
    busy = [serve("marks.handler", "--timeout", "1.4") for _ in range(3)]
    servers = [idle, *busy]
    pids = [idle.invoke("pid").body]
    calls = []
    # Frozen after about 0.6 s, 0.3 s, and at once.
    for server in busy:
        pids.append(server.invoke("pid").body)
        calls.append(Calls(server))
        calls[-1].start(1, "work|1.0")
        server.wait_for_line("working")
        let_pass(0.3 if server is not busy[-1] else 0.0)
    with frozen(*servers):
        let_pass(FREEZE_S)
    replies = [reply for each in calls for reply in each.finish()]
    assert [(reply.status, reply.body) for reply in replies] == [
        (200, pid) for pid in pids[1:]
    ]
    assert [server.invoke("pid").body for server in servers] == pids
    check_nobody_was_blamed(*servers)


def test_those_who_wait_in_a_freeze_wait_on(serve: Serve, gate: Path) -> None:
    server = serve("waits.handler", "--max-workers", "1", "--queue-timeout", "2")
    running, waiting = Calls(server), Calls(server)
    running.start(1, f"until {gate}")
    server.wait_for_line("waiting for")
    waiting.start(2, "pid")
    for _ in range(3):
        assert server.once("GET", "/live").status == 200
    with frozen(server):
        let_pass(FREEZE_S)
    # Whoever gives up on them would do so now.
    let_pass(0.3)
    gate.touch()
    assert running.statuses() == [200]
    assert waiting.statuses() == [200, 200]


def test_a_freeze_in_mid_import_is_no_slow_import(serve: Serve, code_dir: Path) -> None:
    (code_dir / "index.py").write_text(
        "import time\n"
        "for _ in range(20):\n"
        "    time.sleep(0.05)\n"
        "def handler(event, context):\n"
        "    return event\n"
    )
    servers = [
        serve(
            "index.handler", "--init-timeout", "2", "--preload", how, code_dir=code_dir
        )
        for how in ("always", "never")
    ]
    for server in servers:
        wait_until(lambda: server.front_end.children(recursive=True), 5, "a start")  # noqa: B023 - called before the next round
    with frozen(*servers):
        let_pass(FREEZE_S)
    assert [server.invoke(b"x").body for server in servers] == [b"x", b"x"]
    check_nobody_was_blamed(*servers)
