"""Modules that stand in for others until something of those is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def said(code: str) -> list[str]:
    """Return the lines that a bare interpreter prints after postponing."""
    prelude = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from isoruntime.postponed import postpone, _POSTPONED\n"
        "postpone()\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", prelude + code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_an_import_alone_loads_nothing() -> None:
    lines = said(
        "import calendar, getopt, ipaddress, platform, selectors, traceback\n"
        "print(platform.system())\n"
        "print(*({'datetime', 'gettext', 'locale', 'textwrap'} & set(sys.modules)))"
    )
    assert lines == ["Linux", ""]


def test_whoever_asks_for_something_gets_it() -> None:
    lines = said(
        "import importlib, platform, traceback\n"
        "from calendar import timegm\n"
        "print(timegm((1970, 1, 2, 0, 0, 0)))\n"
        "print('calendar' in repr(sys.modules['calendar']))\n"
        "try:\n"
        "    1 / 0\n"
        "except ZeroDivisionError:\n"
        "    print(traceback.format_exc().splitlines()[-1])\n"
        "print(platform.machine() == importlib.import_module('platform').machine())\n"
        "print(hasattr(traceback, 'nonsense'))\n"
        "import traceback as now\n"
        "print(type(now) is type(sys), now.format_exc is traceback.format_exc)"
    )
    assert lines == [
        "86400",
        "True",
        "ZeroDivisionError: division by zero",
        "True",
        "False",
        "True True",
    ]


def test_each_of_them_is_a_module_there_is() -> None:
    lines = said(
        "print(*[hasattr(sys.modules[name], '__file__') for name in _POSTPONED])"
    )
    assert set(lines[0].split()) == {"True"}


def test_what_is_loaded_stays() -> None:
    lines = said(
        "import traceback; traceback.format_exc\n"
        "loaded = sys.modules['traceback']\n"
        "postpone()\n"
        "print(sys.modules['traceback'] is loaded)"
    )
    assert lines == ["True"]
