"""The entry point: finds the command and leaves the rest to its module.

A command is a module of this package with `main(argv) -> int`, and only the one
that was asked for is imported.
"""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False  # `typing` itself would cost milliseconds at every start.
if TYPE_CHECKING:
    from collections.abc import Sequence

#: The commands, each with its usage and what it is for.
COMMANDS = {
    "serve": ("serve [HANDLER] [OPTIONS]", "run the handler behind an HTTP server"),
    "invoke": ("invoke [HANDLER] [-e EVENT]", "run one event, print its result"),
    "event": ("event NAME", "print a sample event"),
    "doctor": (
        "doctor [--require PROFILE] [OPTIONS]",
        "show what this host can enforce",
    ),
    "version": ("version", "print the version"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv`, or in the process's arguments.

    Returns the exit code: that of the command, or 2 where there is none.
    """
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
    width = max(len(usage) for usage, _ in COMMANDS.values())
    lines = [f"  {usage:{width}}  {purpose}" for usage, purpose in COMMANDS.values()]
    return "\n".join(
        [
            "usage: isoruntime COMMAND ...",
            "",
            "Runs Function Compute handlers in isolated worker processes.",
            "",
            *lines,
            "",
            "'isoruntime serve --help' lists every option and its variable.",
        ]
    )


def _unknown(name: str) -> str:
    from isoruntime.settings.parse import closest

    known = f"the commands are {', '.join(COMMANDS)}"
    if name.startswith("-"):
        return f"{name} stands where a command should: {known}"
    if "." in name:
        return (
            f"'{name}' is not a command: to run this handler, isoruntime serve {name}"
        )
    return f"'{name}' is not a command: {closest(name, COMMANDS)}{known}"
