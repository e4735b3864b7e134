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


class Loop(NamedTuple):
    """A way to fail and what a caller is told of it."""

    code: str
    preload: str
    error_type: str
    in_reason: str


class Observed(NamedTuple):
    """A server whose handler fails, and when it tried while nobody called."""

    server: Server
    code: Path
    attempts: tuple[float, ...]


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
            lambda: all(len(attempts_in(log)) >= 3 for log in logs),
            20,
            "a third attempt of each",
        )
        yield {
            name: Observed(server, code, attempts_in(log))
            for name, (server, code, log) in started.items()
        }


def attempts_in(log: Path) -> tuple[float, ...]:
    """Return the times of complete notes."""
    return tuple(float(line) for line in log.read_text().splitlines())


def check_schedule(attempts: tuple[float, ...], *, hung_s: float = 0.0) -> None:
    """Check the pauses between the first three attempts.

    The time of an attempt is that of its import: for one that hangs, what is left of
    the time it has is still to come.
    """
    first, second, third = attempts[:3]
    for gap, stated in zip((second - first, third - second), SCHEDULE_S, strict=True):
        assert stated <= gap <= stated + hung_s + SLACK_S, attempts


def health(server: Server) -> Reply:
    return server.once("GET", "/health")


def check_repair(server: Server, code: Path) -> None:
    """Repair the function; whoever calls once a second is served from then on."""
    good = code.with_suffix(".new")
    good.write_text(GOOD)
    good.replace(code)
    repaired_at = time.monotonic()
    next_call_at = repaired_at

    def is_served() -> bool:
        nonlocal next_call_at
        if time.monotonic() < next_call_at:
            return False
        next_call_at += 1.0
        return server.invoke(b"x").body == b"repaired"

    wait_until(is_served, 5, "an answer of the repaired code")
    assert time.monotonic() - repaired_at < 2.0 + SLACK_S
    wait_until(lambda: health(server).status == 200, 2, "good health")
    assert [server.invoke(b"x").body for _ in range(5)] == [b"repaired"] * 5
