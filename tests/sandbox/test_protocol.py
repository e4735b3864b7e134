"""Whatever a worker says or leaves unsaid, other callers get their own answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import HANDLERS, Reply, Serve, Server
from tests.waiting import wait_until

#: What becomes of the attack's own caller: status, and cause if it is an error.
LIES = {
    "forge_extra_frames": (200, ""),
    "forge_with_other_nonces": (404, "protocol"),
    "forge_a_huge_frame": (404, "protocol"),
    "forge_readiness": (404, "protocol"),
    "close_everything": (404, "exit"),
    "swap_descriptors": (404, "exit"),
    "exit_without_an_answer": (404, "exit"),
    "tamper_with_the_trace": (404, "signal"),
}
#: Of a worker, by number: nothing, output, pipe of requests and of replies, trace,
#: output again, and its own memory, to be looked at after a call.
_OF_A_WORKER = [
    "0 /dev/null",
    *("1 pipe:", "2 pipe:", "200 pipe:", "201 pipe:"),
    "202 /memfd:isoruntime-trace (deleted)",
    *("203 pipe:", "204 /proc/N/statm"),
]


@pytest.fixture
def server(serve: Serve, profile: str) -> Server:
    """One worker, so that whoever comes next comes to the same one."""
    return start(serve, profile)


def start(serve: Serve, profile: str, *options: str) -> Server:
    chosen = ("--sandbox", profile, "--max-workers", "1", "--timeout", "1", *options)
    return serve("index.handler", *chosen, code_dir=HANDLERS / "attacks")


def ask(server: Server, what: str, key: str = "none", **event: Any) -> Reply:
    text = json.dumps({"do": what, "id": "0", "at once": True, **event})
    return server.invoke(text, {"x-fc-access-key-secret": key})


def is_asleep(pid: int) -> bool:
    """Return whether the main thread of a process waits for something."""
    try:
        status = Path(f"/proc/{pid}/task/{pid}/stat").read_text()
    except FileNotFoundError:
        # It has ended since somebody listed it, as those of --fresh do.
        return False
    return status.rpartition(") ")[2].startswith("S")


def echo(server: Server, text: str) -> str:
    return ask(server, "echo", text=text).body.decode()


def test_a_lie_reaches_nobody_but_its_own_caller(server: Server) -> None:
    for lie, (status, cause) in LIES.items():
        reply = ask(server, lie)
        assert reply.status == status, lie
        if status == 404:
            assert reply.json()["details"]["cause"] == cause, lie
        for number in range(3):
            text = f"{number} after {lie}"
            assert echo(server, text) == text


def test_a_handler_that_prints_the_runtimes_lines_is_told_apart_in_json(
    serve: Serve, profile: str
) -> None:
    server = start(serve, profile, "--log-format", "json")
    reply = ask(server, "forge_log_lines")
    line = server.wait_for_line("dead-beef")
    assert json.loads(line)["requestId"] == reply.request_id


@pytest.mark.parametrize("way", ["stop_oneself", "ignore_everything"])
def test_a_worker_that_does_not_go_on_costs_its_own_caller_the_timeout(
    server: Server, way: str
) -> None:
    assert ask(server, way).json()["details"]["cause"] == "timeout"
    assert echo(server, "next") == "next"


def test_a_worker_has_its_own_descriptors_and_its_children_have_none(
    server: Server,
) -> None:
    opened = ask(server, "descriptors").json()
    assert [_without_numbers(one) for one in opened["worker"]] == _OF_A_WORKER
    expected = ["0 /dev/null", "1 pipe:", "2 pipe:"]
    assert [_without_numbers(one) for one in opened["child"]] == expected


def test_a_worker_that_serves_once_has_no_more_than_its_pipes(
    serve: Serve, profile: str
) -> None:
    server = start(serve, profile, "--fresh")
    for _ in range(10):
        opened = ask(server, "descriptors").json()
        # Nobody looks at its memory afterwards.
        found = [_without_numbers(one) for one in opened["worker"]]
        assert found == _OF_A_WORKER[:-1]


def _without_numbers(line: str) -> str:
    line = re.sub(r"pipe:\[\d+\]", "pipe:", line)
    return re.sub(r"/proc/\d+/", "/proc/N/", line)


# Between two invocations of one worker there is no boundary; with --fresh there is.


@pytest.mark.parametrize("options", [(), ("--fresh",)], ids=["reused", "fresh"])
class TestTheNextInvocation:
    """What one invocation leaves for the next one, which may be another caller's."""

    def test_loses_its_event_to_a_thread_of_the_last_only_in_a_reused_worker(
        self, serve: Serve, profile: str, options: tuple[str, ...]
    ) -> None:
        server = start(serve, profile, *options)
        assert ask(server, "steal_next_request").status == 200
        # Until the worker waits for its next request, behind the thread that does so
        # already, it might come first to what the other is woken for.
        wait_until(lambda: all(map(is_asleep, server.pids)), 5, "workers that wait")
        reply = ask(server, "echo", text="mine")
        if options:
            assert reply.body == b"mine"
        else:
            assert reply.json()["details"]["cause"] == "timeout"
            server.wait_for_line("stolen")
        assert echo(server, "the one after") == "the one after"

    def test_gets_a_tampered_answer_only_in_a_reused_worker(
        self, serve: Serve, profile: str, options: tuple[str, ...]
    ) -> None:
        server = start(serve, profile, *options)
        ask(server, "answer_for_the_next")
        assert echo(server, "mine") == ("mine" if options else "tampered")

    def test_finds_credentials_of_the_last_only_in_a_reused_worker(
        self, serve: Serve, profile: str, options: tuple[str, ...]
    ) -> None:
        server = start(serve, profile, *options)
        secret = "CANARY-key-0123456789abcdef"
        assert ask(server, "use credentials", secret).body == b"CANARY"
        found = ask(server, "memory_of_the_last").json()["canaries"]
        assert found == ([] if options else [secret])
