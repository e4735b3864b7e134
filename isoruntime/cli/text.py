"""What the commands say to a person: complaints, and the help of `serve`."""

from __future__ import annotations

import os
import sys

from isoruntime.settings import DECLARED, GROUPS
from isoruntime.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TextIO

    from isoruntime.cli.options import Option
    from isoruntime.settings import Setting

#: Exit code of a command that was asked for something that cannot be.
BAD_USAGE = 2

_INTRODUCTION = (
    "Runs the handler behind an HTTP server, each invocation in a worker process. "
    "In brackets: the variables that are read where the flag is not given, of which "
    "the first that is set counts, and the default."
)
_INDENT = 26
_WIDEST = 100
_NARROWEST = 60


#: Colours, by the numbers that terminals have for them.
RED, GREEN, YELLOW, GREY = "31", "32", "33", "90"


def complain(problems: Iterable[str]) -> None:
    """Print problems to stderr, one a line."""
    for problem in problems:
        print(f"{coloured('isoruntime:', RED, sys.stderr)} {problem}", file=sys.stderr)


def coloured(text: str, colour: str, stream: TextIO) -> str:
    """Return a text in colour, if it goes to a terminal and nobody minds.

    Source of the variable that says so: https://no-color.org.
    """
    if os.environ.get("NO_COLOR") or not stream.isatty():
        return text
    return f"\033[{colour}m{text}\033[0m"


def serve_help() -> str:
    """Return the help of `serve`: every setting, as the declarations have it."""
    return settings_help("usage: isoruntime serve [HANDLER] [OPTIONS]", _INTRODUCTION)


def settings_help(
    usage: str,
    introduction: str,
    own: Sequence[Option] = (),
    declared: Sequence[Setting] = DECLARED,
) -> str:
    """Return the help of a command that takes settings, after options of its own."""
    # Needed for help only, never on the way to serving.
    import shutil
    import textwrap

    width = min(_WIDEST, max(_NARROWEST, shutil.get_terminal_size().columns))
    lines = [usage, "", *textwrap.wrap(introduction, width)]
    if own:
        lines.append("")
    for option in own:
        flags = ", ".join(option.flags)
        lines += _entry(f"{flags} {option.metavar}".rstrip(), option.doc, width)
    for group in GROUPS:
        chosen = [setting for setting in declared if setting.group == group]
        if chosen or group == "other":
            lines += ["", f"{group}:"]
        for setting in chosen:
            lines += _entry(_usage(setting), _meaning(setting), width)
        if group == "workers":
            lines += _entry("--fresh", "short for --max-invocations 1", width)
    lines += _entry("--help", "print this and exit", width)
    lines += _entry("--version", "print the version and exit", width)
    return "\n".join(lines)


def _usage(setting: Setting) -> str:
    if setting.is_switch or not setting.flag.startswith("--"):
        return setting.flag
    return f"{setting.flag} {setting.metavar}"


def _meaning(setting: Setting) -> str:
    sources = ", ".join((setting.variable, *setting.fc))
    return f"{setting.doc} [{sources}, else {setting.default_text}]"


def _entry(left: str, right: str, width: int) -> Iterator[str]:
    import textwrap  # as above

    wrapped = textwrap.wrap(
        right, width - _INDENT, break_long_words=False, break_on_hyphens=False
    )
    left = f"  {left}"
    if len(left) > _INDENT - 2:
        yield left
        left = ""
    for line in wrapped:
        yield f"{left:{_INDENT}}{line}"
        left = ""
