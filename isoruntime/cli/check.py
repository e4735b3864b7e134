"""isoruntime check: what would fail on the platform, found before it is deployed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from isoruntime.cli import options
from isoruntime.cli.text import BAD_USAGE, GREY, RED, YELLOW, coloured, complain
from isoruntime.cli.words import Parser, Unreadable
from isoruntime.errors import CannotRead
from isoruntime.project import images
from isoruntime.project.finding import ERROR, Finding
from isoruntime.project.review import Review
from isoruntime.settings.parse import closest
from isoruntime.typed import Any, Final

#: Exit code: something will not work.
_FINDINGS: Final = 1

_USAGE: Final = f"""\
usage: isoruntime check [DIR|s.yaml] [--json] [--strict] [--runtime ID]

Finds what would fail on Function Compute before it is deployed: a bootstrap that cannot
start, ports that differ, a handler that is not there, packages built for another
Python, settings that are refused, misspelt keys and wrong values in s.yaml. Nothing is
run and nothing is sent anywhere. Every finding has a name, which docs/checks.md explains.

  DIR            a folder; its s.yaml is taken if there is one [the current folder]
  s.yaml         resources with component: fc3, in YAML (pip install 'isoruntime[yaml]')
                 or JSON, and the folders that they name
  --json         a list of objects instead of text
  --strict       warnings count as errors
  --runtime ID   what a folder without s.yaml is for [{images.DEFAULT}]
  --help         print this and exit

Exit code 0 if nothing will fail, 1 if something will. Warnings are what may fail, or may
not be as it was meant: they are shown and change the exit code with --strict only. 2 if
there was nothing to look at."""


def main(argv: Sequence[str]) -> int:
    """Print what was found; 1 if something will fail, 2 if nothing could be looked at."""
    if {"-h", "--help"} & set(argv):
        print(_USAGE)
        return 0
    try:
        words = _parse(argv)
        review = Review(options.parse)
        review.look_at(Path(words.path), words.runtime)
    except Unreadable as error:
        complain(error.told("check"))
        return BAD_USAGE
    except CannotRead as error:
        complain([str(error)])
        return BAD_USAGE
    if words.json:
        objects = [_as_object(name, finding) for name, finding in review.findings]
        print(json.dumps(objects, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_report(review)))
    failing = review.errors or (words.strict and review.warnings)
    return _FINDINGS if failing else 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser()
    parser.add_argument("path", nargs="?", default=".")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--runtime", default=images.DEFAULT)
    words = parser.read(argv)
    if words.runtime not in images.CUSTOM:
        hint = closest(words.runtime, images.CUSTOM)
        raise Unreadable(
            f"--runtime '{words.runtime}' is not known: {hint}give one of "
            f"{', '.join(images.CUSTOM)}"
        )
    return words


def _as_object(name: str, finding: Finding) -> dict[str, Any]:
    kind, place = finding.kind, finding.place
    return {
        "id": kind.name,
        "severity": kind.severity,
        "cause": finding.cause,
        "fix": finding.fix,
        "file": place.path,
        "line": place.line or None,
        "key": place.key or None,
        "function": name or None,
        "platform": kind.says or None,
    }


def _report(review: Review) -> Iterator[str]:
    by_file: dict[str, list[Finding]] = {}
    for _, finding in review.findings:
        by_file.setdefault(finding.place.path, []).append(finding)
    for path, findings in by_file.items():
        yield path
        for finding in sorted(findings, key=lambda one: one.place.line):
            yield from _told(finding)
        yield ""
    for what in review.not_judged:
        yield f"not judged: {what}"
    yield _summary(review)


def _told(finding: Finding) -> Iterator[str]:
    kind, place = finding.kind, finding.place
    where = f"line {place.line}: " if place.line else f"{place.key}: " * bool(place.key)
    severity = coloured(
        kind.severity, RED if kind.severity == ERROR else YELLOW, sys.stdout
    )
    name = coloured(f"[{kind.name}]", GREY, sys.stdout)
    yield f"  {severity}: {where}{finding.cause} {name}"
    yield f"      fix: {finding.fix}"
    if kind.says:
        yield coloured(f"      platform: {kind.says}", GREY, sys.stdout)


def _summary(review: Review) -> str:
    looked_at = f"looked at {', '.join(review.looked_at)}"
    if not review.findings:
        return f"nothing found; {looked_at}"
    errors = _counted(review.errors, "error")
    return f"{errors}, {_counted(review.warnings, 'warning')}; {looked_at}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
