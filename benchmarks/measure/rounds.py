"""Measuring in turn, so that a slow minute of the machine hits everybody alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from benchmarks.measure.contenders import Contenders
from benchmarks.measure.markdown import note
from benchmarks.measure.samples import Samples, add_round


class Case(NamedTuple):
    """One of those that are compared. `measure` does one round: metric to value."""

    name: str
    measure: Callable[[], Mapping[str, float]]


class Session(NamedTuple):
    """What the rows of one run have in common."""

    contenders: Contenders
    rounds: int
    #: how many seconds each load of a round lasts, in slices of one
    slices: int
    #: whether it only has to show that everything works
    is_quick: bool


One = TypeVar("One")


def in_order(them: Sequence[One], turn: int) -> Sequence[One]:
    """Return them as they are, or in every other turn from behind."""
    return them if turn % 2 == 0 else them[::-1]


def interleave(cases: Sequence[Case], rounds: int) -> Samples:
    """Measure every case once a round, in alternating order."""
    samples: Samples = {case.name: {} for case in cases}
    for turn in range(rounds):
        for case in in_order(cases, turn):
            note(f"  round {turn + 1} of {rounds}: {case.name}")
            add_round(samples, case.name, case.measure())
    return samples
