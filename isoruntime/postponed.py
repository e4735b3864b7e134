"""Modules of Python's that are imported for functions which a start does not call.

`waitress`, `logging` and `socket` import them at their top, and with what those import
in turn they take a seventh of what the front end imports. So names stand in for them, and
whoever asks one for anything has the module loaded then.

`importlib.util.LazyLoader` will not do: an `import` of what it has prepared loads it.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

from isoruntime.typed import Any

_POSTPONED = (
    # socket: sending files
    "selectors",
    # logging, waitress: an exception, its lines of source, and their indentation
    "traceback",
    # waitress: its command line, and dates that clients send; `datetime`, `gettext` and
    # `locale` come with them
    "getopt",
    "calendar",
    # urllib.parse: addresses in URLs
    "ipaddress",
    # waitress: see below
    "platform",
)


class _Postponed(ModuleType):
    """Stands in for a module until something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(__import__(self.__name__), name)


def postpone() -> None:
    """Have them imported as late as can be; those that are there already stay."""
    for name in _POSTPONED:
        if name not in sys.modules:
            sys.modules[name] = _Postponed(name)
    platform = sys.modules["platform"]
    if isinstance(platform, _Postponed):
        # The one thing that waitress asks it for at its import.
        platform.__dict__["system"] = _system


def _system() -> str:
    return os.uname().sysname
