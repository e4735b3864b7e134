"""The words after a command that has few options, and the command's own name."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from isoruntime.settings.parse import closest
from isoruntime.typed import NoReturn


class Unreadable(Exception):
    """The words break the grammar of options."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems

    def told(self, command: str) -> list[str]:
        """Return every problem, and where to read on."""
        see = f"see isoruntime {command} --help"
        return [f"{one}{' ' if one[-1] == '?' else ': '}{see}" for one in self.problems]


class Parser(argparse.ArgumentParser):
    """A parser that leaves printing and exiting to the command."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Leave the message to the command."""
        raise Unreadable(message)

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """Return the options by their names.

        Raises:
            Unreadable: with every word that was not understood.
        """
        words, others = self.parse_known_args(list(argv))
        if others:
            raise Unreadable(*map(self._not_understood, others))
        return words

    def _not_understood(self, word: str) -> str:
        flag = word.partition("=")[0]
        known = (*self._option_string_actions, "--help")
        hint = closest(flag, known) if flag.startswith("-") else ""
        return f"'{word}' is not understood{hint and f', {hint.strip()}'}"


def own_command() -> str:
    """Return how this program is called in a shell, as far as can be told."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return f"{sys.executable} -m isoruntime"
    found = shutil.which(program.name)
    if found and Path(found).resolve() == program.resolve():
        return program.name
    return str(program)
