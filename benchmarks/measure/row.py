"""What a row of the table is: how it is measured, and what it promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from benchmarks.measure.rounds import Session
from benchmarks.measure.samples import Finding, Samples


def no_charts(samples: Samples) -> Mapping[str, str]:
    """Return nothing: most rows are numbers enough."""
    return {}


class Row(NamedTuple):
    """One row. Everything but `measure` only calculates."""

    name: str
    title: str
    measure: Callable[[Session], Samples]
    judge: Callable[[Samples], list[Finding]]
    #: the case and the metric whose spread tells whether the machine was steady
    reference: tuple[str, str]
    #: only metrics that begin so are shown, where there are too many
    shown: str = ""
    #: file name to SVG
    charts: Callable[[Samples], Mapping[str, str]] = no_charts
