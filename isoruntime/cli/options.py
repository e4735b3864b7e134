"""The options of `isoruntime serve`: from words to what `read_settings` takes."""

from __future__ import annotations

import argparse
from itertools import pairwise

from isoruntime.settings import DECLARED
from isoruntime.settings.parse import closest

TYPE_CHECKING = False  # `typing` itself would cost milliseconds at every start.
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def parse(argv: Sequence[str]) -> tuple[dict[str, object], list[str]]:
    """Return what `read_settings` takes as flags, and what was not understood.

    Values stay text: `read_settings` judges them together with the variables, so
    that all problems can be listed at once.
    """
    words, flags = _split_off_argv(argv)
    try:
        known, others = _parser().parse_known_args(words)
    except _Unreadable as error:
        return flags, [f"{error}: see isoruntime serve --help"]
    flags.update(vars(known))
    return flags, _not_understood(others)


class _Unreadable(Exception):
    """The words break the grammar of options itself."""


class _Parser(argparse.ArgumentParser):
    """A parser that leaves printing and exiting to the command."""

    def error(self, message: str) -> NoReturn:
        raise _Unreadable(message)


def _parser() -> argparse.ArgumentParser:
    # Each option in a group and the help our own: argparse then never makes a help
    # formatter, whose first act is to import shutil, bz2 and lzma.
    parser = _Parser(
        prog="isoruntime serve",
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    options = parser.add_argument_group()
    for switch in ("--help", "--version", "--fresh"):
        options.add_argument(switch, action="store_true")
    options.add_argument("-h", dest="help", action="store_true")
    for setting in DECLARED:
        name, flag = setting.name, setting.flag
        if setting.is_switch:
            options.add_argument(flag, dest=name, action="store_true")
        elif flag.startswith("--"):
            # A missing value becomes None, which read_settings reports with
            # everything else; argparse alone would stop at the first one.
            action = "append" if setting.is_list else "store"
            options.add_argument(flag, dest=name, nargs="?", const=None, action=action)
        else:
            options.add_argument(name, nargs="?")
    return parser


def _split_off_argv(argv: Sequence[str]) -> tuple[list[str], dict[str, object]]:
    """Take `--command -- ARGV...` off the end: those words are not ours."""
    words = list(argv)
    takers = {setting.flag: setting.name for setting in DECLARED if setting.is_argv}
    for at, (word, following) in enumerate(pairwise(words)):
        if following == "--" and word in takers:
            return words[:at], {takers[word]: words[at + 2 :]}
    return words, {}


def _not_understood(words: Sequence[str]) -> list[str]:
    options = [setting.flag for setting in DECLARED if setting.flag.startswith("--")]
    options += ["--fresh", "--help", "--version"]
    problems = []
    follows_unknown = False
    for word in words:
        is_option = word.startswith("-")
        if is_option:
            flag = word.partition("=")[0]
            hint = closest(flag, options)
            problems.append(f"{flag} is no option: {hint}see isoruntime serve --help")
        elif not follows_unknown:
            # What follows an unknown option is most likely its value.
            problems.append(f"'{word}' is one argument too many: give one HANDLER")
        follows_unknown = is_option
    return problems
