"""What user code leaves behind when a process of ours is killed under it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.support.calls import Calls
from tests.support.server import Serve, Server
from tests.waiting import wait_until


def test_what_a_dead_zygote_s_workers_had_on_disk_goes_too(serve: Serve) -> None:
    server = serve("marks.handler", "--max-workers", "2")
    base = next(Path(server._env["TMPDIR"]).iterdir())
    for _ in range(3):
        calls = Calls(server)
        since = server.stdout.size()
        calls.start(1, "litter|/nowhere")
        server.wait_for_line("waiting for", since)
        server.zygote.kill()
        wait_until(lambda: calls.replies, 5, "an answer")  # noqa: B023 - called at once
        wait_until(lambda: server.invoke("pid").status == 200, 5, "service")
        assert calls.statuses() == [404]
    wait_until(
        lambda: len(list(base.iterdir())) <= len(server.pids),
        2,
        "as many temporary folders as there are workers",
    )


@pytest.mark.parametrize("preload", ["auto", "never"])
def test_nothing_outlives_a_front_end_that_still_imports(
    serve: Serve, code_dir: Path, preload: str
) -> None:
    (code_dir / "index.py").write_text(
        "import subprocess, time\n"
        "subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "time.sleep(600)\n"
    )
    server = serve("index.handler", "--preload", preload, code_dir=code_dir)
    wait_until(lambda: _names(server).count("sleep") == 1, 5, "the import")
    check_nothing_outlives_the_front_end(server)


def _names(server: Server) -> list[str]:
    names = []
    for process in server.front_end.children(recursive=True):
        try:
            names.append(process.name())
        except psutil.NoSuchProcess:
            continue
    return names


def check_nothing_outlives_the_front_end(server: Server) -> None:
    server.signal(signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: not server.left_over(), 5, f"an end of {server.left_over()}")
    assert time.monotonic() - began < 1.0
    # This looks for temporary files too.
    assert server.wait() == -signal.SIGKILL


def test_nothing_outlives_an_idle_front_end(serve: Serve) -> None:
    server = serve("marks.handler", "--min-workers", "4")
    wait_until(lambda: len(server.pids) == 4, 10, "four workers")
    check_nothing_outlives_the_front_end(server)


def test_nothing_outlives_a_busy_front_end(serve: Serve) -> None:
    server = serve("marks.handler")
    calls = Calls(server)
    calls.start(4, "litter|/nowhere")
    wait_until(lambda: server.stdout.count(b"waiting for") == 4, 10, "four at work")
    assert len(server.strays()) >= 4
    check_nothing_outlives_the_front_end(server)
    assert [reply.status for reply in calls.finish()] == [0] * 4
