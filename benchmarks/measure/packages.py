"""Functions as they are deployed: packed, and unpacked afresh for every start."""

from __future__ import annotations

import shutil
import stat
import sys
import zipfile
from pathlib import Path
from typing import Final

import psutil
import waitress

import isoruntime
from benchmarks.measure.servers import HANDLERS, output_of

_VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


def function_in(folder: Path) -> Path:
    """Lay a function out as `isoruntime package` does, of what is installed here."""
    code = folder / "function"
    packages = code / "python"
    packages.mkdir(parents=True)
    shutil.copy(HANDLERS / "functions.py", code)
    for module in (isoruntime, waitress, psutil):
        lies = Path(str(module.__file__)).parent
        shutil.copytree(lies, packages / lies.name)
    return code


def pack(code: Path, into: Path, *options: str) -> Path:
    """Have a folder packed, packages and all.

    Raises:
        ServerFailed: with what the command said.
    """
    output_of(
        [
            *(sys.executable, "-m", "isoruntime", "package", str(code)),
            *("--no-vendor", "--python", _VERSION, "-o", str(into), *options),
        ]
    )
    return into


def unpack(packed: Path, into: Path) -> None:
    """Unpack as the platform does, in the place of what is there."""
    shutil.rmtree(into, ignore_errors=True)
    with zipfile.ZipFile(packed) as archive:
        for entry in archive.infolist():
            mode = stat.S_IMODE(entry.external_attr >> 16)
            Path(archive.extract(entry, into)).chmod(mode)
