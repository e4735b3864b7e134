"""The entry point: finds the command and leaves the rest to its module.

A command is a module of this package with `main(argv) -> int`, and only the one
that was asked for is imported.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from isoruntime.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: The commands, each with its usage and what it is for.
COMMANDS = {
    "init": ("init [DIR]", "make a new function"),
    "serve": ("serve [HANDLER]", "run the handler behind an HTTP server"),
    "invoke": ("invoke [HANDLER] [-e EVENT]", "run one event in a real worker"),
    "event": ("event NAME", "print a sample event of a trigger"),
    "check": ("check [DIR|s.yaml]", "find what would fail on the platform"),
    "package": ("package [DIR] [-o code.zip]", "make the zip that is deployed"),
    "doctor": ("doctor [--require PROFILE]", "show what this host can enforce"),
    "completion": ("completion SHELL", "print what completes commands in a shell"),
    "version": ("version", "print the version"),
}

#: What people need first, as they would type it; of these the first three there are.
_FIRST = {
    "init": ("init hello", "make a new function in the folder hello"),
    "invoke": ("invoke -e '{\"key\": 1}'", "run ./index.py's handler once"),
    "serve": ("serve", "answer POST localhost:9000/invoke with it"),
    "doctor": ("doctor", "see what this host keeps handlers from"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv`, or in the process's arguments.

    Returns the exit code: that of the command, or 2 where there is none.
    """
    if "_ARGCOMPLETE" in os.environ:
        # A shell asks what could come next; this does not return.
        from isoruntime.cli.completion import complete

        complete()
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    name, *rest = words
    if name == "--version":
        name = "version"
    if name not in COMMANDS:
        from isoruntime.cli.text import BAD_USAGE, complain

        complain([_unknown(name)])
        return BAD_USAGE
    code: int = import_module(f"isoruntime.cli.{name}").main(rest)
    return code


def _help() -> str:
    first = [_FIRST[name] for name in _FIRST if name in COMMANDS][:3]
    return "\n".join(
        [
            "usage: isoruntime COMMAND ...",
            "",
            "Runs Function Compute handlers in isolated worker processes. To begin with:",
            "",
            *_columns([(f"isoruntime {usage}", does) for usage, does in first]),
            "",
            "All commands:",
            "",
            *_columns(COMMANDS.values()),
            "",
            "isoruntime COMMAND --help tells all of it; settings can be variables, too.",
        ]
    )


def _columns(rows: Iterable[tuple[str, str]]) -> list[str]:
    rows = list(rows)
    width = max(len(left) for left, _ in rows)
    return [f"  {left:{width}}  {right}" for left, right in rows]


def _unknown(name: str) -> str:
    from isoruntime.settings.parse import closest

    known = f"the commands are {', '.join(COMMANDS)}"
    if name.startswith("-"):
        return f"{name} stands where a command should: {known}"
    if "." in name:
        return (
            f"'{name}' is not a command: to run this handler, isoruntime serve {name},"
            f" or isoruntime invoke {name} for a single event"
        )
    return f"'{name}' is not a command: {closest(name, COMMANDS)}{known}"
