"""An env file: `KEY=VALUE` lines, as shells, Docker and editors write them."""

from __future__ import annotations

import re
from pathlib import Path

from isoruntime.environment import OWN_PREFIX, is_never_passed
from isoruntime.typed import Final

_ASSIGNMENT: Final = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
#: Everything up to the quote that is not escaped; a comment may follow.
_QUOTED: Final = re.compile(r"""(?:"((?:[^"\\]|\\.)*)"|'([^']*)')\s*(?:#.*)?""")
_ESCAPE: Final = re.compile(r"\\(.)")
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r"}


def read_env_file(path: str) -> tuple[dict[str, str], list[str]]:
    """Return the variables of a file, and what is wrong with it, a line each."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        return {}, [f"--env-file {path} cannot be read ({reason}): give a file"]
    variables: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            name, value = _read(line.strip())
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
        else:
            if name:
                variables[name] = value
    return variables, problems


def _read(line: str) -> tuple[str, str]:
    """Return a name and its value; an empty name where there is nothing to read."""
    if not line or line.startswith("#"):
        return "", ""
    found = _ASSIGNMENT.fullmatch(line)
    if found is None:
        raise ValueError("is not KEY=VALUE: write such a line, or # before it")
    name, value = found[1], _value(found[2])
    if name.startswith(OWN_PREFIX):
        raise ValueError(
            f"{name} is the runtime's own and reaches no worker: give it as a flag, or "
            "set it in the environment"
        )
    if is_never_passed(name):
        raise ValueError(
            f"{name} reaches no worker as a variable: give it with --context, as "
            "context.credentials"
        )
    if "\0" in value:
        raise ValueError(f"{name} holds a NUL byte: give text without")
    return name, value


def _value(text: str) -> str:
    if text[:1] not in ("'", '"'):
        # As elsewhere, a comment begins where there is a blank before it.
        return re.split(r"(?:^|\s)#", text, maxsplit=1)[0].rstrip()
    found = _QUOTED.fullmatch(text)
    if found is None:
        raise ValueError(f"has a {text[0]} that is not closed, or text after it")
    if found[1] is None:
        return found[2]
    return _ESCAPE.sub(lambda one: _ESCAPED.get(one[1], one[1]), found[1])
