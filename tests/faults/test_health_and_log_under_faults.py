"""What the log and /health say while everything goes wrong at once."""

from __future__ import annotations

import json
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.server import Reply, Server
from tests.waiting import wait_until

#: What `chatter` says in each way, and on which stream it arrives.
WAYS = {
    "print": "stdout",
    "stderr": "stderr",
    "logging": "stdout",
    "write": "stdout",
    "native": "stderr",
    "buffered": "stdout",
    "child": "stdout",
    "child-stderr": "stderr",
}
CLIENTS = 6
CALLS = 300
STATUS = {"say": 200, "raise": 404, "die": 404, "hang": 404, "echo": 200}
ERROR_TYPE = {
    "raise": "ValueError",
    "die": "ProcessExitedError",
    "hang": "FunctionTimeoutError",
}
START = re.compile(r"FC Invoke Start RequestId: (\S+)$")
END = re.compile(r"FC Invoke End RequestId: ([^\s,]+)(, Error: .*)?$")


class Mixed:
    """Three hundred invocations of every kind from several clients at once."""

    def __init__(self, server: Server, seed: int) -> None:
        self._server = server
        chosen = random.Random(seed)  # noqa: S311 - the same every time
        ways = ["say"] * 5 + ["raise", "die", "echo"] * 2
        self._left = [(n, chosen.choice(ways)) for n in range(CALLS - 6)]
        self._left += [(n, "hang") for n in range(CALLS - 6, CALLS)]
        chosen.shuffle(self._left)
        self.way_of = {f"call-{number}": way for number, way in self._left}
        self.replies: dict[str, Reply] = {}
        self.health: list[Reply] = []

    def run(self) -> None:
        """Send them all, and ask for the health between them."""
        threads = [threading.Thread(target=self._client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self.health.append(self._server.once("GET", "/health"))
            threads[0].join(0.05)

    def _client(self) -> None:
        while True:
            try:
                number, way = self._left.pop()
            except IndexError:
                return
            name = f"call-{number}"
            reply = self._server.invoke(f"{way} word-{number}-", request_id=name)
            self.replies[name] = reply


def run_mixed(log_format: str) -> Iterator[tuple[Mixed, list[str]]]:
    with Server(
        "chatter.handler",
        *("--log-format", log_format, "--timeout", "0.5", "--max-workers", "8"),
    ) as server:
        assert server.invoke(b"echo").status == 200
        mixed = Mixed(server, seed=7)
        mixed.run()
        ended = b"FC Invoke End"
        wait_until(lambda: server.stdout.count(ended) >= CALLS + 1, 10, "the log")
        yield mixed, server.lines()


@pytest.fixture(scope="module")
def in_json() -> Iterator[tuple[Mixed, list[str]]]:
    yield from run_mixed("json")


@pytest.fixture(scope="module")
def in_fc() -> Iterator[tuple[Mixed, list[str]]]:
    yield from run_mixed("fc")


def test_every_caller_got_the_answer_to_its_own_event(
    in_json: tuple[Mixed, list[str]],
) -> None:
    mixed, _ = in_json
    assert len(mixed.replies) == CALLS
    for name, reply in mixed.replies.items():
        way, word = mixed.way_of[name], f"word-{name.removeprefix('call-')}-"
        assert (reply.status, reply.request_id) == (STATUS[way], name)
        if reply.status == 200:
            assert reply.body == f"{way} {word}".encode()
        else:
            assert reply.error_type == ERROR_TYPE[way]
        if way == "raise":
            assert reply.json()["errorMessage"] == word


def test_the_runtime_was_well_all_the_time(in_json: tuple[Mixed, list[str]]) -> None:
    mixed, _ = in_json
    assert len(mixed.health) >= 3
    assert {reply.status for reply in mixed.health} == {200}
    assert {reply.json()["status"] for reply in mixed.health} <= {"ok", "starting"}


def test_every_line_of_json_names_its_invocation(
    in_json: tuple[Mixed, list[str]],
) -> None:
    mixed, lines = in_json
    records = [json.loads(line) for line in lines]
    heard: Counter[tuple[str, str]] = Counter()
    for record in records:
        assert record.keys() == {"time", "level", "requestId", "stream", "message"}
        spoken = re.search(r"(\S+) (word-\d+-)", record["message"])
        if spoken is None or record["stream"] == "platform":
            continue
        way, word = spoken.groups()
        name = f"call-{word.split('-')[1]}"
        assert record["requestId"] == name
        heard[name, way] += 1
        if way in WAYS:
            assert record["stream"] == WAYS[way], record
    for name, how in mixed.way_of.items():
        if how == "say":
            assert {way: heard[name, way] for way in WAYS} == dict.fromkeys(WAYS, 1)
        elif how in ("die", "hang"):
            assert heard[name, "print"] == 1


def test_logging_records_keep_their_level_in_json(
    in_json: tuple[Mixed, list[str]],
) -> None:
    mixed, lines = in_json
    records = [json.loads(line) for line in lines]
    logged = [one for one in records if one["message"].startswith("logging word")]
    assert len(logged) == list(mixed.way_of.values()).count("say")
    assert {one["level"] for one in logged} == {"INFO"}


def check_pairs(mixed: Mixed, messages: list[tuple[str | None, str]]) -> None:
    """Check that each invocation starts once and ends once, in this order."""
    started: Counter[str] = Counter()
    ended: dict[str, bool] = {}
    for owner, message in messages:
        start, end = START.match(message), END.match(message)
        if start:
            assert start[1] not in ended
            assert owner in (None, start[1])
            started[start[1]] += 1
        elif end:
            assert started[end[1]] == 1
            assert end[1] not in ended
            assert owner in (None, end[1])
            ended[end[1]] = end[2] is not None
    for name, way in mixed.way_of.items():
        assert started[name] == 1
        assert ended[name] == (STATUS[way] != 200), name


def test_start_and_end_are_paired_in_json(in_json: tuple[Mixed, list[str]]) -> None:
    mixed, lines = in_json
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    check_pairs(mixed, [(one["requestId"], one["message"]) for one in records])
    # What an invocation says stands between its Start and its End.
    open_ones: set[str] = set()
    for record in records:
        owner, message = record["requestId"], record["message"]
        if message.startswith("FC Invoke Start"):
            open_ones.add(owner)
        elif message.startswith("FC Invoke End"):
            open_ones.remove(owner)
        elif "word-" in message:
            assert owner in open_ones, record


def test_start_and_end_are_paired_in_the_platform_s_form(
    in_fc: tuple[Mixed, list[str]],
) -> None:
    mixed, lines = in_fc
    check_pairs(mixed, [(None, line) for line in lines])
    assert len(mixed.replies) == CALLS


def test_no_line_of_one_invocation_is_mixed_into_another_s(
    in_fc: tuple[Mixed, list[str]],
) -> None:
    mixed, lines = in_fc
    whole = Counter(lines)
    for name, way in mixed.way_of.items():
        if way == "say":
            word = f"word-{name.removeprefix('call-')}-"
            for said in set(WAYS) - {"logging"}:
                assert whole[f"{said} {word}"] == 1
