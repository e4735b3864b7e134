"""Numbers of many rounds, and what they say: medians, ratios, spread, targets kept.

Everything here is arithmetic on values that were measured elsewhere, so that a table can
be made again from the raw numbers.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

#: Per server (or other case), per metric: one value a round. The n-th values of all cases
#: were measured one after the other.
Samples = dict[str, dict[str, list[float]]]

#: The metric that counts calls that failed. It must be zero everywhere.
FAILURES: Final = "failures"


class Finding(NamedTuple):
    """One promise, and what was found; `low` and `high` are the extremes of rounds."""

    what: str
    target: str
    value: float
    low: float
    high: float
    unit: str
    is_kept: bool


class Target(NamedTuple):
    """What is promised: no less than `least`, no more than `most`."""

    least: float | None = None
    most: float | None = None

    def is_kept(self, value: float) -> bool:
        """Return whether a value is as promised."""
        return not (
            (self.least is not None and value < self.least)
            or (self.most is not None and value > self.most)
        )

    def text(self, unit: str) -> str:
        """Return it for people: `≥ 1.6`."""
        if self.least is not None:
            return f"≥ {with_unit(self.least, unit)}"
        assert self.most is not None
        return f"≤ {with_unit(self.most, unit)}"


def at_least(value: float) -> Target:
    """Return the target of a number that should be large."""
    return Target(least=value)


def at_most(value: float) -> Target:
    """Return the target of a number that should be small."""
    return Target(most=value)


def add_round(samples: Samples, case: str, metrics: Mapping[str, float]) -> None:
    """Add what one round of a case came to: metric to value."""
    for metric, value in metrics.items():
        samples[case].setdefault(metric, []).append(value)


def spread(values: Sequence[float]) -> float:
    """Return how far values lie apart: (largest - smallest) / median."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that this share of all is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def median(samples: Samples, case: str, metric: str) -> float:
    """Return the median of all rounds."""
    return statistics.median(samples[case][metric])


def highest(samples: Samples, metric: str, cases: Sequence[str]) -> str:
    """Return the case whose median is highest."""
    return max(cases, key=lambda case: median(samples, case, metric))


def lowest(samples: Samples, metric: str, cases: Sequence[str]) -> str:
    """Return the case whose median is lowest."""
    return min(cases, key=lambda case: median(samples, case, metric))


def absolute(
    samples: Samples, what: str, case: str, metric: str, target: Target, unit: str
) -> Finding:
    """Judge a number by itself."""
    values = samples[case][metric]
    return _finding(what, statistics.median(values), values, target, unit)


def ratio(
    samples: Samples, what: str, ours: str, theirs: str, metric: str, target: Target
) -> Finding:
    """Judge the ratio of two medians; the extremes are those of single rounds."""
    mine, others = samples[ours][metric], samples[theirs][metric]
    of_rounds = [a / b for a, b in zip(mine, others, strict=True)]
    value = statistics.median(mine) / statistics.median(others)
    return _finding(what, value, of_rounds, target, "")


def difference(
    samples: Samples,
    what: str,
    ours: str,
    theirs: str,
    metric: str,
    target: Target,
    unit: str,
) -> Finding:
    """Judge by how much one median exceeds another."""
    mine, others = samples[ours][metric], samples[theirs][metric]
    of_rounds = [a - b for a, b in zip(mine, others, strict=True)]
    value = statistics.median(mine) - statistics.median(others)
    return _finding(what, value, of_rounds, target, unit)


def added(
    samples: Samples,
    what: str,
    ours: str,
    theirs: str,
    metric: str,
    measure: tuple[str, str],
    target: Target,
) -> Finding:
    """Judge by how much one median exceeds another, over that of a case's metric."""
    mine, others = samples[ours][metric], samples[theirs][metric]
    units = samples[measure[0]][measure[1]]
    of_rounds = [(a - b) / c for a, b, c in zip(mine, others, units, strict=True)]
    exceeds = statistics.median(mine) - statistics.median(others)
    return _finding(what, exceeds / statistics.median(units), of_rounds, target, "")


def within(
    samples: Samples, what: str, case: str, metrics: tuple[str, str], target: Target
) -> Finding:
    """Judge the ratio of two numbers of the same case."""
    uppers, lowers = (samples[case][metric] for metric in metrics)
    of_rounds = [a / b for a, b in zip(uppers, lowers, strict=True)]
    value = statistics.median(uppers) / statistics.median(lowers)
    return _finding(what, value, of_rounds, target, "")


def _finding(
    what: str, value: float, of_rounds: Sequence[float], target: Target, unit: str
) -> Finding:
    return Finding(
        what,
        target.text(unit),
        value,
        min(of_rounds),
        max(of_rounds),
        unit,
        target.is_kept(value),
    )


def failed(samples: Samples) -> Mapping[str, int]:
    """Return the cases in which calls failed, and how many did."""
    return {
        case: int(sum(metrics[FAILURES]))
        for case, metrics in samples.items()
        if sum(metrics.get(FAILURES, []))
    }


def number(value: float) -> str:
    """Return a number with three digits that count, and no more than people read."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def with_unit(value: float, unit: str) -> str:
    """Return a number with its unit, if it has one."""
    return f"{number(value)} {unit}" if unit else number(value)
