"""The words after a command that has few options: read, and all problems told at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from isoruntime.settings.parse import closest


class Unreadable(Exception):
    """The words break the grammar of options."""


class Parser(argparse.ArgumentParser):
    """A parser that leaves printing and exiting to the command."""

    def __init__(self) -> None:
        super().__init__(
            add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS
        )

    def error(self, message: str) -> NoReturn:
        """Leave the message to the command."""
        raise Unreadable(message)

    def read(
        self, argv: Sequence[str], command: str
    ) -> tuple[dict[str, object], list[str]]:
        """Return the options by their names, and what was not understood."""
        try:
            known, others = self.parse_known_args(list(argv))
        except Unreadable as error:
            return {}, [f"{error}: see isoruntime {command} --help"]
        return vars(known), [self._not_understood(word, command) for word in others]

    def _not_understood(self, word: str, command: str) -> str:
        if not word.startswith("-"):
            return f"'{word}' is one argument too many: give one DIR"
        flag = word.partition("=")[0]
        hint = closest(flag, self._option_string_actions)
        return f"{flag} is no option: {hint}see isoruntime {command} --help"


def own_command() -> str:
    """Return how this program is called in a shell, as far as can be told."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return f"{sys.executable} -m isoruntime"
    return sys.argv[0]
