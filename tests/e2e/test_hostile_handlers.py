"""Handlers that misuse their process harm themselves alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.server import Serve, Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("hostile.handler", "--timeout", "5") as started:
        yield started


@pytest.mark.parametrize("event", ["close everything", "write everywhere"])
def test_a_worker_that_breaks_its_channel_costs_one_call(
    server: Server, event: str
) -> None:
    reply = server.invoke(event)
    assert reply.status in (200, 404)
    if reply.status == 404:
        assert reply.error_type in ("RuntimeFault", "ProcessExitedError", "OSError")
    else:
        assert reply.body == event.encode()
    for number in range(5):
        assert server.invoke(f"next {number}").body == f"next {number}".encode()


@pytest.mark.parametrize(
    "event",
    [
        "replace the streams",
        "collect the output",
        "point stdout elsewhere",
        "read stdin",
        "change the directory",
    ],
)
def test_misused_streams_do_not_reach_the_answer(serve: Serve, event: str) -> None:
    server = serve("hostile.handler", "--max-workers", "1")
    assert server.invoke(event).body == event.encode()
    assert server.invoke("next").body == b"next"


def test_under_load_every_caller_gets_its_own_answer(serve: Serve) -> None:
    server = serve("ways_to_die.handler", "--max-workers", "4", "--queue", "200")
    deaths = ["_exit 1", "signal SIGKILL", "exit 2", "segfault"]
    events = deaths * 10 + ["raise ValueError"] * 20 + ["hello"] * 140
    random.Random(7).shuffle(events)  # noqa: S311 - a mixture, no secret
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(server.invoke, events))
    for event, reply in zip(events, replies, strict=True):
        if event == "hello":
            assert (reply.status, reply.body) == (200, b"still here")
        elif event == "raise ValueError":
            assert (reply.status, reply.error_type) == (404, "ValueError")
        else:
            assert (reply.status, reply.error_type) == (404, "ProcessExitedError")
