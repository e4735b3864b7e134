"""Which files of a function's folder are left out: `.fcignore`, in gitignore's syntax.

A path is judged by the last pattern that matches it, and what lies below an ignored
folder cannot be taken back in. The tests hold this to what git does; only where git
strays from its manual (the stars of `a**/b` cross folders) the manual holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from isoruntime.typed import Final, NamedTuple

FILE_NAME: Final = ".fcignore"

_LOWER, _UPPER, _DIGIT = "a-z", "A-Z", "0-9"
_PUNCTUATION: Final = r"!-/:-@\[-`{-~"
#: What `[[:name:]]` stands for; ASCII, as in git.
_CLASSES: Final = {
    "alnum": _LOWER + _UPPER + _DIGIT,
    "alpha": _LOWER + _UPPER,
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": _DIGIT,
    "graph": "!-~",
    "lower": _LOWER,
    "print": " -~",
    "punct": _PUNCTUATION,
    "space": r" \t\n\r\f\v",
    "upper": _UPPER,
    "xdigit": _DIGIT + "A-Fa-f",
}
_TOKEN: Final = re.compile(
    r"""
    (?P<folders> (?:(?<=/)|^) \*{2,} / )      # any number of folders, none included
  | (?P<rest>    (?:(?<=/)|^) \*{2,} $ )      # everything below
  | (?P<star>    \*+ )
  | (?P<one>     \? )
  | (?P<set>     \[ (?P<not>[!^]?) (?P<members>
        (?: \[:[^\]]*:\] | \\. | [^\\] )      # the first may be a bracket
        (?: \[:[^\]]*:\] | \\. | [^\\\]] )* ) \] )
  | (?P<literal> \\. | [^\\\[] )
    """,
    re.VERBOSE | re.DOTALL,
)
_MEMBER: Final = re.compile(
    r"\[:(?P<named>[^\]]*):\]|(?P<low>\\.|[^\\])(?:-(?P<high>\\.|[^\\]))?", re.DOTALL
)
_TRAILING_SPACES: Final = re.compile(r"((?:\\.|[^\\])*?) *", re.DOTALL)


class _Unmatchable(Exception):
    """A pattern that no path matches, such as one with an open bracket."""


class _Rule(NamedTuple):
    expression: re.Pattern[str]
    ignores: bool
    #: a pattern without a slash is about names, wherever they stand
    by_name: bool
    folders_only: bool


class Ignore:
    """The patterns of one folder."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self._rules = tuple(_rules(lines))

    @classmethod
    def read(cls, folder: Path) -> Ignore:
        """Read the folder's `.fcignore`; without one, nothing is ignored."""
        try:
            data = (folder / FILE_NAME).read_bytes()
        except FileNotFoundError:
            return cls()
        text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        return cls(line.removesuffix("\r") for line in text.split("\n"))

    def matches(self, path: str, is_folder: bool) -> bool:
        """Return whether a path relative to the folder, with `/`, is left out."""
        names = path.split("/")
        return any(
            self._is_named(names[:depth], is_folder or depth < len(names))
            for depth in range(1, len(names) + 1)
        )

    def _is_named(self, names: list[str], is_folder: bool) -> bool:
        path, name = "/".join(names), names[-1]
        for rule in reversed(self._rules):
            if rule.folders_only and not is_folder:
                continue
            if rule.expression.fullmatch(name if rule.by_name else path):
                return rule.ignores
        return False


def _rules(lines: Iterable[str]) -> Iterator[_Rule]:
    for line in lines:
        pattern = _without_trailing_spaces(line)
        if not pattern or pattern.startswith("#"):
            continue
        negated = pattern.startswith("!")
        pattern = pattern[negated:]
        folders_only = pattern.endswith("/")
        pattern = pattern[: len(pattern) - folders_only]
        by_name = "/" not in pattern
        try:
            expression = re.compile(_expression(pattern.removeprefix("/")), re.DOTALL)
        except _Unmatchable:
            continue
        yield _Rule(expression, not negated, by_name, folders_only)


def _without_trailing_spaces(line: str) -> str:
    match = _TRAILING_SPACES.fullmatch(line)
    # A backslash at the very end escapes nothing; such a line stays as it is.
    return match[1] if match else line


def _expression(pattern: str) -> str:
    """Translate to Python's syntax."""
    parts, at = [], 0
    while at < len(pattern):
        match = _TOKEN.match(pattern, at)
        if match is None:
            raise _Unmatchable
        parts.append(_translated(match))
        at = match.end()
    return "".join(parts)


def _translated(match: re.Match[str]) -> str:
    fixed = {"folders": "(?:.*/)?", "rest": ".*", "star": "[^/]*", "one": "[^/]"}
    kind = match.lastgroup or ""
    if kind in fixed:
        return fixed[kind]
    if match["set"] is not None:
        return _set(match["members"], bool(match["not"]))
    return re.escape(match["literal"][-1])


def _set(members: str, negated: bool) -> str:
    parts = "".join(_member(match) for match in _MEMBER.finditer(members))
    return f"(?!/)[{'^' if negated else ''}{parts}]"


def _member(match: re.Match[str]) -> str:
    if match["named"] is not None:
        if match["named"] not in _CLASSES:
            raise _Unmatchable
        return _CLASSES[match["named"]]
    low = match["low"][-1]
    high = (match["high"] or low)[-1]
    # A range that runs backwards has its first character and no other.
    return f"{re.escape(low)}-{re.escape(max(low, high))}"
