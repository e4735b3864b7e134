"""The options of `serve` and `invoke`: from words to what `read_settings` takes."""

from __future__ import annotations

import argparse
from itertools import pairwise

from isoruntime.settings import DECLARED
from isoruntime.settings.parse import closest

TYPE_CHECKING = False  # `typing` itself would cost milliseconds at every start.
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from isoruntime.settings import Setting


class Option:
    """An option that one command has beside the settings."""

    __slots__ = ("doc", "flags", "is_list", "is_switch", "metavar", "name")

    def __init__(
        self, *flags: str, doc: str, metavar: str = "", is_list: bool = False
    ) -> None:
        """Declare it; one without `metavar` takes no value."""
        self.flags = flags
        self.name = flags[-1].removeprefix("--").replace("-", "_")
        self.doc = doc
        self.metavar = metavar
        self.is_list = is_list
        self.is_switch = not metavar


def parse(
    argv: Sequence[str],
    command: str = "serve",
    own: Sequence[Option] = (),
    declared: Sequence[Setting] = DECLARED,
    subject: str = "HANDLER",
) -> tuple[dict[str, object], list[str]]:
    """Return what `read_settings` takes as flags, and what was not understood.

    Values stay text: `read_settings` judges them together with the variables, so
    that all problems can be listed at once. What the command's `own` options were
    given is among the flags, by their names. `subject` is what a word without a dash
    stands for.
    """
    words, flags = _split_off_argv(argv, declared)
    parser = _parser(own, declared)
    try:
        known, others = parser.parse_known_args(words)
    except _Unreadable as error:
        return flags, [f"{error}: see isoruntime {command} --help"]
    flags.update(vars(known))
    return flags, _not_understood(others, command, parser.flags, subject)


class _Unreadable(Exception):
    """The words break the grammar of options itself."""


class _Parser(argparse.ArgumentParser):
    """A parser that leaves printing and exiting to the command."""

    def error(self, message: str) -> NoReturn:
        raise _Unreadable(message)

    @property
    def flags(self) -> Sequence[str]:
        """Every flag there is."""
        return list(self._option_string_actions)


def _parser(own: Sequence[Option], declared: Sequence[Setting]) -> _Parser:
    # Each option in a group and the help our own: argparse then never makes a help
    # formatter, whose first act is to import shutil, bz2 and lzma.
    parser = _Parser(
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    options = parser.add_argument_group()
    for switch in ("--help", "--version", "--fresh"):
        options.add_argument(switch, action="store_true")
    options.add_argument("-h", dest="help", action="store_true")
    for option in own:
        _add(options, option, *option.flags)
    for setting in declared:
        name, flag = setting.name, setting.flag
        if flag.startswith("--"):
            _add(options, setting, flag)
        else:
            options.add_argument(name, nargs="?")
    return parser


def _add(group: argparse._ArgumentGroup, option: Option | Setting, *flags: str) -> None:
    if option.is_switch:
        group.add_argument(*flags, dest=option.name, action="store_true")
        return
    # A missing value becomes None, which is reported with everything else; argparse
    # alone would stop at the first one.
    action = "append" if option.is_list else "store"
    group.add_argument(*flags, dest=option.name, nargs="?", const=None, action=action)


def _split_off_argv(
    argv: Sequence[str], declared: Sequence[Setting]
) -> tuple[list[str], dict[str, object]]:
    """Take `--command -- ARGV...` off the end: those words are not ours."""
    words = list(argv)
    takers = {setting.flag: setting.name for setting in declared if setting.is_argv}
    for at, (word, following) in enumerate(pairwise(words)):
        if following == "--" and word in takers:
            return words[:at], {takers[word]: words[at + 2 :]}
    return words, {}


def _not_understood(
    words: Sequence[str], command: str, options: Sequence[str], subject: str
) -> list[str]:
    see = f"see isoruntime {command} --help"
    problems = []
    follows_unknown = False
    for word in words:
        is_option = word.startswith("-")
        if is_option:
            flag = word.partition("=")[0]
            hint = closest(flag, options)
            problems.append(f"{flag} is no option: {hint}{see}")
        elif not follows_unknown:
            # What follows an unknown option is most likely its value.
            problems.append(f"'{word}' is one argument too many: give one {subject}")
        follows_unknown = is_option
    return problems
