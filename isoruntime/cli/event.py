"""isoruntime event: sample events of the platform's triggers, and a function's own."""

from __future__ import annotations

import json
import os
import sys
from copy import deepcopy

from isoruntime.cli import events
from isoruntime.cli.options import Option, parse
from isoruntime.cli.samples import SAMPLES
from isoruntime.cli.text import BAD_USAGE, complain
from isoruntime.errors import InvalidSettings
from isoruntime.settings import DECLARED, Settings, read_settings
from isoruntime.settings.parse import closest
from isoruntime.typed import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_OWN: Final = (
    Option("--set", metavar="PATH=VALUE", is_list=True, doc=""),
    Option("--list", doc=""),
)
_TAKEN: Final = tuple(each for each in DECLARED if each.name in ("handler", "code_dir"))
#: Of the paths in an event, so many show what they look like.
_MAX_SHOWN: Final = 8

_USAGE: Final = """\
usage: isoruntime event NAME [--set PATH=VALUE] [--code-dir DIR]
       isoruntime event --list

Prints an event: one that a trigger of the platform would send, or one of the function's
own, which are the files events/*.json in its code folder.

  --set PATH=VALUE  change a value in it; may be repeated. PATH is made of keys and
                    numbers, as in events.0.oss.object.key=photos/dog.jpg; VALUE is text
                    where text stands, otherwise JSON
  --list            the names there are
  --code-dir DIR    where the function is [ISORUNTIME_CODE_DIR, FC_FUNC_CODE_PATH, else .]
  --help            print this and exit

isoruntime event oss | isoruntime invoke -e -        invokes the function with it
"""


def main(argv: Sequence[str]) -> int:
    """Print an event, or the names of all; 2 with every problem for bad words."""
    flags, problems = parse(argv, "event", _OWN, _TAKEN, subject="NAME")
    # Where other commands have a handler, this one has a name.
    name = flags.pop("handler", None)
    if flags.pop("help", False):
        print(f"{_USAGE}\n" + "\n".join(_names(_settings({}, problems).code_dir)))
        return 0
    changes: Any = flags.pop("set", [])
    is_list = flags.pop("list", False)
    settings = _settings(flags, problems)
    if not problems and (is_list or name is None):
        print("\n".join(_names(settings.code_dir)))
        return 0
    data = b""
    if not problems:
        data = _event(str(name), changes, settings.code_dir, problems)
    if problems:
        complain(problems)
        return BAD_USAGE
    sys.stdout.buffer.write(data)
    return 0


def _settings(flags: dict[str, object], problems: list[str]) -> Settings:
    try:
        return read_settings(flags, os.environ)
    except InvalidSettings as error:
        problems += error.problems
        return Settings()


def _names(code_dir: str) -> Iterator[str]:
    width = max(map(len, SAMPLES))
    yield "Events of the platform's triggers:"
    for name, sample in SAMPLES.items():
        yield f"  {name:{width}}  {sample.occasion}"
    own = events.saved(code_dir)
    if own:
        yield "Events of this function:"
        yield from (f"  {name:{width}}  {path}" for name, path in own.items())


def _event(
    name: str, changes: list[str | None], code_dir: str, problems: list[str]
) -> bytes:
    """Return an event with its changes, and note what is wrong with these."""
    own = events.saved(code_dir)
    if name in own:
        data = own[name].read_bytes()
        if not changes:
            # Whoever wrote it meant it like that.
            return data
        try:
            event = json.loads(data)
        except ValueError as error:
            problems.append(
                f"{own[name]} is not JSON ({error}): --set cannot change it"
            )
            return b""
    elif name in SAMPLES:
        event = deepcopy(SAMPLES[name].event)
        _remark(name)
    else:
        known = [*SAMPLES, *own]
        problems.append(
            f"'{name}' is no event: {closest(name, known)}the names are "
            f"{', '.join(known)}"
        )
        return b""
    for change in changes:
        try:
            _change(event, change or "")
        except ValueError as error:
            problems.append(f"--set '{change or ''}' {error}")
    return json.dumps(event, indent=2, ensure_ascii=False).encode() + b"\n"


def _remark(name: str) -> None:
    note = SAMPLES[name].note
    if note and sys.stderr.isatty():
        print(f"isoruntime: {note}", file=sys.stderr)


def _change(event: Any, change: str) -> None:
    """Set one value of an event.

    Raises:
        ValueError: there is no such place; the message completes "--set '…'".
    """
    path, equals, text = change.partition("=")
    if not (path and equals):
        raise ValueError("is not PATH=VALUE: give one such as payload=hello")
    *above, last = path.split(".")
    place = event
    for key in above:
        place = place[_key_in(place, key, path, event)]
    at = _key_in(place, last, path, event)
    # A number in quotes, or JSON within a message, is text on the platform too.
    place[at] = text if isinstance(place[at], str) else _value(text)


def _key_in(place: Any, key: str, path: str, event: Any) -> Any:
    if isinstance(place, dict) and key in place:
        return key
    if isinstance(place, list) and key.isdecimal() and int(key) < len(place):
        return int(key)
    known = list(_paths(event))
    if hint := closest(path, known):
        raise ValueError(f"leads nowhere: {hint.rstrip()}")
    shown = [*known[:_MAX_SHOWN], *["..."][: len(known) - _MAX_SHOWN]]
    raise ValueError(f"leads nowhere: there are {', '.join(shown)}")


def _paths(value: Any, above: str = "") -> Iterator[str]:
    """Yield the path of everything in an event."""
    if above:
        yield above
    inner: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = [(str(number), each) for number, each in enumerate(value)]
    for key, each in inner:
        yield from _paths(each, f"{above}.{key}" if above else str(key))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
