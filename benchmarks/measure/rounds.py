"""Measuring in turn, so that a slow minute of the machine hits everybody alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.measure.contenders import Contenders
from benchmarks.measure.markdown import note
from benchmarks.measure.samples import Samples


class Case(NamedTuple):
    """One of those that are compared. `measure` does one round: metric to value."""

    name: str
    measure: Callable[[], Mapping[str, float]]


class Session(NamedTuple):
    """What the rows of one run have in common."""

    contenders: Contenders
    rounds: int
    #: how long one load lasts
    seconds: float
    #: whether it only has to show that everything works
    is_quick: bool


def interleave(cases: Sequence[Case], rounds: int) -> Samples:
    """Measure every case once a round, in alternating order."""
    samples: Samples = {case.name: {} for case in cases}
    for turn in range(rounds):
        for case in cases if turn % 2 == 0 else reversed(cases):
            note(f"  round {turn + 1} of {rounds}: {case.name}")
            for metric, value in case.measure().items():
                samples[case.name].setdefault(metric, []).append(value)
    return samples
