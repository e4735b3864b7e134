"""benchmarks/deadlines: how late a hanging invocation is answered, and when it is gone.

Invocations hang in several ways in turn. Measured are the time from the limit to the whole
answer, as the caller sees it, and from the answer until the last process of the tree is
gone. The allowances are those the project promises.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from benchmarks.measure import noise
from benchmarks.measure.markdown import note, say, table
from benchmarks.measure.samples import percentile
from benchmarks.measure.servers import (
    HANDLERS,
    Server,
    ServerFailed,
    end_on_signals,
    free_port,
    isoruntime_argv,
    wait_until,
)

#: What is allowed, at the 99th percentile.
ANSWER_MS: Final = 50.0
GONE_MS: Final = 200.0
_PATIENCE_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.0005


class Run(NamedTuple):
    """One invocation that hung."""

    way: str
    answer_late_ms: float
    gone_after_ms: float
    is_right: bool


class Deadlines:
    """Hangs again and again, one invocation at a time."""

    def __init__(self, server: Server, port: int, limit_s: float) -> None:
        self._limit_s = limit_s
        self._folder = server.temp_dir
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=_PATIENCE_S
        )

    def ways(self) -> list[str]:
        """Return the ways to hang that the handler knows."""
        return self._invoke(b"")[1].decode().split()

    def run(self, way: str, number: int) -> Run:
        """Hang once; return when the answer and the end came."""
        pids = self._folder / f"pids-{number}"
        began = time.monotonic()
        status, body = self._invoke(f"{way} {pids}".encode())
        answered = time.monotonic()
        tree = [int(line) for line in pids.read_text().split()]
        is_gone = wait_until(
            lambda: not any(map(psutil.pid_exists, tree)), _PATIENCE_S, _LOOK_EVERY_S
        )
        gone = time.monotonic()
        pids.unlink()
        return Run(
            way,
            (answered - began - self._limit_s) * 1000,
            (gone - answered) * 1000,
            is_gone and status == http.client.NOT_FOUND and _is_timeout(body),
        )

    def _invoke(self, event: bytes) -> tuple[int, bytes]:
        self._connection.request("POST", "/invoke", event)
        response = self._connection.getresponse()
        return response.status, response.read()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def _is_timeout(body: bytes) -> bool:
    try:
        return bool(json.loads(body)["errorType"] == "FunctionTimeoutError")
    except (ValueError, KeyError, TypeError):
        return False


def measure(runs: int, limit_s: float) -> list[Run]:
    """Hang so many times, in every way in turn.

    Raises:
        ServerFailed: the runtime does not start.
    """
    port = free_port()
    argv = isoruntime_argv("hangs.handler", HANDLERS, port, "--timeout", f"{limit_s:g}")
    taken: list[Run] = []
    with Server(argv, port) as server:
        server.connect().close()
        deadlines = Deadlines(server, port, limit_s)
        ways = deadlines.ways()
        for number in range(runs):
            taken.append(deadlines.run(ways[number % len(ways)], number))
            if number % 50 == 49:
                note(f"{number + 1} of {runs}")
        deadlines.close()
    return taken


def report(runs: Sequence[Run], limit_s: float) -> str:
    """Return what was measured, as Markdown."""
    ways = list(dict.fromkeys(run.way for run in runs))
    groups = {way: [run for run in runs if run.way == way] for way in ways}
    rows = [_row(way, group) for way, group in groups.items()]
    rows.append(_row("**all**", runs))
    head = ("hangs by", "runs", "p50", "p99", "max", "p50", "p99", "max", "wrong")
    return "\n\n".join(
        [
            f"{noise.describe()}; {len(runs)} runs with a limit of {limit_s:g} s, one at a"
            " time, in milliseconds: the answer after the limit, then the end of the"
            " last process after the answer.",
            table(head, rows),
            f"Allowed at p99: {ANSWER_MS:g} ms and {GONE_MS:g} ms.",
        ]
    )


def _row(name: str, runs: Sequence[Run]) -> list[str]:
    late = [run.answer_late_ms for run in runs]
    gone = [run.gone_after_ms for run in runs]
    wrong = sum(not run.is_right or run.answer_late_ms < 0 for run in runs)
    numbers = [
        f"{value:.1f}"
        for values in (late, gone)
        for value in (statistics.median(values), percentile(values, 0.99), max(values))
    ]
    return [name, str(len(runs)), *numbers, str(wrong)]


def is_kept(runs: Sequence[Run]) -> bool:
    """Return whether every answer was right and everything came in time."""
    return (
        all(run.is_right and run.answer_late_ms >= 0 for run in runs)
        and percentile([run.answer_late_ms for run in runs], 0.99) <= ANSWER_MS
        and percentile([run.gone_after_ms for run in runs], 0.99) <= GONE_MS
    )


def main() -> int:
    """Return 0 if the promise is kept, else 1."""
    args = _arguments()
    end_on_signals()
    try:
        runs = measure(args.runs, args.limit)
    except ServerFailed as error:
        note(f"deadlines: {error}")
        return 1
    text = report(runs, args.limit)
    say(text)
    if args.output is not None:
        args.output.write_text(text + "\n")
    return 0 if is_kept(runs) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/deadlines",
        description="Measure how late a hanging invocation is answered.",
    )
    parser.add_argument("--runs", type=int, default=200, help="default: 200")
    parser.add_argument(
        "--limit", type=float, default=0.2, help="seconds an invocation may take"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it here too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
