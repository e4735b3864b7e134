"""benchmarks/run: everything that docs/performance.md promises, measured in one run.

Every round starts every server afresh, in alternating order, so that a slow minute of
the machine hits all of them alike. Raw numbers are stored after every row; tables and
charts are made from them, and can be made again with `--show`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.measure import load, noise
from benchmarks.measure.contenders import Contenders
from benchmarks.measure.environment import Environment, NoPeers
from benchmarks.measure.load import NoGenerator
from benchmarks.measure.markdown import note, say
from benchmarks.measure.report import charts, report
from benchmarks.measure.results import About, Measured, Results, why_failed, why_noisy
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
_SECONDS: Final = 2
_QUICK_SECONDS: Final = 1
_MOST_CONNECTIONS: Final = 1200
#: A row in which the machine was too noisy is measured again; what decides is the noise
#: alone, before anybody has seen what came out.
_TRIES: Final = 3
_LISTENS: Final = 15
_PAUSE_S: Final = 2.0


def main() -> int:
    """Return 0; 1 if calls failed, 2 if it cannot be measured, 3 if it is too noisy."""
    args = _arguments()
    end_on_signals()
    try:
        results = Results.read(args.show) if args.show else _measure(args)
    except (NoGenerator, NoPeers) as error:
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
    seconds = _QUICK_SECONDS if args.quick else _SECONDS
    about = About(
        machine=noise.describe(),
        versions={**contenders.versions(), "wrk": generator.removeprefix("wrk ")},
        commit=_commit(),
        began=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        rounds=rounds,
        seconds=seconds,
        is_quick=args.quick,
    )
    session = Session(contenders, rounds, seconds, args.quick)
    results = Results(about, {})
    path = _RESULTS / time.strftime("%Y%m%d-%H%M%S.json", time.gmtime())
    for name in args.rows or ROWS:
        for left in reversed(range(1 if args.force else _TRIES)):
            before = noise.listen() if args.force else _wait_for_quiet()
            if before.is_unusable and not args.force:
                note(f"run: too noisy to go on: {before}; --force does nevertheless")
                return results
            measured = _measure_row(ROWS[name], session, before)
            results.rows[name] = measured
            results.write(path)
            note(f"{name}: {measured.took_s:.0f} s; raw numbers in {path}")
            why = why_noisy(ROWS[name], measured)
            if not why:
                break
            note(f"{name}: {why}{'; once more' if left else ''}")
    return results


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
        changed = " with changes" if git("status", "--porcelain") else ""
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
