"""Whether files are Python of a certain version: asked of that version, if it is here.

Nothing is run: an interpreter is told to compile the files, and no more. Where there is
none of that version, ours says what it knows of older grammars.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from isoruntime.typed import Any, Final, NamedTuple

_COMPILE: Final = """
import json, sys, warnings
warnings.simplefilter("ignore")
errors = []
for path in json.load(sys.stdin):
    try:
        with open(path, "rb") as file:
            compile(file.read(), path, "exec", dont_inherit=True)
    except SyntaxError as error:
        errors.append([path, error.lineno or 0, error.msg])
    except (OSError, ValueError) as error:
        errors.append([path, 0, str(error)])
print(json.dumps([list(sys.version_info[:2]), errors]))
"""
_AT_MOST_S: Final = 20


class SyntaxFault(NamedTuple):
    """One place that is no Python of that version."""

    path: Path
    line: int
    message: str


def parse(path: Path) -> ast.Module | None:
    """Return a file's tree, None if this Python cannot read it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def faults(paths: list[Path], version: tuple[int, int]) -> list[SyntaxFault]:
    """Return what is wrong with files, as far as it can be known here."""
    if not paths:
        return []
    for interpreter in _interpreters(version):
        told = _ask(interpreter, paths)
        if told is not None and tuple(told[0]) == version:
            return [SyntaxFault(Path(path), at, text) for path, at, text in told[1]]
    if version > sys.version_info[:2]:
        # Of newer grammars ours knows nothing.
        return []
    return [*filter(None, (_fault(path, version) for path in paths))]


def _interpreters(version: tuple[int, int]) -> Iterator[str]:
    """Yield what may be Python of that version."""
    if sys.version_info[:2] == version:
        yield sys.executable
    name = f"python{version[0]}.{version[1]}"
    for path in Path.home().glob(f".pyenv/versions/{version[0]}.{version[1]}.*"):
        yield str(path / "bin" / "python3")
    on_path = shutil.which(name)
    if on_path:
        yield on_path
    yield f"/var/fc/lang/{name}/bin/python3"


def _ask(interpreter: str, paths: list[Path]) -> Any:
    try:
        done = subprocess.run(  # noqa: S603 - a Python found here, and our own words
            [interpreter, "-I", "-S", "-c", _COMPILE],
            input=json.dumps([str(path) for path in paths]),
            capture_output=True,
            text=True,
            timeout=_AT_MOST_S,
            check=True,
        )
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        # A shim for a version that is not installed, for example.
        return None


def _fault(path: Path, version: tuple[int, int]) -> SyntaxFault | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(path.read_bytes(), feature_version=version)
    except SyntaxError as error:
        return SyntaxFault(path, error.lineno or 0, error.msg)
    except (OSError, ValueError) as error:
        return SyntaxFault(path, 0, str(error))
    return None
