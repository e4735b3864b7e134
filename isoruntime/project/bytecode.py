"""The bytecode that is shipped beside the code, so that no cold start has to make it.

Every instance begins with the files of the zip, so that without bytecode each of them
compiles all it imports. Each file of it has a hash of its source (PEP 552), which
Python compares: code that is edited later, in the console, is compiled anew.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from isoruntime.project.contents import FILE, Entry
from isoruntime.project.function import CODE
from isoruntime.typed import Final

_SOURCE: Final = ".py"


def is_source(entry: Entry) -> bool:
    """Return whether an entry is a Python file that can be imported."""
    return stat.S_ISREG(entry.mode) and entry.name.endswith(_SOURCE)


def compiled(entries: Iterable[Entry], python: str, into: Path) -> list[Entry]:
    """Return the bytecode of all Python files among the entries, for a Python.

    `into` is an empty folder that the entries' content is in from now on. What does not
    compile has none: whoever imports it is told why. Nothing has where that Python is
    not here.
    """
    program = _interpreter(python)
    if program is None:
        return []
    # No name that a module could have: the folder around it is searched for them.
    tree = into.resolve() / "shipped-code"
    for entry in entries:
        if is_source(entry):
            _lay_out(entry, tree / entry.name)
    subprocess.run(  # noqa: S603 - an interpreter of this machine
        [
            *(program, "-s", "-S", "-m", "compileall", "-q"),
            *("--invalidation-mode", "checked-hash"),
            # The paths that tracebacks show are those on the platform.
            *("-s", str(tree), "-p", CODE, str(tree)),
        ],
        cwd=into,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    # A program of that name may be another Python, or none that runs.
    tag = f"cpython-{python.replace('.', '')}"
    made = sorted(tree.rglob(f"*.{tag}.pyc"))
    return [Entry(path.relative_to(tree).as_posix(), FILE, path) for path in made]


def _environment() -> dict[str, str]:
    """Return what the compiler needs: no settings, and sets in the same order always."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON")
    }
    return {**kept, "PYTHONHASHSEED": "0"}


def _interpreter(python: str) -> str | None:
    """Return the program of a Python, as in "3.11": the one running, else PATH's."""
    if python == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    return shutil.which(f"python{python}")


def _lay_out(entry: Entry, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(entry.source, bytes):
        path.write_bytes(entry.source)
    else:
        path.symlink_to(entry.source.resolve())
