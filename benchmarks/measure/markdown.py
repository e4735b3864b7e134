"""Markdown tables, and what programs say on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with aligned columns, also readable as plain text."""
    widths = [
        max(len(row[column]) for row in (head, *rows)) for column in range(len(head))
    ]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join([line(head), rule, *map(line, rows)])


def say(text: str = "") -> None:
    """Print a result."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Tell the person who waits how far it is, or what is wrong."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
