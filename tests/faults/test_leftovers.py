"""What is left when the handler has returned: processes, threads, temporary files."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.looking import (
    STEADY,
    Holdings,
    below_workers,
    check_failure,
    is_alive,
    unharmed_neighbour,
)
from tests.support.server import HANDLERS, Serve, Server
from tests.waiting import wait_until

PROCESSES = ["program", "child", "session", "daemon", "closed_daemon"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Return a server with the default policy, `--leftovers kill`."""
    with Server("leaves.handler", "--timeout", "10", *STEADY) as started:
        holdings = Holdings(started)
        yield started
        holdings.check_nothing_is_left()


def leave(server: Server, way: str) -> dict[str, Any]:
    reply = server.invoke(way)
    assert reply.status == 200, reply.body
    value: dict[str, Any] = reply.json()
    return value


@pytest.mark.parametrize("way", [*PROCESSES, "child_of_a_thread"])
def test_a_process_left_behind_is_killed_after_the_answer(
    server: Server, gate: Path, way: str
) -> None:
    with unharmed_neighbour(server, gate):
        found = leave(server, way)
        assert server.invoke("hello").body == b"still here"
        wait_until(lambda: not psutil.pid_exists(found["left"]), 1, "its end")
    # It was found through its worker, which went with it.
    wait_until(lambda: not is_alive(found["pid"]), 1, "the worker's end")


def test_a_killed_leftover_is_logged(server: Server) -> None:
    server.invoke("program", request_id="leaves-program")
    log = "\n".join(server.log_of("leaves-program"))
    assert "left processes running; they are killed (--leftovers kill)" in log


def test_a_process_left_by_a_raising_handler_is_killed(server: Server) -> None:
    check_failure(server.invoke("raise_and_leave"), "ValueError")
    wait_until(lambda: not below_workers(server), 1, "its end")
    assert server.invoke("hello").body == b"still here"


@pytest.mark.parametrize("policy", ["report", "allow"])
@pytest.mark.parametrize("way", PROCESSES)
def test_a_process_left_behind_may_stay_where_that_is_wanted(
    serve: Serve, way: str, policy: str
) -> None:
    server = serve("leaves.handler", "--leftovers", policy, "--max-workers", "1")
    reply = server.invoke(way, request_id="leaves")
    found = reply.json()
    assert server.invoke("pid").body == b"%d" % found["pid"]
    assert is_alive(found["left"])
    log = "\n".join(server.log_of("leaves"))
    assert ("left processes running (--leftovers report)" in log) == (
        policy == "report"
    )
    # What stays until the end does not stay longer.
    server.stop()
    assert not psutil.pid_exists(found["left"])


def test_the_dead_do_not_count(serve: Serve) -> None:
    server = serve("leaves.handler", "--max-workers", "1")
    pids = {leave(server, "zombie")["pid"] for _ in range(10)}
    assert len(pids) == 1


def test_the_dead_do_not_pile_up_for_ever(serve: Serve) -> None:
    server = serve("leaves.handler", "--max-workers", "1")
    pids = [leave(server, "zombie")["pid"] for _ in range(60)]
    assert 2 <= len(set(pids)) <= 6
    assert len(below_workers(server)) <= 32
    # They were the worker's, which is asked to go, and takes them along.
    server.invoke("program")
    wait_until(lambda: not below_workers(server), 2, "their end")


# Threads


def test_a_thread_left_running_retires_its_worker_after_the_answer(
    server: Server, gate: Path
) -> None:
    with unharmed_neighbour(server, gate):
        pid = leave(server, "thread")["pid"]
        assert server.invoke("hello").body == b"still here"
        wait_until(lambda: not is_alive(pid), 3, "the worker's end")


def test_the_next_invocation_after_a_thread_has_another_process(serve: Serve) -> None:
    server = serve("leaves.handler", "--max-workers", "1")
    pids = [leave(server, "thread")["pid"] for _ in range(4)]
    assert len(set(pids)) == 4


def test_threads_of_the_import_retire_nobody(serve: Serve) -> None:
    server = serve("threaded.handler", "--preload", "never", "--max-workers", "1")
    seen = [server.invoke().json() for _ in range(5)]
    assert len({one["pid"] for one in seen}) == 1
    assert {one["threads"] for one in seen} == {2}


# Temporary files


def test_every_worker_has_a_temporary_folder_of_its_own(
    server: Server, gate: Path
) -> None:
    with unharmed_neighbour(server, gate):
        mine = leave(server, "temp_folder")
    assert Path(mine["left"]).stat().st_mode & 0o777 == 0o700
    by_pid = {
        value["pid"]: value["left"]
        for value in (leave(server, "temp_folder") for _ in range(20))
    }
    assert len(set(by_pid.values())) == len(by_pid)


def test_a_child_has_its_worker_s_temporary_folder(server: Server) -> None:
    found = leave(server, "temp_folder_of_a_child")
    assert f"/isoruntime-{server.front_end.pid}-" in found["left"]
    assert Path(found["left"]).is_dir()


def test_temporary_files_last_as_long_as_their_worker(serve: Serve) -> None:
    server = serve("leaves.handler", "--max-workers", "1")
    folder = Path(leave(server, "temporary")["left"])
    again = Path(leave(server, "temp_folder")["left"])
    assert again == folder
    assert len(list(folder.iterdir())) == 4
    leave(server, "thread")
    wait_until(lambda: not folder.exists(), 3, "the folder's end")
    # What its links pointed to is still there.
    assert HANDLERS.is_dir()


@pytest.mark.parametrize(
    ("options", "event"),
    [
        (("--fresh",), "hello"),
        ((), "program"),
        ((), "thread"),
    ],
    ids=["fresh worker", "killed worker", "retired worker"],
)
def test_the_folder_goes_with_its_worker(
    serve: Serve, options: tuple[str, ...], event: str
) -> None:
    server = serve("leaves.handler", *options)
    base = base_of(server)
    for _ in range(3):
        leave(server, "temporary")
        assert server.invoke(event).status == 200
    wait_until(lambda: len(list(base.iterdir())) <= len(server.pids), 3, "one a worker")


def base_of(server: Server) -> Path:
    found = leave(server, "temp_folder")["left"]
    return Path(found).parent


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_all_folders_are_gone_at_the_end(serve: Serve, by: signal.Signals) -> None:
    server = serve("leaves.handler", *STEADY)
    base = base_of(server)
    leave(server, "temporary")
    assert list(base.iterdir())
    # `stop` looks at the server's temporary folder as well.
    server.stop(by)
    assert not base.exists()


def test_the_folders_of_a_killed_zygote_are_gone_at_the_end(serve: Serve) -> None:
    server = serve("leaves.handler", *STEADY)
    base = base_of(server)
    leave(server, "temporary")
    server.zygote.kill()
    wait_until(lambda: server.invoke("hello").status == 200, 5, "service")
    server.stop()
    assert not base.exists()
