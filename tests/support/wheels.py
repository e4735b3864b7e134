"""Wheels made here, so that what installs packages can be tested without a registry."""

from __future__ import annotations

import importlib.metadata
import itertools
import zipfile
from collections.abc import Mapping
from pathlib import Path

#: Written when it was installed, and no part of the wheel it came from.
_OF_THE_INSTALLER = {"INSTALLER", "REQUESTED", "direct_url.json"}


def repacked(name: str, folder: Path) -> Path:
    """Make the wheel again that an installed distribution came from."""
    installed = importlib.metadata.distribution(name)
    contents = {}
    for file in installed.files or ():
        path = Path(str(installed.locate_file(file)))
        is_its_own = path.suffix != ".pyc" and path.name not in _OF_THE_INSTALLER
        if is_its_own and not str(file).startswith(".."):
            contents[str(file)] = path.read_bytes()
    about = installed.read_text("WHEEL") or ""
    tags = [line[5:] for line in about.splitlines() if line.startswith("Tag: ")]
    return _written(folder, f"{name}-{installed.version}", tags, contents)


def made(
    name: str,
    folder: Path,
    files: Mapping[str, str],
    *,
    version: str = "1.0",
    tag: str = "py3-none-any",
    requires: str = "",
) -> Path:
    """Make a wheel of one's own."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    if requires:
        metadata += f"Requires-Dist: {requires}\n"
    contents = {
        **files,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    contents[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in contents)
    encoded = {path: text.encode() for path, text in contents.items()}
    return _written(folder, f"{name}-{version}", [tag], encoded)


def _written(
    folder: Path, name: str, tags: list[str], contents: Mapping[str, bytes]
) -> Path:
    parts = zip(*(tag.split("-") for tag in tags), strict=True)
    joined = [".".join(dict.fromkeys(part)) for part in parts]
    path = folder / "-".join(itertools.chain([name], joined))
    path = path.with_name(f"{path.name}.whl")
    with zipfile.ZipFile(path, "w") as wheel:
        for file, content in contents.items():
            wheel.writestr(file, content)
    return path
