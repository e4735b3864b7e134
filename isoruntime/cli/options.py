"""The options of a command: from words to what `read_settings` takes.

The grammar is what people know from `argparse`, which itself would take a twelfth of a
cold start, for its import and for being told of every setting.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

from isoruntime.settings import DECLARED
from isoruntime.settings.parse import closest
from isoruntime.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


#: What each command takes beside them.
_COMMON = (
    Option("-h", "--help", doc=""),
    Option("--version", doc=""),
    Option("--fresh", doc=""),
)


def parse(
    argv: Sequence[str],
    command: str = "serve",
    own: Sequence[Option] = (),
    declared: Sequence[Setting] = DECLARED,
    subject: str = "HANDLER",
) -> tuple[dict[str, object], list[str]]:
    """Return what `read_settings` takes as flags, and what was not understood.

    Values stay text: `read_settings` judges them together with the variables, so
    that all problems can be listed at once. One that is missing is None. What the
    command's `own` options were given is among the flags, by their names. `subject` is
    what a word without a dash stands for.
    """
    words, argv_flags = _split_off_argv(argv, declared)
    options: dict[str, Option | Setting] = {
        flag: option for option in (*_COMMON, *own) for flag in option.flags
    }
    name = ""
    for setting in declared:
        if setting.flag.startswith("--"):
            options[setting.flag] = setting
        else:
            name = setting.name
    reading = _Reading(options, name, subject, f"see isoruntime {command} --help")
    reading.read(words)
    return reading.flags | argv_flags, reading.problems


class _Reading:
    """What was found in a command's words so far, and what is wrong with them."""

    def __init__(
        self,
        options: Mapping[str, Option | Setting],
        name: str,
        subject: str,
        see: str,
    ) -> None:
        """`name` is what the one word without a dash is kept as; empty to have none."""
        self._options = options
        self._name = name
        self._subject = subject
        self._see = see
        self.flags: dict[str, object] = {}
        self.problems: list[str] = []

    def read(self, words: Sequence[str]) -> None:
        """Take in all words."""
        left = deque(words)
        while left:
            word = left.popleft()
            if word == "--":
                # Whatever they look like, none of them is an option.
                for other in left:
                    self._take_word(other)
                return
            if self._is_option(word):
                self._take_option(word, left)
            else:
                self._take_word(word)

    def _is_option(self, word: str) -> bool:
        """Tell an option from a value, which can be a negative number or a sentence."""
        if len(word) < 2 or word[0] != "-" or word[1] in ".0123456789":
            return False
        return " " not in word or bool(self._option_in(word)[0])

    def _take_word(self, word: str) -> None:
        if self._name and self._name not in self.flags:
            self.flags[self._name] = word
        else:
            self.problems.append(
                f"'{word}' is one argument too many: give one {self._subject}"
            )

    def _take_option(self, word: str, left: deque[str]) -> None:
        option, flag, value = self._option_in(word)
        if option is not None and option.is_switch:
            if value is not None:
                self.problems.append(f"{flag} takes no value: leave out '={value}'")
            self.flags[option.name] = True
            return
        if value is None and left and not self._is_option(left[0]):
            # What follows an unknown option is most likely its value, too.
            value = left.popleft()
        if option is None:
            hint = closest(flag, self._options)
            self.problems.append(f"{flag} is no option: {hint}{self._see}")
        else:
            self._keep(option, value)

    def _option_in(self, word: str) -> tuple[Option | Setting | None, str, str | None]:
        """Return the option, how it was called, and the value that comes with it."""
        flag, equals, value = word.partition("=")
        option = self._options.get(flag)
        if option is None and word[1] != "-" and word[:2] in self._options:
            # `-e5` is `-e 5`.
            return self._options[word[:2]], word[:2], word[2:]
        return option, flag, value if equals else None

    def _keep(self, option: Option | Setting, value: str | None) -> None:
        if option.is_list:
            values = self.flags.setdefault(option.name, [])
            assert isinstance(values, list)
            values.append(value)
        else:
            self.flags[option.name] = value


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
