"""benchmarks/smoke: how fast it is next to the same handler without isolation.

Rounds are interleaved: each of them starts every server afresh and loads it, in
alternating order, so that a slow minute of the machine hits all of them alike. What
is shown are medians of the rounds, their spread, and ratios of medians.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.measure import load, noise
from benchmarks.measure.invocation import ANSWER, EVENT, HEADERS
from benchmarks.measure.load import Load, NoGenerator
from benchmarks.measure.markdown import note, say, table
from benchmarks.measure.servers import (
    HANDLERS,
    ROOT,
    Server,
    ServerFailed,
    end_on_signals,
    free_port,
    isoruntime_argv,
)
from benchmarks.measure.starts import ForkTimer, cold_start
from isoruntime import __version__

EXAMPLES: Final = ROOT / "examples"
OURS: Final = "isoruntime"
FRESH: Final = "isoruntime --fresh"
PEER: Final = "waitress, in process"
CONNECTIONS: Final = (1, 8)

_NOISY: Final = 3
#: Medians of rounds that lie further apart than this say nothing.
_MAX_APART: Final = 0.5


class Loads(NamedTuple):
    """All rounds of one server at one number of connections."""

    server: str
    connections: int
    rounds: list[Load]

    def median(self, field: str) -> float:
        """Return the median of one of `Load`'s numbers."""
        return statistics.median(self._values(field))

    def spread(self, field: str) -> float:
        """Return how far the rounds lie apart: (largest - smallest) / median."""
        values = self._values(field)
        return (max(values) - min(values)) / statistics.median(values)

    def _values(self, field: str) -> list[float]:
        return [getattr(load, field) for load in self.rounds]

    @property
    def failures(self) -> int:
        """Answers that were none, or not 2xx."""
        return sum(load.failures for load in self.rounds)


def argv_of(server: str, port: int) -> list[str]:
    """Return the command line of one of the servers compared here."""
    if server == PEER:
        app = HANDLERS / "inprocess.py"
        return [sys.executable, str(app), str(port), str(EXAMPLES)]
    options = ["--fresh"] if server == FRESH else []
    return isoruntime_argv("index.handler", EXAMPLES, port, *options)


def measure_load(rounds: int, seconds: float) -> list[Loads]:
    """Load every server in turn, so many rounds."""
    servers = [OURS, PEER, FRESH]
    results = [Loads(name, number, []) for number in CONNECTIONS for name in servers]
    for turn in range(rounds):
        note(f"load: round {turn + 1} of {rounds}")
        for server in servers if turn % 2 == 0 else reversed(servers):
            for connections, measured in _load_server(server, seconds):
                next(
                    row.rounds
                    for row in results
                    if (row.server, row.connections) == (server, connections)
                ).append(measured)
    return results


def _load_server(server: str, seconds: float) -> list[tuple[int, Load]]:
    port = free_port()
    with Server(argv_of(server, port), port) as running:
        running.connect().close()
        check(port)
        # Grown pools and warm caches are what a busy function has.
        load.run(port, max(CONNECTIONS), 1, EVENT, HEADERS)
        measured = [
            (connections, load.run(port, connections, seconds, EVENT, HEADERS))
            for connections in CONNECTIONS
        ]
        check(port)
        return measured


def check(port: int) -> None:
    """Make sure that the server gives the right answer.

    Raises:
        ServerFailed: it gives another one.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/invoke", EVENT, HEADERS)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if (answer.status, body) != (200, ANSWER):
        raise ServerFailed(f"answered {answer.status} {body[:200]!r}")


def measure_starts(times: int) -> dict[str, list[tuple[float, float]]]:
    """Start ours and the peer in turn; return listening and first answer in ms."""
    results: dict[str, list[tuple[float, float]]] = {OURS: [], PEER: []}
    note(f"start: {times} times each")
    for server in (OURS, PEER):
        # The first start compiles what was changed since the last one.
        port = free_port()
        cold_start(argv_of(server, port), port)
    for turn in range(times):
        for server in (OURS, PEER) if turn % 2 == 0 else (PEER, OURS):
            port = free_port()
            results[server].append(tuple(cold_start(argv_of(server, port), port)))  # type: ignore[arg-type]
    return results


def load_table(results: Sequence[Loads]) -> str:
    """Return throughput and latency as a table; ratios are to the peer."""
    rows = []
    for row in results:
        peer = next(
            other
            for other in results
            if (other.server, other.connections) == (PEER, row.connections)
        )
        ratios = [
            f"{row.median(field) / peer.median(field):.2f}"
            for field in ("per_s", "p50_ms", "p99_ms")
        ]
        rows.append(
            [
                str(row.connections),
                row.server,
                f"{row.median('per_s'):,.0f}",
                f"{row.spread('per_s'):.0%}",
                f"{row.median('p50_ms'):.2f}",
                f"{row.median('p99_ms'):.2f}",
                " / ".join(ratios) if row.server != PEER else "1",
                str(row.failures),
            ]
        )
    head = ["connections", "server", "calls/s", "spread", "p50 ms", "p99 ms"]
    return table([*head, "ratio: calls/s / p50 / p99", "failures"], rows)


def start_table(
    starts: dict[str, list[tuple[float, float]]], forks: Sequence[float]
) -> str:
    """Return the times of starts as a table."""
    rows = []
    for column, what in enumerate(("exec to listening", "exec to first answer")):
        medians = {
            server: statistics.median(each[column] for each in taken)
            for server, taken in starts.items()
        }
        for server, taken in starts.items():
            values = [each[column] for each in taken]
            ratio = medians[server] / medians[PEER]
            rows.append([what, server, *_milliseconds(values), f"{ratio:.2f}"])
    rows.append(["fork to first byte", OURS, *_milliseconds(forks), ""])
    return table(["what", "server", "median ms", "p99 ms", "spread", "ratio"], rows)


def _milliseconds(values: Sequence[float]) -> list[str]:
    median = statistics.median(values)
    nearly_worst = sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]
    spread = (nearly_worst - min(values)) / median
    return [f"{median:.1f}", f"{nearly_worst:.1f}", f"{spread:.0%}"]


def main() -> int:
    """Return 0; 1 if a call failed; 2 without a load generator; 3 if it is too noisy."""
    args = _arguments()
    end_on_signals()
    try:
        generator = load.version()
    except NoGenerator as error:
        note(f"smoke: {error}")
        return 2
    before = noise.listen()
    if before.is_unusable and not args.anyway:
        note(f"smoke: too noisy to compare: {before}; --anyway measures nevertheless")
        return _NOISY
    if before.is_doubtful:
        note(f"smoke: the machine is not quiet: {before}")
    try:
        loads = measure_load(args.rounds, args.seconds)
        starts = measure_starts(args.starts)
        note(f"fork: {args.forks} times")
        forks = ForkTimer(EXAMPLES).measure(args.forks)
    except (ServerFailed, NoGenerator) as error:
        note(f"smoke: {error}")
        return 1
    after = noise.listen()
    about = _about(generator, before, after, args)
    say(f"{about}\n\n{load_table(loads)}\n\n{start_table(starts, forks)}")
    if args.json is not None:
        _write_json(args.json, about, loads, starts, forks)
    return _verdict(loads, after, args)


def _verdict(
    loads: Sequence[Loads], after: noise.Quiet, args: argparse.Namespace
) -> int:
    failures = sum(row.failures for row in loads)
    if failures:
        note(f"smoke: {failures} calls failed, so these numbers compare nothing")
        return 1
    apart = max(row.spread("per_s") for row in loads)
    if (after.is_unusable or apart > _MAX_APART) and not args.anyway:
        note(
            f"smoke: it became too noisy to compare: rounds lie up to {apart:.0%} apart,"
            f" at the end {after}"
        )
        return _NOISY
    return 0


def _about(
    generator: str, before: noise.Quiet, after: noise.Quiet, args: argparse.Namespace
) -> str:
    lines = [
        f"{noise.describe()}; isoruntime {__version__}, waitress {version('waitress')},"
        f" {generator}.",
        f"64-byte JSON event, {len(HEADERS)} headers, {args.rounds} interleaved rounds of"
        f" {args.seconds:g} s; medians.",
        f"Before: {before}.",
        f"After: {after}.",
    ]
    if before.is_doubtful or after.is_doubtful:
        lines.append("**Not a quiet machine: small differences mean nothing.**")
    return "\n".join(lines)


def _write_json(
    path: Path,
    about: str,
    loads: Sequence[Loads],
    starts: dict[str, list[tuple[float, float]]],
    forks: Sequence[float],
) -> None:
    numbers: dict[str, Any] = {
        "about": about.splitlines(),
        "load": [
            {
                "server": row.server,
                "connections": row.connections,
                "rounds": [measured._asdict() for measured in row.rounds],
            }
            for row in loads
        ],
        "start_ms": {
            server: [
                {"listening": first, "answered": second} for first, second in taken
            ]
            for server, taken in starts.items()
        },
        "fork_to_first_byte_ms": forks,
    }
    path.write_text(json.dumps(numbers, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/smoke", description="Compare with waitress in one process."
    )
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument(
        "--seconds", type=float, default=2, help="a run; whole ones (default: 2)"
    )
    parser.add_argument("--starts", type=int, default=10, help="default: 10")
    parser.add_argument("--forks", type=int, default=200, help="default: 200")
    parser.add_argument("--json", type=Path, metavar="FILE", help="raw numbers")
    parser.add_argument(
        "--anyway", action="store_true", help="measure on a noisy machine too"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
