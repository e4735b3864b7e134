"""Line charts as SVG: few enough elements to be written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final, NamedTuple

_WIDTH: Final = 720
_HEIGHT: Final = 420
#: Where the lines are drawn; around it is room for words.
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 696, 74, 362
#: Told apart by people with any kind of sight: Okabe and Ito's palette.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_STEPS: Final = (1, 2, 2.5, 5, 10)
_MOST_TICKS: Final = 6
_LETTER_PX: Final = 6.6


class Line(NamedTuple):
    """One line: its name and its points, from left to right."""

    name: str
    points: Sequence[tuple[float, float]]


class Axis(NamedTuple):
    """What an axis shows: its name with the unit, ticks, and how they are written."""

    name: str
    ticks: Sequence[float]
    write: Callable[[float], str] = "{:,.0f}".format
    is_log: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies: 0 at the first tick, 1 at the last."""
        low, high = self.ticks[0], self.ticks[-1]
        if self.is_log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)


def upwards(name: str, lines: Sequence[Line]) -> Axis:
    """Return an axis from 0 that holds all lines, with round numbers at its ticks."""
    top = max(y for line in lines for _, y in line.points)
    size = 10 ** math.floor(math.log10(top))
    for factor in (step * scale for scale in (0.1, 1) for step in _STEPS):
        count = math.ceil(top / (size * factor))
        if count <= _MOST_TICKS:
            step = size * factor
            break
    write = "{:,.0f}".format if step >= 1 else "{:g}".format
    return Axis(name, [number * step for number in range(count + 1)], write)


def decades(name: str, lines: Sequence[Line]) -> Axis:
    """Return a logarithmic axis that holds all lines."""
    values = [y for line in lines for _, y in line.points]
    low = math.floor(math.log10(min(values)))
    high = max(low + 1, math.ceil(math.log10(max(values))))
    ticks = [10.0**power for power in range(low, high + 1)]
    return Axis(name, ticks, "{:,g}".format, is_log=True)


def svg(title: str, x: Axis, y: Axis, lines: Sequence[Line]) -> str:
    """Return the chart."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#333">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_LEFT, 26, title, 'font-size="16" font-weight="600"'),
        *_grid(x, y),
        *_legend(lines),
    ]
    for line, colour in zip(lines, _COLOURS, strict=False):
        parts += _line(line, colour, x, y)
    return "\n".join([*parts, "</svg>", ""])


def _grid(x: Axis, y: Axis) -> list[str]:
    parts = []
    for tick in y.ticks:
        at = _down(y, tick)
        colour = "#999" if tick == y.ticks[0] else "#e4e4e4"
        parts.append(_stroke(_LEFT, at, _RIGHT, at, colour))
        parts.append(_text(_LEFT - 8, at + 4, y.write(tick), 'text-anchor="end"'))
    for tick in x.ticks:
        at = _across(x, tick)
        parts.append(_stroke(at, _BOTTOM, at, _BOTTOM + 5, "#999"))
        parts.append(_text(at, _BOTTOM + 20, x.write(tick), 'text-anchor="middle"'))
    middle = (_LEFT + _RIGHT) / 2
    parts.append(_text(middle, _BOTTOM + 44, x.name, 'text-anchor="middle"'))
    across = (_TOP + _BOTTOM) / 2
    turned = f'text-anchor="middle" transform="rotate(-90 18 {across:g})"'
    parts.append(_text(18, across, y.name, turned))
    return parts


def _legend(lines: Sequence[Line]) -> list[str]:
    if len(lines) == 1:
        return []
    parts, at = [], float(_LEFT)
    for line, colour in zip(lines, _COLOURS, strict=False):
        parts.append(
            f'<rect x="{at:g}" y="44" width="14" height="4" rx="2" fill="{colour}"/>'
        )
        parts.append(_text(at + 20, 50, line.name))
        at += 44 + _LETTER_PX * len(line.name)
    return parts


def _line(line: Line, colour: str, x: Axis, y: Axis) -> list[str]:
    points = [(_across(x, a), _down(y, b)) for a, b in line.points]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" '
        'stroke-linejoin="round"/>',
        *(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colour}"/>'
            for a, b in points
        ),
    ]


def _across(axis: Axis, value: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * axis.place(value)


def _down(axis: Axis, value: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * axis.place(value)


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}"/>'
    )


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'
