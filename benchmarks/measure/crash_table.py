"""benchmarks/crash_table: the same faults in several servers, side by side.

Every cell is measured in this run: a server is started afresh for every fault.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.measure.crash_probe import Consequences, probe
from benchmarks.measure.environment import Environment, NoPeers
from benchmarks.measure.markdown import note, say, table
from benchmarks.measure.peers import LIMIT_S, OURS, Peer, all_servers
from benchmarks.measure.servers import ROOT, ServerFailed, end_on_signals

_PAGE: Final = ROOT / "docs" / "crash-table.md"

#: The handler's function that does it, and what readers know it as.
FAULTS: Final = {
    "sys_exit": "`sys.exit(7)`",
    "exit_3": "`os._exit(3)`",
    "kill_9": "SIGKILL",
    "segfault": "SIGSEGV",
    "hang": "hang",
    "fork_and_hang": "fork and hang",
}

Results = dict[str, dict[str, Consequences]]


def measure(servers: Sequence[Peer], ways: Sequence[str]) -> Results:
    """Do everything to everybody.

    Raises:
        ServerFailed: a server does not serve even before the fault.
    """
    results: Results = {}
    for server in servers:
        results[server.name] = {}
        for way in ways:
            note(f"{server.name}: {way}")
            results[server.name][way] = probe(server, way)
    return results


def summary(results: Results) -> str:
    """Return one row a server, one column a fault: what was lost beside the call."""
    ways = list(next(iter(results.values())))
    rows = [
        [name, *(", ".join(by_way[way].broken) or "✓" for way in ways)]
        for name, by_way in results.items()
    ]
    return table(["", *(FAULTS[way] for way in ways)], rows)


def details(results: Results) -> str:
    """Return one table a fault, with a row for every server."""
    parts = []
    for way in next(iter(results.values())):
        rows = [
            [
                name,
                str(by_way[way].caller),
                str(by_way[way].neighbour),
                by_way[way].next_call,
                by_way[way].left or "nothing",
            ]
            for name, by_way in results.items()
        ]
        head = ["server", "the caller", "its neighbour", "the next call", "left behind"]
        parts.append(f"### {FAULTS[way]}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def page(results: Results, servers: Sequence[Peer]) -> str:
    """Return the whole page."""
    settings = table(
        ["server", "run with"], [[server.name, server.setting] for server in servers]
    )
    return f"""# What one crash does

Measured by `benchmarks/crash_table`, which wrote this page: Linux, Python {platform.python_version()}.
Every server is started afresh for every fault, runs the same handler, and has another
call, the neighbour, in flight when the fault strikes. Limit for a call: {LIMIT_S} s where a
server can be told.

✓ means: the caller got an HTTP error in time, the neighbour its answer, the next call its
answer at once, and nothing was left running. Otherwise the cell names what was not so. In
time is half a second, or 1.5 s after the limit; at once is half a second too.

{summary(results)}

"Hang" sleeps for twice the limit. "Fork and hang" waits, with `Popen.wait`, for a child that
holds the handler's output.

## Cell by cell

A status alone is the handler's answer; a name after it is the `errorType` in the body, or
what kind of body it was. "Connection lost" is one closed without an answer. Times under
0.5 s are left out. "Handler ran on" means that the handler, given up long ago, came to its
end and had its effect; "its child", that the process it waited for still ran.

{details(results)}

## How they were run

{settings}
"""


def main() -> int:
    """Return 0; 1 if ours lost anything; 2 if nothing can be measured."""
    args = _arguments()
    end_on_signals()
    try:
        servers = all_servers(Environment.make())
        chosen = [
            server
            for server in servers
            if not args.server or any(name in server.name for name in args.server)
        ]
        results = measure(chosen, args.fault or list(FAULTS))
    except (NoPeers, ServerFailed) as error:
        note(f"crash_table: {error}")
        return 2
    written = page(results, chosen)
    say(written)
    if args.output is not None:
        args.output.write_text(written)
    elif not args.server and not args.fault:
        _PAGE.write_text(written)
    lost = [
        (name, way)
        for name, by_way in results.items()
        for way, seen in by_way.items()
        if name.startswith(OURS) and seen.broken
    ]
    return 1 if lost else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/crash_table",
        description="Do the same to several servers; write docs/crash-table.md.",
    )
    parser.add_argument(
        "--server", action="append", metavar="NAME", help="only those with this in it"
    )
    parser.add_argument("--fault", action="append", choices=list(FAULTS))
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="instead of docs/crash-table.md"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
