"""benchmarks/run: everything that docs/performance.md promises, measured in one run.

Every round starts every server afresh, and has them take turns, so that a slow minute of
the machine hits all of them alike. Raw numbers are stored after every row; tables and
charts are made from them, and can be made again with `--show`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.measure import load, noise
from benchmarks.measure.contenders import Contenders
from benchmarks.measure.environment import Environment, NoPeers
from benchmarks.measure.load import NoGenerator
from benchmarks.measure.markdown import note, say
from benchmarks.measure.report import charts, report
from benchmarks.measure.results import (
    WITH_CHANGES,
    About,
    Measured,
    Results,
    why_failed,
    why_noisy,
)
from benchmarks.measure.rounds import Session
from benchmarks.measure.row import Row
from benchmarks.measure.rows import ROWS
from benchmarks.measure.servers import ROOT, ServerFailed, end_on_signals

_RESULTS: Final = ROOT / "benchmarks" / "results"
_REFERENCE: Final = _RESULTS / "reference.json"
_DOCS: Final = ROOT / "docs"
_PAGE: Final = _DOCS / "performance.md"
_BEGIN: Final = "<!-- benchmarks/run --publish writes from here -->"
_END: Final = "<!-- to here -->"

_FAILED: Final = 1
_UNABLE: Final = 2
_NOISY: Final = 3
_INTERRUPTED: Final = 130

_ROUNDS: Final = 5
_QUICK_ROUNDS: Final = 2
_SLICES: Final = 3
_QUICK_SLICES: Final = 1
#: Five servers with 1,000 silent connections each, and the busy ones.
_MOST_CONNECTIONS: Final = 5200
#: A row in which the machine was too noisy is measured again after all others: noise
#: comes in spells. What decides is the noise alone, before anybody has seen what came out.
_TRIES: Final = 3
_LISTENS: Final = 15
_PAUSE_S: Final = 2.0


def main() -> int:
    """Return 0; 1 if calls failed, 2 if it cannot be measured, 3 if it is too noisy."""
    args = _arguments()
    end_on_signals()
    try:
        results = Results.read(args.show) if args.show else _measure(args)
    except (NoGenerator, NoPeers, CannotResume) as error:
        note(f"run: {error}")
        return _UNABLE
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        if not args.show:
            raise
        note(f"run: {args.show} holds no numbers of a run: {error}")
        return _UNABLE
    except KeyboardInterrupt:
        note("run: interrupted; every server was ended")
        return _INTERRUPTED
    return _tell(results, args)


def _measure(args: argparse.Namespace) -> Results:
    generator = load.version()
    load.raise_descriptor_limit(_MOST_CONNECTIONS)
    contenders = Contenders(Environment.make())
    rounds = args.rounds or (_QUICK_ROUNDS if args.quick else _ROUNDS)
    slices = _QUICK_SLICES if args.quick else _SLICES
    about = About(
        machine=noise.describe(),
        versions={**contenders.versions(), "wrk": generator.removeprefix("wrk ")},
        commit=_commit(),
        began=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        rounds=rounds,
        seconds=slices,
        is_quick=args.quick,
    )
    session = Session(contenders, rounds, slices, args.quick)
    if args.resume:
        path, results = args.resume, resume(args.resume, about)
    else:
        path = _RESULTS / time.strftime("%Y%m%d-%H%M%S.json", time.gmtime())
        results = Results(about, {})
    tries = 1 if args.force else _TRIES
    missing = deque(
        (name, tries - 1)
        for name in args.rows or ROWS
        if not is_measured(results, name)
    )
    while missing:
        name, left = missing.popleft()
        before = noise.listen() if args.force else _wait_for_quiet()
        if before.is_unusable and not args.force:
            note(f"run: too noisy to go on: {before}; --force does nevertheless")
            note(f"run: --resume {path} goes on when it is quiet")
            return results
        measured = _measure_row(ROWS[name], session, before)
        results.rows[name] = measured
        results.write(path)
        note(f"{name}: {measured.took_s:.0f} s; raw numbers in {path}")
        if why := why_noisy(ROWS[name], measured):
            note(f"{name}: {why}{'; once more after all others' if left else ''}")
            if left:
                missing.append((name, left - 1))
    return results


class CannotResume(Exception):
    """What was measured cannot be completed, since something is not as it was."""


def resume(path: Path, about: About) -> Results:
    """Return what was measured under the same circumstances.

    Raises:
        CannotResume: with what has changed.
    """
    try:
        results = Results.read(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotResume(f"{path} holds no numbers of a run: {error}") from error
    then, now = results.about._replace(began=about.began)._asdict(), about._asdict()
    changed = [
        f"{name} is {now[name]}, and was {value}"
        for name, value in then.items()
        if now[name] != value
    ]
    if changed:
        raise CannotResume(f"{path} was measured otherwise: {'; '.join(changed)}")
    if about.has_changes:
        raise CannotResume("with changes that are not committed nothing is resumed")
    return results


def is_measured(results: Results, name: str) -> bool:
    """Return whether a row's numbers are there, and compare something."""
    measured = results.rows.get(name)
    return (
        measured is not None
        and not measured.error
        and not why_noisy(ROWS[name], measured)
    )


def _wait_for_quiet() -> noise.Quiet:
    """Return what the machine is like, after a minute at most in which it was too noisy."""
    heard = noise.listen()
    for _ in range(_LISTENS):
        if not heard.is_unusable:
            break
        time.sleep(_PAUSE_S)
        heard = noise.listen()
    return heard


def _measure_row(row: Row, session: Session, before: noise.Quiet) -> Measured:
    note(f"{row.name}: {row.title}")
    began = time.monotonic()
    try:
        samples, error = row.measure(session), ""
    except (ServerFailed, NoGenerator, OSError, subprocess.SubprocessError) as failure:
        # The other rows may go well.
        samples, error = {}, f"{type(failure).__name__}: {failure}"
        note(f"run: {row.name}: {error}")
    return Measured(samples, error, before, noise.listen(), time.monotonic() - began)


def _tell(results: Results, args: argparse.Namespace) -> int:
    """Print the report, unless it would mislead."""
    noisy = {
        name: why
        for name, measured in results.rows.items()
        if (why := why_noisy(ROWS[name], measured))
    }
    failures = {
        name: why
        for name, measured in results.rows.items()
        if (why := why_failed(measured))
    }
    for name, why in failures.items():
        note(f"run: {name}: {why}")
    for name, why in noisy.items():
        note(f"run: {name}: too noisy to compare: {why}")
    if (noisy or not results.rows) and not args.force:
        note("run: nothing is compared; --show FILE --force prints what was measured")
        return _NOISY
    say(report(results))
    if args.publish:
        return _publish(results, args.force, bool(failures))
    return _FAILED if failures else 0


def _publish(results: Results, is_forced: bool, has_failed: bool) -> int:
    """Write the page, its charts and the raw numbers they were made of."""
    missing = ROWS.keys() - results.rows.keys()
    if (results.about.is_quick or missing or has_failed) and not is_forced:
        note("run: only a whole run without failures is published; --force does it")
        return _FAILED
    results.write(_REFERENCE)
    for name, svg in charts(results).items():
        (_DOCS / name).write_text(svg)
    page = _PAGE.read_text()
    before, rest = page.split(_BEGIN)
    after = rest.split(_END)[1]
    _PAGE.write_text(f"{before}{_BEGIN}\n\n{report(results)}\n\n{_END}{after}")
    return 0


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(  # noqa: S603 - a command line of ours
            ["git", "-C", str(ROOT), *words],  # noqa: S607 - found as a user would
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    try:
        changed = WITH_CHANGES if git("status", "--porcelain") else ""
        return f"{git('rev-parse', '--short', 'HEAD') or 'unknown'}{changed}"
    except FileNotFoundError:
        return "unknown"


def _arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    rows = "\n".join(f"  {name:<12}{row.title}" for name, row in ROWS.items())
    parser = argparse.ArgumentParser(
        prog="benchmarks/run",
        description="Measure isoruntime next to other servers, all on 127.0.0.1.",
        epilog=f"rows, all of them by default:\n{rows}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="measure only these")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"default: {_ROUNDS}")
    parser.add_argument(
        "--quick", action="store_true", help="two short rounds, to see that it works"
    )
    parser.add_argument(
        "--force", action="store_true", help="go on when the machine is too noisy"
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="measure what is missing or was too noisy in stored numbers",
    )
    parser.add_argument(
        "--show",
        type=Path,
        metavar="FILE",
        help="print stored numbers, measure nothing",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write docs/performance.md, its charts, and results/reference.json",
    )
    args = parser.parse_args(argv)
    unknown = [name for name in args.rows if name not in ROWS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if args.rounds is not None and args.rounds < 1:
        parser.error("--rounds: at least 1")
    return args


if __name__ == "__main__":
    sys.exit(main())
