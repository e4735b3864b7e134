"""Handlers that fail as soon as they are loaded, and what is seen of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.server import Reply, Server
from tests.waiting import wait_until

GOOD = "def handler(event, context):\n    return b'repaired'\n"
SERVES = "\ndef handler(event, context):\n    return b'served'\n"
#: Each attempt notes its time before it fails.
NOTE = """\
import os, signal, sys, threading, time
with open(r"{log}", "a") as log:
    log.write(f"{{time.monotonic()}}\\n")
"""
#: The stated pauses before the second and the third attempt.
SCHEDULE_S = (1.0, 2.0)
#: What an attempt itself, and a busy machine, may take on top.
SLACK_S = 1.5
INIT_TIMEOUT_S = 1.0
#: What follows another sooner than this was not made to wait.
AT_ONCE_S = 0.7


class Loop(NamedTuple):
    """A way to fail and what a caller is told of it."""

    code: str
    preload: str
    error_type: str
    in_reason: str


class Observed(NamedTuple):
    """What a failing function's clients saw, before and after its repair."""

    server: Server
    #: when it tried while nobody called
    attempts: tuple[float, ...]
    #: what three callers were told, one after the other, and after how many seconds
    replies: tuple[Reply, ...]
    took_s: tuple[float, ...]
    sick: Reply
    live: Reply
    #: how long after the repair somebody was served who called once a second
    repaired_s: float
    well: Reply


@contextmanager
def left_alone(
    loops: Mapping[str, Loop], folder: Path
) -> Iterator[dict[str, Observed]]:
    """Let all of them fail side by side, since each takes seconds to wait for."""
    with ExitStack() as stack:
        started = {}
        for number, (name, loop) in enumerate(loops.items()):
            code = folder / str(number) / "index.py"
            code.parent.mkdir()
            log = code.with_name("attempts")
            log.touch()
            code.write_text(NOTE.format(log=log) + loop.code)
            server = Server(
                "index.handler",
                *("--preload", loop.preload, "--init-timeout", str(INIT_TIMEOUT_S)),
                *("--min-workers", "1", "--max-workers", "2"),
                code_dir=code.parent,
            )
            started[name] = stack.enter_context(server), code, log
            # One after the other, or they would be slow to start, and fail of that.
            wait_until(lambda: attempts_in(log), 10, "an attempt")  # noqa: B023 - called at once

        logs = [log for _, _, log in started.values()]
        wait_until(
            lambda: all(len(rounds(attempts_in(log))) >= 3 for log in logs),
            20,
            "a third attempt of each",
        )
        attempts = {name: attempts_in(log) for name, (_, _, log) in started.items()}
        seen = {name: _call(server) for name, (server, _, _) in started.items()}
        codes = {server: code for server, code, _ in started.values()}
        repaired_s = repair(codes)
        yield {
            name: Observed(
                server,
                attempts[name],
                *seen[name],
                repaired_s[server],
                health(server),
            )
            for name, (server, _, _) in started.items()
        }


def attempts_in(log: Path) -> tuple[float, ...]:
    """Return the times of complete notes."""
    return tuple(float(line) for line in log.read_text().splitlines())


def rounds(attempts: tuple[float, ...]) -> list[float]:
    """Return the attempts without those that follow another at once.

    A worker that ends unused may have been killed from outside: two are replaced at
    once before their code is blamed.
    """
    found: list[float] = []
    for before, at in zip((0.0, *attempts), attempts, strict=False):
        if at - before > AT_ONCE_S:
            found.append(at)
    return found


def check_schedule(attempts: tuple[float, ...], *, hung_s: float = 0.0) -> None:
    """Check the pauses between the first three rounds of attempts.

    The time of an attempt is that of its import: for one that hangs, what is left of
    the time it has is still to come.
    """
    first, second, third = rounds(attempts)[:3]
    assert len(attempts) <= 3 * len(rounds(attempts))
    for gap, stated in zip((second - first, third - second), SCHEDULE_S, strict=True):
        assert stated <= gap <= stated + hung_s + SLACK_S, attempts


def health(server: Server) -> Reply:
    return server.once("GET", "/health")


def _call(
    server: Server,
) -> tuple[tuple[Reply, ...], tuple[float, ...], Reply, Reply]:
    replies, took_s = [], []
    for _ in range(3):
        began = time.monotonic()
        replies.append(server.invoke(b"x"))
        took_s.append(time.monotonic() - began)
    sick = health(server)
    return tuple(replies), tuple(took_s), sick, server.once("GET", "/live")


def repair(codes: Mapping[Server, Path]) -> dict[Server, float]:
    """Repair functions and call each once a second until it serves.

    Return how many seconds that took for each.
    """
    for code in codes.values():
        good = code.with_suffix(".new")
        good.write_text(GOOD)
        good.replace(code)
    repaired_at = time.monotonic()
    next_call_at = repaired_at
    took_s: dict[Server, float] = {}

    def all_are_served() -> bool:
        nonlocal next_call_at
        if time.monotonic() < next_call_at:
            return False
        next_call_at += 1.0
        for server in codes.keys() - took_s:
            if server.invoke(b"x").body == b"repaired":
                took_s[server] = time.monotonic() - repaired_at
        return len(took_s) == len(codes)

    wait_until(all_are_served, 10, "an answer of the repaired code")
    return took_s


def check_recovery(observed: Observed) -> None:
    """Check that a repaired function was served soon, and is from then on."""
    assert observed.repaired_s < 2.0 + SLACK_S
    assert (observed.well.status, observed.well.json()["status"]) == (200, "ok")
    bodies = [observed.server.invoke(b"x").body for _ in range(5)]
    assert bodies == [b"repaired"] * 5
