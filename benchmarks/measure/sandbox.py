"""benchmarks/sandbox: what the sandbox costs, profile by profile and wall by wall.

Four questions, each asked of all profiles in turn: milliseconds per worker start, with a
small and with a large zygote; microseconds of each mechanism; throughput of warm and of
fresh workers; milliseconds until a tree of fork bombers is gone. Workers are started by
real zygotes over the real protocol (`sandbox_front`), servers are real ones.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.measure import load, noise
from benchmarks.measure.markdown import note, say, table
from benchmarks.measure.sandbox_levels import (
    OFF,
    OFF_NEVER,
    STANDARD,
    STRICT,
    STRICT_HOST,
    STRICT_NEVER,
    VARIANTS,
    Helper,
    Level,
    Variant,
    front,
    levels,
)
from benchmarks.measure.servers import (
    HANDLERS,
    MARK,
    ROOT,
    Server,
    ServerFailed,
    end_on_signals,
    free_port,
)

#: What is promised: milliseconds over `off` for a start, and for the end of a tree.
STANDARD_MS: Final = 0.6
STRICT_MS: Final = 1.2
BOMBERS_MS: Final = 30.0

_BOMBERS: Final = 20
_SMALL_MB: Final = 0
_AT_ONCE: Final = 10
_CONNECTIONS: Final = 8

_PRIORITY: Final = 10

#: Where a case is in the tables: its level and what is asked for.
Place = tuple[str, str]


class Question(NamedTuple):
    """One question that can be asked by name."""

    title: str
    ask: Callable[[argparse.Namespace, Path], str]
    #: whether it takes little enough of the machine to be let pass before all others
    may_go_first: bool = False


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _quartiles(values: Sequence[float]) -> str:
    low, _, high = statistics.quantiles(values, n=4)
    return f"{low:.2f} to {high:.2f}"


# Starts.


def starts(args: argparse.Namespace, folder: Path) -> str:
    """Return tables of milliseconds per worker start."""
    parts = []
    for megabytes in (_SMALL_MB, args.ballast):
        taken = _starts(args, folder, megabytes)
        title = f"{megabytes} MB more than an empty one" if megabytes else "small"
        parts += [f"Zygote: {title}", _starts_table(taken)]
    return "\n\n".join(parts)


def _starts(
    args: argparse.Namespace, folder: Path, megabytes: int
) -> dict[Place, list[list[float]]]:
    # Importing a hundred megabytes once a worker is a second each: known without asking.
    wanted = [one for one in VARIANTS if one.preload or not megabytes]
    environment = {"BENCHMARK_BALLAST_MB": str(megabytes)}
    taken: dict[Place, list[list[float]]] = {}
    with _fronts(wanted, "ballast.small", folder, environment) as helpers:
        taken.update((place, []) for place in helpers)
        for _ in range(max(1, args.starts // _AT_ONCE)):
            # The order changes, so that nobody is always the one after the slowest.
            for place in random.sample(list(helpers), len(helpers)):
                rounds = helpers[place].ask("starts", _AT_ONCE)
                taken[place].extend(rounds)
    return taken


@contextlib.contextmanager
def _fronts(
    variants: Sequence[Variant],
    handler: str,
    folder: Path,
    environment: Mapping[str, str],
) -> Iterator[dict[Place, Helper]]:
    with contextlib.ExitStack() as stack:
        found: dict[Place, Helper] = {}
        for level in levels():
            for variant in variants:
                base = Path(tempfile.mkdtemp(dir=folder)) / "workers"
                base.parent.chmod(0o755)
                try:
                    helper = front(level, variant, handler, HANDLERS, base, environment)
                except ServerFailed as error:
                    note(f"left out: {variant.name}: {error}")
                    continue
                found[level.name, variant.name] = stack.enter_context(helper)
                for mechanism, reason in helper.hello.items():
                    note(f"{level.name}, {variant.name}: no {mechanism}: {reason}")
        yield found


def _starts_table(taken: Mapping[Place, Sequence[Sequence[float]]]) -> str:
    rows = []
    for (level, variant), found in taken.items():
        base = taken[level, _baseline(variant)]
        ready, gone = ([one[column] for one in found] for column in (1, 2))
        over = [_median(gone) - _median([one[2] for one in base])]
        over.append(min(gone) - min(one[2] for one in base))
        is_base = found is base
        rows.append(
            [
                *(level, variant, f"{_median(ready):.2f}", f"{_median(gone):.2f}"),
                *(_quartiles(gone), f"{min(gone):.2f}"),
                *(("", "") if is_base else (f"{one:+.2f}" for one in over)),
                _verdict(variant, over[0]),
            ]
        )
    head = ("runtime is", "profile", "ready", "gone", "quartiles", "least")
    return table((*head, "over off", "of the least", "promised"), rows)


def _baseline(variant: str) -> str:
    return OFF_NEVER.name if variant == STRICT_NEVER.name else OFF.name


def _verdict(variant: str, over_ms: float) -> str:
    promised = {
        STANDARD.name: STANDARD_MS,
        STRICT.name: STRICT_MS,
        STRICT_HOST.name: STRICT_MS,
    }.get(variant)
    if promised is None:
        return ""
    return f"≤ {promised:g} {'kept' if over_ms <= promised else 'MISSED'}"


# Mechanisms.


def mechanisms(args: argparse.Namespace, folder: Path) -> str:
    """Return a table of microseconds per mechanism."""
    found: dict[str, dict[str, list[float]]] = {}
    with contextlib.ExitStack() as stack:
        helpers = {
            level: stack.enter_context(_steps(level, folder)) for level in levels()
        }
        for _ in range(max(1, args.starts // _AT_ONCE)):
            for level, helper in helpers.items():
                for name, taken in helper.ask("steps", _AT_ONCE).items():
                    found.setdefault(name, {}).setdefault(level.name, []).extend(taken)
    names = [level.name for level in levels()]
    rows = [
        [name, *(_microseconds(of_level.get(level)) for level in names)]
        for name, of_level in found.items()
    ]
    return table(("microseconds: median, least", *names), rows)


def _steps(level: Level, folder: Path) -> Helper:
    return Helper(level, "sandbox_steps", str(HANDLERS), str(folder))


def _microseconds(values: Sequence[float] | None) -> str:
    if values is None or min(values) < 0:
        return "not here"
    return f"{_median(values):.0f}, {min(values):.0f}"


# Servers.


def warm(args: argparse.Namespace, folder: Path) -> str:
    """Return a table of the throughput of workers that are used again."""
    options = {
        OFF.name: ("--sandbox", "off"),
        STANDARD.name: ("--sandbox", "standard"),
        STRICT.name: ("--sandbox", "strict", "--preload", "always"),
    }
    return _throughput(args, folder, options)


def fresh(args: argparse.Namespace, folder: Path) -> str:
    """Return a table of the throughput with a new worker for every call."""
    strict = ("--fresh", "--sandbox", "strict", "--preload")
    options = {
        OFF.name: ("--fresh", "--sandbox", "off"),
        STANDARD.name: ("--fresh", "--sandbox", "standard"),
        "strict, --preload always": (*strict, "always"),
        "strict, --preload auto": (*strict, "auto"),
    }
    return _throughput(args, folder, options)


def _throughput(
    args: argparse.Namespace, folder: Path, options: Mapping[str, Sequence[str]]
) -> str:
    level = levels()[-2 if len(levels()) > 1 else 0]
    taken: dict[str, list[load.Load]] = {name: [] for name in options}
    for number in range(args.rounds):
        for name, words in options.items():
            taken[name].append(_load(level, words, args.seconds))
        note(f"round {number + 1} of {args.rounds}")
    base = _median([one.per_s for one in taken[OFF.name]])
    rows = [_throughput_row(name, found, base) for name, found in taken.items()]
    head = (
        "profile",
        "calls/s",
        "least to most",
        "of off",
        "p50 ms",
        "p99 ms",
        "failed",
    )
    return f"The runtime is {level.name}.\n\n{table(head, rows)}"


def _throughput_row(name: str, found: Sequence[load.Load], base: float) -> list[str]:
    rates = [one.per_s for one in found]
    return [
        name,
        f"{_median(rates):,.0f}",
        f"{min(rates):,.0f} to {max(rates):,.0f}",
        f"{_median(rates) / base:.2f}",
        f"{_median([one.p50_ms for one in found]):.2f}",
        f"{_median([one.p99_ms for one in found]):.2f}",
        str(sum(one.failures for one in found)),
    ]


def _load(level: Level, options: Sequence[str], seconds: float) -> load.Load:
    port = free_port()
    argv = [
        *(*level.launch, level.python, "-m", "isoruntime", "serve", "functions.small"),
        *("--host", "127.0.0.1", "--port", str(port), "--env", MARK),
        *("--code-dir", str(HANDLERS), *options),
    ]
    with Server(argv, port, env={"PYTHONPATH": _packages()}) as server:
        server.connect().close()
        load.run(port, _CONNECTIONS, 1)
        return load.run(port, _CONNECTIONS, seconds)


def _packages() -> str:
    """Return a path with what the runtime needs, for an interpreter that lacks it."""
    import waitress

    return f"{ROOT}:{Path(str(waitress.__file__)).parents[1]}"


# Bombers.


def bombers(args: argparse.Namespace, folder: Path) -> str:
    """Return a table of milliseconds until a tree of fork bombers is gone."""
    wanted = [one for one in VARIANTS if one.preload]
    taken: dict[Place, list[float]] = {}
    environment = {"BENCHMARK_BOMBERS": str(_BOMBERS)}
    with _fronts(wanted, "bombs.handler", folder, environment) as helpers:
        for _ in range(args.kills):
            for place, helper in helpers.items():
                taken.setdefault(place, []).extend(helper.ask("kills", 1))
    rows = [
        [
            *(
                *place,
                f"{_median(found):.1f}",
                f"{min(found):.1f}",
                f"{max(found):.1f}",
            ),
            "kept" if _median(found) <= BOMBERS_MS else "MISSED",
        ]
        for place, found in taken.items()
    ]
    head = ("runtime is", "profile", "median", "least", "most", f"≤ {BOMBERS_MS:g}")
    return table(head, rows)


QUESTIONS: Final = {
    "starts": Question(
        "Milliseconds of a worker start: ordered → ready → exited and reaped",
        starts,
        True,
    ),
    "mechanisms": Question(
        "What each wall takes by itself, in a process just forked", mechanisms, True
    ),
    "warm": Question(f"Warm workers, {_CONNECTIONS} connections", warm),
    "fresh": Question(
        f"A new worker for every call (`--fresh`), {_CONNECTIONS} connections", fresh
    ),
    "bombers": Question(
        f"Milliseconds until a tree of {_BOMBERS} fork bombers is gone", bombers
    ),
}


@contextlib.contextmanager
def _first(is_wanted: bool) -> Iterator[None]:
    """Have us, and all we start meanwhile, run before everybody else."""
    if not is_wanted:
        yield
        return
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def main() -> int:
    """Ask what was asked for; return 1 if something could not be measured."""
    args = _arguments()
    end_on_signals()
    parts = [f"{noise.describe()}; before it {noise.listen()}."]
    # Workers may be other users than we are, and /tmp is not there under `strict`.
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir="/var/tmp") as made:
        folder = Path(made)
        folder.chmod(0o755)
        try:
            for name in args.only or QUESTIONS:
                question = QUESTIONS[name]
                note(question.title)
                with _first(args.first and question.may_go_first):
                    answer = question.ask(args, folder)
                parts += [f"### {question.title}", answer]
        except (ServerFailed, load.NoGenerator) as error:
            note(f"sandbox: {error}")
            return 1
    text = "\n\n".join([*parts, f"After it {noise.listen()}."])
    say(text)
    if args.output is not None:
        args.output.write_text(text + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/sandbox",
        description="Measure what the sandbox costs. As root more is measured.",
    )
    parser.add_argument("--only", action="append", choices=list(QUESTIONS))
    parser.add_argument("--starts", type=int, default=200, help="of each case: 200")
    parser.add_argument("--ballast", type=int, default=150, help="MB, default: 150")
    parser.add_argument("--rounds", type=int, default=5, help="of servers: 5")
    parser.add_argument("--seconds", type=float, default=3.0, help="of load: 3")
    parser.add_argument("--kills", type=int, default=15, help="of each case: 15")
    parser.add_argument(
        "--first",
        action="store_true",
        help="run starts and mechanisms with real-time priority: for a busy machine",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it here too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
