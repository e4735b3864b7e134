"""Events a person gives: as text, in a file, on stdin, or by the name of a saved one."""

from __future__ import annotations

import sys
from pathlib import Path

from isoruntime.settings.parse import closest
from isoruntime.typed import Final

#: Below the code folder: the events that belong to a function.
FOLDER: Final = "events"
_SUFFIX: Final = ".json"


def saved(code_dir: str) -> dict[str, Path]:
    """Return the saved events of a function, by name."""
    found = sorted(Path(code_dir, FOLDER).glob(f"*{_SUFFIX}"))
    return {path.stem: path for path in found if path.is_file()}


def read(given: str, code_dir: str) -> bytes:
    """Return the event that `-e` was given: TEXT, @FILE, or - for stdin.

    A file that is not where it was looked for is looked for in the code folder, and
    then among the saved events.

    Raises:
        ValueError: there is no such file; the message completes "-e …".
    """
    if given == "-":
        return sys.stdin.buffer.read()
    if not given.startswith("@"):
        # Surrogates stand for bytes of the command line that are no UTF-8.
        return given.encode("utf-8", "surrogateescape")
    path = _found(given[1:], code_dir)
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"cannot be read ({reason}): give a file") from error


def _found(name: str, code_dir: str) -> Path:
    known = saved(code_dir)
    for path in (Path(name), Path(code_dir, name)):
        # A folder may well be called like an event: a new function's own is.
        if path.exists() and not (path.is_dir() and name in known):
            return path
    if name in known:
        return known[name]
    shown = [f"{FOLDER}/{each}{_SUFFIX}" for each in known]
    if not shown:
        raise ValueError(
            f"does not exist, and there is no {FOLDER} folder in {code_dir}: make a "
            f"file, for example with isoruntime event oss >{name or 'event.json'}"
        )
    hint = closest(name, [*shown, *known])
    raise ValueError(f"does not exist: {hint}saved are {', '.join(shown)}")
