"""For which Python and system a folder is packed: what was asked for, else s.yaml's.

An image has one Python that is new enough for isoruntime, so that a runtime's name says
all there is to know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from isoruntime.errors import CannotPackage, CannotRead
from isoruntime.project import images, manifest
from isoruntime.project.contents import file_in
from isoruntime.project.images import OLDEST_PYTHON, text_of
from isoruntime.project.manifest import Node
from isoruntime.typed import Final, NamedTuple

#: The images that have a Python for isoruntime, and which.
PYTHONS: Final = {
    image.runtime: image.python_text
    for image in images.CUSTOM.values()
    if image.python >= OLDEST_PYTHON
}
_OLDEST_GLIBC: Final = min(images.CUSTOM[runtime].glibc[1] for runtime in PYTHONS)
#: Such wheels run on all of them.
DEFAULT_PLATFORM: Final = f"manylinux_2_{_OLDEST_GLIBC}_x86_64"
#: What a function has unless it asks for more (`diskSize`).
_DEFAULT_DISK_MB: Final = 512

#: Names that platforms had before they were called after the C library's version.
_OLD_NAMES: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_PLATFORM: Final = re.compile(r"(manylinux(?:2014|2010|1|_2_(\d+)))_(\w+)")
_OLDEST_NAMED: Final = min(_OLD_NAMES)


class Target(NamedTuple):
    """What the packages have to fit."""

    python: str
    platforms: tuple[str, ...] = (DEFAULT_PLATFORM,)
    #: how it was decided
    because: str = ""

    def __str__(self) -> str:
        return f"Python {self.python} on {', '.join(self.platforms)}"

    @property
    def tags(self) -> list[str]:
        """Every platform whose wheels run there, the best first.

        pip takes a platform by its name; that glibc 2.28 runs what was built for 2.17
        it does not conclude.
        """
        found = [tag for platform in self.platforms for tag in _and_older(platform)]
        return list(dict.fromkeys(found))


class Told(NamedTuple):
    """What a folder's s.yaml says of where it goes; without one, the usual."""

    runtimes: tuple[str, ...] = ()
    disk_mb: int = _DEFAULT_DISK_MB
    #: why there is nothing to be told, if that should be known
    remarks: tuple[str, ...] = ()

    def target(self, python: str | None, platforms: Sequence[str]) -> Target:
        """Return what was asked for, or else told.

        Raises:
            CannotPackage: neither names a Python that isoruntime runs on.
        """
        if python is not None:
            target = Target(_judged(python), because="as asked for")
        elif self.runtimes:
            runtime = self._runtime()
            target = Target(PYTHONS[runtime], because=f"s.yaml's {runtime} has it")
        else:
            default = images.DEFAULT
            target = Target(PYTHONS[default], because=f"{default} has it")
        if not platforms:
            return target
        because = target.because
        if python is None:
            because += "; the system is as asked for"
        return target._replace(platforms=tuple(platforms), because=because)

    def doubts(self, target: Target) -> list[str]:
        """Return where it goes in vain: images whose Python is another."""
        return [
            f"s.yaml's {runtime} has Python {PYTHONS[runtime]}: what is packed for "
            f"{target.python} fails there without a layer that has that Python"
            for runtime in self.runtimes
            if PYTHONS.get(runtime, target.python) != target.python
        ]

    def _runtime(self) -> str:
        unknown = [one for one in self.runtimes if one not in PYTHONS]
        if unknown:
            raise CannotPackage([_useless(runtime) for runtime in unknown])
        if len({PYTHONS[one] for one in self.runtimes}) > 1:
            named = " and ".join(self.runtimes)
            raise CannotPackage(
                [f"s.yaml has functions on {named}: say for which, with --python"]
            )
        return self.runtimes[0]


def told(folder: Path) -> Told:
    """Read the folder's s.yaml, if it has one.

    Raises:
        CannotPackage: it cannot be understood.
    """
    path = next(filter(None, (file_in(folder, name) for name in manifest.NAMES)), None)
    if path is None:
        return Told()
    try:
        found = manifest.read(path, manifest.shown(path))
    except CannotRead as error:
        # What it says matters less than that it can be packed at all.
        return Told(remarks=(f"{error}, or give --python",))
    if not found.root.entries and found.findings:
        first = found.findings[0]
        line = f" line {first.place.line}:" if first.place.line else ""
        raise CannotPackage([f"{first.place.path}:{line} {first.cause}"])
    functions = [one.props for one in found.resources() if one.is_function]
    runtimes = sorted({props.text("runtime") for props in functions} - {""})
    disks = [_disk_mb(props) for props in functions]
    return Told(tuple(runtimes), min(disks, default=_DEFAULT_DISK_MB))


def _disk_mb(props: Node) -> int:
    return int(props.number("diskSize") or _DEFAULT_DISK_MB)


def _judged(python: str) -> str:
    match = re.fullmatch(r"(3)\.(\d+)", python)
    if match and (int(match[1]), int(match[2])) >= OLDEST_PYTHON:
        return python
    known = ", ".join(sorted(PYTHONS.values()))
    problem = f"--python '{python}' is no Python for isoruntime: give one of {known}"
    raise CannotPackage([problem])


def _useless(runtime: str) -> str:
    if runtime in images.CUSTOM:
        image = images.CUSTOM[runtime]
        reason = f"has Python {image.python_text}, older than {text_of(OLDEST_PYTHON)}"
    elif runtime in images.BUILT_IN:
        reason = "calls the handler itself and starts no bootstrap"
    else:
        return f"s.yaml's runtime {runtime} does not tell its Python: give --python"
    return f"s.yaml's runtime {runtime} {reason}: take {images.DEFAULT}"


def _and_older(platform: str) -> Iterator[str]:
    match = _PLATFORM.fullmatch(platform)
    if match is None:
        yield platform
        return
    name, minor, machine = match.groups()
    newest = int(minor) if minor else _minor_of(name)
    for glibc in range(newest, _OLDEST_NAMED - 1, -1):
        yield f"manylinux_2_{glibc}_{machine}"
        if glibc in _OLD_NAMES:
            yield f"{_OLD_NAMES[glibc]}_{machine}"
    # No registry has such wheels: whoever offers one built it here, and means it.
    yield f"linux_{machine}"


def _minor_of(old_name: str) -> int:
    return {name: glibc for glibc, name in _OLD_NAMES.items()}[old_name]
