"""From the text of a flag or variable to a value, one function a kind of value.

Each takes the text and returns the value, or raises a ValueError whose message
completes the sentence "--flag 'text' …": what is wrong, and what to give instead.
"""

from __future__ import annotations

import math
import os

from isoruntime.environment import is_never_passed
from isoruntime.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_YEAR_S = 365 * 86400
_WORDS = {"1": True, "true": True, "yes": True, "on": True}
_WORDS |= {"0": False, "false": False, "no": False, "off": False}
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LEVEL_ALIASES = {"WARN": "WARNING", "FATAL": "CRITICAL"}


def text(value: str) -> str:
    """Return any text that is not blank."""
    if not value.strip():
        raise ValueError("is empty: give a value, or leave it out")
    return value


def dotted_name(value: str) -> str:
    """Return a `module.function` name, for sources that may hold anything else.

    A handler the operator names is not judged here: a name that cannot work is
    answered to the caller, as the built-in runtime does.
    """
    module, dot, function = value.rpartition(".")
    if not (module and dot and function.isidentifier()):
        raise ValueError("is not module.function")
    return value


def whole(lowest: int, highest: int, note: str = "") -> Callable[[str], int]:
    """Return a parser of whole numbers from `lowest` to `highest`."""
    wanted = f"give a whole number from {lowest} to {highest}"
    if note:
        wanted += f" ({note})"

    def parse(value: str) -> int:
        digits = value.strip().removeprefix("+").removeprefix("-")
        # int() alone takes 1_000 and digits of other scripts as well.
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"is not a whole number: {wanted}")
        # Nobody means more than 18 digits, and int() refuses very long ones.
        number = int(value) if len(digits) <= 18 else math.inf
        if value.strip().startswith("-"):
            number = -abs(number)
        if number < lowest:
            raise ValueError(f"is too small: {wanted}")
        if number > highest:
            raise ValueError(f"is too large: {wanted}")
        return int(number)

    return parse


def seconds(value: str) -> float:
    """Return a duration in seconds: 0 to a year."""
    wanted = "give seconds as a plain number, such as 30 or 0.5"
    try:
        # float() alone takes 1_000 and digits of other scripts as well.
        number = float(value if value.isascii() and "_" not in value else "")
    except ValueError:
        raise ValueError(f"is not a number of seconds: {wanted}") from None
    if not math.isfinite(number):
        raise ValueError(f"is not a finite number: {wanted}")
    if number < 0:
        raise ValueError(f"is negative: {wanted}")
    if number > _YEAR_S:
        raise ValueError(f"is more than a year: {wanted}")
    return number


def positive_seconds(value: str) -> float:
    """Return a duration in seconds: more than 0, at most a year."""
    number = seconds(value)
    if number == 0:
        raise ValueError("leaves no time at all: give more than 0 seconds")
    return number


class OneOf:
    """A parser that takes one of `choices`, in any case."""

    __slots__ = ("choices",)

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def __call__(self, value: str) -> str:
        """Return the choice as it was declared."""
        chosen = value.strip().lower()
        if chosen not in self.choices:
            raise ValueError(_not_among(chosen, self.choices))
        return chosen


def log_level(value: str) -> str:
    """Return the name of a level of `logging`."""
    level = value.strip().upper()
    level = _LEVEL_ALIASES.get(level, level)
    if level not in _LEVELS:
        raise ValueError(_not_among(level, _LEVELS))
    return level


def switch(value: str) -> bool:
    """Return the truth of a variable that turns something on or off."""
    try:
        return _WORDS[value.strip().lower()]
    except KeyError:
        raise ValueError("is neither on nor off: give on or off") from None


def directory(value: str) -> str:
    """Return the absolute path of a directory that exists.

    A `str`, not a `Path`: it goes to the zygote as text, and `pathlib` costs
    2 ms at start for nothing else.
    """
    try:
        path = os.path.abspath(text(value))  # noqa: PTH100 - see above
    except FileNotFoundError:
        raise ValueError(
            "cannot be found, the current directory is gone: give an absolute path"
        ) from None
    if not os.path.lexists(path):
        raise ValueError(f"does not exist (looked for {path}): give a directory")
    if not os.path.isdir(path):  # noqa: PTH112 - see above
        raise ValueError("is not a directory: give the directory the handler is in")
    return path


def host(value: str) -> str:
    """Return an address or host name to listen on; nothing is looked up."""
    name = value.strip()
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    if not name or any(letter in name for letter in "/ []"):
        raise ValueError("is no address: give one such as 0.0.0.0, ::1 or localhost")
    if name.count(":") == 1:
        raise ValueError("holds a port: give that with --port")
    return "0.0.0.0" if name == "*" else name  # noqa: S104 - the platform demands it


def address(value: str) -> tuple[str, int] | None:
    """Return the host and port of `HOST:PORT` or `PORT`, or None for `off`."""
    if value.strip().lower() == "off":
        return None
    name, _, number = value.strip().rpartition(":")
    port = whole(0, 65535)(number)
    return (host(name) if name else "127.0.0.1"), port


def key(value: str) -> tuple[str, str]:
    """Return the two halves of `ID:SECRET`."""
    identity, _, secret = value.partition(":")
    if not (identity and secret):
        raise ValueError("is not a pair: give ID:SECRET")
    return identity, secret


def argv(value: str) -> tuple[str, ...]:
    """Return the words of a command: a JSON list, or shell-quoted words."""
    words: object
    if value.lstrip().startswith("["):
        # Both are needed for a rare setting only.
        import json

        try:
            words = json.loads(value)
        except ValueError:
            raise ValueError('is not a JSON list such as ["ls", "-l"]') from None
    else:
        import shlex

        try:
            words = shlex.split(value)
        except ValueError as error:
            raise ValueError(
                f"cannot be split into words ({error}): check its quotes"
            ) from None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError('holds more than words: give a list such as ["ls", "-l"]')
    if not words or not words[0]:
        raise ValueError("names no program: give the program and its arguments")
    return tuple(words)


def absolute_path(value: str) -> tuple[str, ...]:
    """Return an absolute path, of something that need not exist yet."""
    path = text(value)
    if not path.startswith("/"):
        raise ValueError(
            "is relative: give an absolute path, since handlers have a working"
            " directory of their own"
        )
    return (os.path.normpath(path),)


def variable_name(value: str) -> tuple[str, ...]:
    """Return the name of one variable that workers may be given, as a tuple."""
    name = value.strip()
    if not name:
        raise ValueError("names no variable: give a name such as APP_MODE")
    if "=" in name:
        raise ValueError(
            f"gives {name.partition('=')[0]} a value: name it only, and set it in "
            "the environment"
        )
    if is_never_passed(name):
        raise ValueError(
            f"would pass on {name}, which no worker may see: leave it out "
            "(a handler finds the credentials of its invocation in "
            "context.credentials, a command with ALIBABA_CLOUD_CREDENTIALS)"
        )
    return (name,)


def closest(word: str, options: Iterable[str]) -> str:
    """Return `did you mean …? `, or nothing where no option comes near."""
    import difflib  # 2 ms, and only for what is refused anyway

    near = difflib.get_close_matches(word, list(options), n=1)
    return f"did you mean {near[0]}? " if near else ""


def _not_among(word: str, choices: tuple[str, ...]) -> str:
    return f"is not known: {closest(word, choices)}give one of {', '.join(choices)}"
