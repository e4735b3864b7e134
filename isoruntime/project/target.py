"""For which Python and system a folder is packed: what was asked for, else s.yaml's.

An image has one Python that is new enough for isoruntime, so that a runtime's name says
all there is to know (fc-contract.md 5.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from isoruntime.errors import CannotPackage
from isoruntime.project.contents import file_in

#: The images that have a Python for isoruntime.
PYTHONS: Final = {
    "custom.debian12": "3.11",
    "custom.debian11": "3.12",
    "custom.debian10": "3.10",
}
DEFAULT_RUNTIME: Final = "custom.debian12"
#: The oldest of the images has glibc 2.28, so that these wheels run on all of them.
DEFAULT_PLATFORM: Final = "manylinux_2_28_x86_64"
#: What a function has unless it asks for more (`diskSize`).
DEFAULT_DISK_MB: Final = 512

_MANIFESTS: Final = ("s.yaml", "s.yml")
#: Names that platforms had before they were called after the C library's version.
_OLD_NAMES: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_PLATFORM: Final = re.compile(r"(manylinux(?:2014|2010|1|_2_(\d+)))_(\w+)")
_OLDEST_GLIBC: Final = min(_OLD_NAMES)
_OLDEST_PYTHON: Final = 10


class Target(NamedTuple):
    """What the packages have to fit."""

    python: str = PYTHONS[DEFAULT_RUNTIME]
    platforms: tuple[str, ...] = (DEFAULT_PLATFORM,)
    disk_mb: int = DEFAULT_DISK_MB
    #: how it was decided
    because: str = f"as on {DEFAULT_RUNTIME}"
    #: what should be done so that it is decided better
    remarks: tuple[str, ...] = ()

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


def read(
    folder: Path, python: str | None = None, platforms: Sequence[str] = ()
) -> Target:
    """Return the target that was asked for, or that the folder's s.yaml tells.

    Raises:
        CannotPackage: neither tells a Python that isoruntime runs on.
    """
    functions, remarks = _functions(folder)
    target = Target(disk_mb=_disk_mb(functions))
    if python is not None:
        target = target._replace(python=_judged(python), because="as asked for")
    elif functions:
        runtime = _runtime(functions)
        target = target._replace(
            python=PYTHONS[runtime], because=f"as s.yaml's {runtime} has it"
        )
    else:
        target = target._replace(remarks=remarks)
    return target._replace(platforms=tuple(platforms)) if platforms else target


def _judged(python: str) -> str:
    match = re.fullmatch(r"3\.(\d+)", python)
    if match and int(match[1]) >= _OLDEST_PYTHON:
        return python
    known = ", ".join(sorted(PYTHONS.values()))
    raise CannotPackage(
        [
            f"--python '{python}' is no Python that isoruntime runs on: give one of {known}"
        ]
    )


def _functions(folder: Path) -> tuple[list[Mapping[str, Any]], tuple[str, ...]]:
    """Return the `props` of s.yaml's functions, and why there are none."""
    found = [path for name in _MANIFESTS if (path := file_in(folder, name))]
    if not found:
        return [], ()
    path = found[0]
    try:
        import yaml
    except ModuleNotFoundError:
        remark = (
            f"{path.name} was not read: pip install 'isoruntime[yaml]', or say --python"
        )
        return [], (remark,)
    try:
        document = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise CannotPackage([f"{path.name} is no YAML: {text}"]) from error
    resources = document.get("resources") if isinstance(document, dict) else None
    return list(_props(resources)), ()


def _props(resources: object) -> Iterator[Mapping[str, Any]]:
    for resource in resources.values() if isinstance(resources, dict) else ():
        props = resource.get("props") if isinstance(resource, dict) else None
        if isinstance(props, dict) and "runtime" in props:
            yield props


def _runtime(functions: Sequence[Mapping[str, Any]]) -> str:
    runtimes = sorted({str(props["runtime"]) for props in functions})
    unknown = [runtime for runtime in runtimes if runtime not in PYTHONS]
    if unknown:
        raise CannotPackage([_useless(runtime) for runtime in unknown])
    if len(runtimes) > 1:
        named = " and ".join(runtimes)
        raise CannotPackage(
            [f"s.yaml has functions on {named}: say for which Python, with --python"]
        )
    return runtimes[0]


def _useless(runtime: str) -> str:
    if runtime == "custom":
        reason = f"has a Python older than 3.{_OLDEST_PYTHON}: take {DEFAULT_RUNTIME}"
    elif runtime.startswith("custom") or not runtime[:1].isalpha():
        reason = "does not tell its Python: say --python"
    else:
        reason = f"starts no bootstrap: take {DEFAULT_RUNTIME}"
    return f"s.yaml's runtime {runtime} {reason}"


def _disk_mb(functions: Sequence[Mapping[str, Any]]) -> int:
    told = [props.get("diskSize", DEFAULT_DISK_MB) for props in functions]
    return min(
        (size for size in told if isinstance(size, int)), default=DEFAULT_DISK_MB
    )


def _and_older(platform: str) -> Iterator[str]:
    match = _PLATFORM.fullmatch(platform)
    if match is None:
        yield platform
        return
    name, minor, machine = match.groups()
    newest = int(minor) if minor else _minor_of(name)
    for glibc in range(newest, _OLDEST_GLIBC - 1, -1):
        yield f"manylinux_2_{glibc}_{machine}"
        if glibc in _OLD_NAMES:
            yield f"{_OLD_NAMES[glibc]}_{machine}"
    # No registry has such wheels: whoever offers one built it here, and means it.
    yield f"linux_{machine}"


def _minor_of(old_name: str) -> int:
    return {name: glibc for glibc, name in _OLD_NAMES.items()}[old_name]
