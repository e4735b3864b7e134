"""isoruntime version: print the version, and what it runs on."""

from __future__ import annotations

import sys

from isoruntime import __version__
from isoruntime.cli.text import BAD_USAGE, complain
from isoruntime.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Print one line; there is nothing to set."""
    if argv and argv[0] in ("-h", "--help"):
        print("usage: isoruntime version\n\nPrints the version.")
        return 0
    if argv:
        complain([f"version takes no arguments: leave out {' '.join(argv)}"])
        return BAD_USAGE
    print(version_line())
    return 0


def version_line() -> str:
    """Return the version of isoruntime and of the Python that runs it."""
    python = ".".join(str(number) for number in sys.version_info[:3])
    return f"isoruntime {__version__} (Python {python})"
