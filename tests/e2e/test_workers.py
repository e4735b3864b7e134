"""Which worker serves what: reuse, recycling, fresh processes, preloading, growth."""

from __future__ import annotations

import gc
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import pytest

from tests.support.calls import Calls
from tests.support.server import Serve
from tests.waiting import wait_until


def test_a_worker_serves_again(serve: Serve) -> None:
    server = serve("counts.handler", "--max-workers", "1")
    seen = [server.invoke().json() for _ in range(5)]
    assert len({one["pid"] for one in seen}) == 1
    assert [one["served"] for one in seen] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("option", [["--fresh"], ["--max-invocations", "1"]])
def test_fresh_mode_has_a_new_process_for_every_event(
    serve: Serve, option: list[str]
) -> None:
    server = serve("counts.handler", *option)
    seen = [server.invoke().json() for _ in range(10)]
    assert len({one["pid"] for one in seen}) == 10
    assert {one["served"] for one in seen} == {1}
    assert len({one["imported_in"] for one in seen}) == 1


def test_a_worker_retires_after_its_share(serve: Serve) -> None:
    server = serve("counts.handler", "--max-invocations", "3", "--max-workers", "1")
    seen = [server.invoke().json() for _ in range(9)]
    groups = [list(group) for _, group in groupby(seen, lambda one: one["pid"])]
    assert [[one["served"] for one in group] for group in groups] == [[1, 2, 3]] * 3


def test_the_handler_is_imported_once_for_all_workers(serve: Serve) -> None:
    server = serve("counts.handler", "--fresh", "--preload", "always")
    seen = [server.invoke().json() for _ in range(3)]
    (imported_in,) = {one["imported_in"] for one in seen}
    assert imported_in == server.zygote.pid


def test_without_preloading_every_worker_imports_for_itself(serve: Serve) -> None:
    server = serve("counts.handler", "--fresh", "--preload", "never")
    for one in [server.invoke().json() for _ in range(3)]:
        assert one["imported_in"] == one["pid"]


@pytest.mark.parametrize("preload", ["always", "never"])
def test_the_garbage_collector_is_kept_off_what_an_import_makes(
    serve: Serve, preload: str
) -> None:
    server = serve("imports_much.handler", "--preload", preload)
    for _ in range(2):
        seen = server.invoke().json()
        assert seen["during import"] == 0
        assert seen["left aside"] > 60_000
        # As usual again, for what the handler makes.
        assert seen["threshold"] == gc.get_threshold()[0]
        assert seen["during call"] > 0


def test_the_garbage_collector_of_the_front_end_is_on_once_it_serves(
    serve: Serve,
) -> None:
    code = (
        "import gc, sys; from isoruntime.cli.main import main\n"
        "main(sys.argv[1:]); print('left aside', gc.get_freeze_count(), gc.isenabled())"
    )
    server = serve("counts.handler", command=(sys.executable, "-c", code, "serve"))
    server.invoke()
    assert server.stop() == 0
    (line,) = [line for line in server.lines() if line.startswith("left aside")]
    *_, left_aside, is_on = line.split()
    assert int(left_aside) > 10_000
    assert is_on == "True"


def test_a_threshold_of_the_garbage_collector_that_user_code_sets_is_kept(
    serve: Serve,
) -> None:
    env = {"THRESHOLD": "12345"}
    seen = serve("imports_much.handler", env=env).invoke().json()
    assert seen["threshold"] == 12345


def test_an_import_that_leaves_a_thread_is_repeated_in_each_worker(
    serve: Serve,
) -> None:
    server = serve("threaded.handler", "--fresh")
    seen = [server.invoke().json() for _ in range(3)]
    assert len({one["pid"] for one in seen}) == 3
    assert all(one["threads"] >= 2 for one in seen)
    assert server.zygote.num_threads() == 1


def test_the_pool_grows_with_the_load(serve: Serve) -> None:
    server = serve("waits.handler", "--max-workers", "10")
    server.invoke("pid")
    began = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        bodies = list(
            pool.map(
                lambda _: server.once("POST", "/invoke", b"sleep 0.5").body, range(10)
            )
        )
    assert bodies == [b"slept"] * 10
    assert time.monotonic() - began < 2


def test_the_pool_never_outgrows_its_limit(serve: Serve, gate: Path) -> None:
    server = serve("waits.handler", "--max-workers", "2", "--queue-timeout", "30")
    calls = Calls(server)
    calls.start(6, f"until {gate}")
    wait_until(lambda: server.stdout.count(b"waiting for") == 2)
    assert len(server.pids) == 2
    gate.touch()
    assert calls.statuses() == [200] * 6


@pytest.mark.parametrize(
    ("errors", "refused"), [("fc", 429), ("http", 503)], ids=["fc", "http"]
)
def test_a_full_queue_refuses_at_once(
    serve: Serve, gate: Path, errors: str, refused: int
) -> None:
    server = serve(
        "waits.handler",
        *("--max-workers", "1", "--queue", "2", "--queue-timeout", "30"),
        *("--errors", errors),
    )
    calls = Calls(server)
    calls.start(1, f"until {gate}")
    server.wait_for_line("waiting for")
    calls.start(5, "pid")
    wait_until(lambda: len(calls.replies) == 3)
    for reply in calls.replies:
        assert (reply.status, reply.error_type) == (refused, "ResourceExhausted")
        assert int(reply.headers["Retry-After"]) >= 1
        assert reply.headers["x-fc-status"] == "404"
    assert server.once("GET", "/health").status == 200
    gate.touch()
    assert calls.statuses() == [200, 200, 200] + [refused] * 3


def test_waiting_in_the_queue_ends(serve: Serve, gate: Path) -> None:
    server = serve(
        "waits.handler",
        *("--max-workers", "1", "--queue", "2", "--queue-timeout", "1"),
    )
    calls = Calls(server)
    calls.start(1, f"until {gate}")
    server.wait_for_line("waiting for")
    began = time.monotonic()
    reply = server.invoke("pid")
    assert time.monotonic() - began >= 1
    assert (reply.status, reply.error_type) == (429, "ResourceExhausted")
    gate.touch()
    assert calls.statuses() == [200]
    assert server.invoke("pid").status == 200


def test_many_calls_are_all_answered_for_themselves(serve: Serve) -> None:
    server = serve("echo.handler", "--max-workers", "4")
    with ThreadPoolExecutor(8) as pool:
        events = [b"%d " % number + os.urandom(64) for number in range(400)]
        bodies = list(pool.map(lambda event: server.invoke(event).body, events))
    assert bodies == events
