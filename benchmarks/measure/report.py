"""Results as Markdown and charts: what was promised, what was found, all the medians."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Final

from benchmarks.measure.markdown import table
from benchmarks.measure.results import Measured, Results, why_failed, why_noisy
from benchmarks.measure.row import Row
from benchmarks.measure.rows import ROWS
from benchmarks.measure.samples import (
    FAILURES,
    Finding,
    Samples,
    number,
    spread,
    with_unit,
)

_KEPT: Final = {True: "✓", False: "✗"}


def report(results: Results) -> str:
    """Return everything as Markdown."""
    rows = [(ROWS[name], measured) for name, measured in results.rows.items()]
    details = [_details(row, measured) for row, measured in rows]
    return "\n\n".join([_about(results), _promises(rows), *details])


def charts(results: Results) -> Mapping[str, str]:
    """Return the charts of all rows: file name to SVG."""
    return {
        name: svg
        for row, measured in results.rows.items()
        if not measured.error
        for name, svg in ROWS[row].charts(measured.samples).items()
    }


def _about(results: Results) -> str:
    about = results.about
    versions = ", ".join(
        f"{name} {version}" for name, version in about.versions.items()
    )
    lines = [
        f"{about.machine}. {versions}; commit {about.commit}, {about.began}.",
        f"{about.rounds} rounds, {about.seconds:g} s each under load in turns of 1 s;"
        " medians, and in parentheses how far the rounds lie apart.",
    ]
    if about.is_quick:
        lines.append(
            "**A quick run: it shows that all of it works, not how fast it is.**"
        )
    doubtful = [
        name
        for name, measured in results.rows.items()
        if measured.before.is_doubtful or measured.after.is_doubtful
    ]
    if doubtful:
        lines.append(
            "**Not a quiet machine, so that small differences mean nothing:"
            f" {', '.join(doubtful)}.**"
        )
    return "\n".join(lines)


def _promises(rows: list[tuple[Row, Measured]]) -> str:
    cells = [
        [row.title if first else "", *_finding(finding, bool(why_noisy(row, measured)))]
        for row, measured in rows
        if not measured.error
        for first, finding in _with_first(row.judge(measured.samples))
    ]
    return table(["", "what", "target", "measured", "rounds", ""], cells)


def _with_first(findings: list[Finding]) -> list[tuple[bool, Finding]]:
    return [(place == 0, finding) for place, finding in enumerate(findings)]


def _finding(finding: Finding, is_noisy: bool) -> list[str]:
    return [
        finding.what,
        finding.target,
        with_unit(finding.value, finding.unit),
        f"{number(finding.low)} to {number(finding.high)}",
        "noise" if is_noisy else _KEPT[finding.is_kept],
    ]


def _details(row: Row, measured: Measured) -> str:
    parts = [f"### {row.title}"]
    for problem in (why_failed(measured), why_noisy(row, measured)):
        if problem:
            parts.append(f"**Compares nothing: {problem}.**")
    if measured.samples:
        parts.append(_medians(row, measured.samples))
    return "\n\n".join(parts)


def _medians(row: Row, samples: Samples) -> str:
    """Return all medians; what there are more of, cases or metrics, goes downwards."""
    metrics = [
        metric
        for metric in dict.fromkeys(
            metric for metrics in samples.values() for metric in metrics
        )
        if metric != FAILURES and metric.startswith(row.shown)
    ]
    if len(metrics) > len(samples):
        return table(
            ["", *samples],
            [
                [metric, *(_cell(samples[case].get(metric)) for case in samples)]
                for metric in metrics
            ],
        )
    return table(
        ["", *metrics],
        [
            [case, *(_cell(found.get(metric)) for metric in metrics)]
            for case, found in samples.items()
        ],
    )


def _cell(values: list[float] | None) -> str:
    if not values:
        return ""
    return f"{number(statistics.median(values))} ({spread(values):.0%})"
