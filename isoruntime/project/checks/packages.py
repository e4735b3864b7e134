"""Whether what is vendored was built for the image: its Python, machine, C library.

Two witnesses are heard: what a package says of itself (`*.dist-info/WHEEL`), and what
its files are: their names, and the tables of the libraries.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from isoruntime.project.elf import Binary, examine
from isoruntime.project.finding import ERROR, Finding, Kind, Place
from isoruntime.project.function import CODE, Function, environment_of
from isoruntime.project.images import Image, text_of
from isoruntime.project.manifest import shown
from isoruntime.typed import Final, NamedTuple

_IMPORT_FAILS: Final = "Unable to import module 'index'"
_AGAIN: Final = (
    "vendor it for the target: pip install -t python --platform manylinux2014_x86_64 "
    "--only-binary=:all: --python-version {} ..."
)

PYTHON: Final = Kind(
    "package-python",
    ERROR,
    "A vendored package was built for another version of Python than the image has.",
    _AGAIN.format("3.11"),
    _IMPORT_FAILS,
)
PLATFORM: Final = Kind(
    "package-platform",
    ERROR,
    "A vendored package was built for another machine or system: macOS, Windows, Arm, or "
    "Linux with musl. The platform has Linux x86-64 with glibc.",
    _AGAIN.format("3.11"),
    _IMPORT_FAILS,
)
GLIBC: Final = Kind(
    "package-glibc",
    ERROR,
    "A vendored package needs a newer C library than the image has: 2.28 in Debian 10, "
    "2.31 in Debian 11, 2.36 in Debian 12.",
    _AGAIN.format("3.11"),
    "version `GLIBC_2.38' not found",
)
REQUIRES: Final = Kind(
    "package-requires-python",
    ERROR,
    "A vendored package says that it needs a newer Python than the image has.",
    "vendor an older version of it, or choose a runtime with a newer Python",
    _IMPORT_FAILS,
)
RUNTIME: Final = Kind(
    "runtime-missing",
    ERROR,
    "bootstrap starts isoruntime, and the folder lacks isoruntime itself, waitress or "
    "psutil. Nothing is installed on the platform.",
    "put them beside bootstrap: isoruntime package does, or pip install -t python "
    "isoruntime waitress psutil",
    "bootstrap: nothing here can run isoruntime; put what it needs beside bootstrap",
)
PATH: Final = Kind(
    "runtime-not-on-path",
    ERROR,
    "The command runs isoruntime with Python directly, and the packages in ./python are "
    "not on PYTHONPATH. Only bootstrap puts them there by itself.",
    "set environmentVariables.PYTHONPATH to /code/python, or start bootstrap",
    "No module named isoruntime",
)

_TAGGED: Final = re.compile(
    r"\.(?:cpython-(?P<python>\d+)(?P<flags>[a-z]*)|(?P<abi3>abi3))"
    r"(?:-(?P<platform>[\w-]+))?\.so$"
)
_CP: Final = re.compile(r"cp(\d)(\d+)$")
_PY: Final = re.compile(r"py(\d)(\d*)$")
_MANYLINUX: Final = re.compile(r"manylinux_(\d+)_(\d+)_(\w+)$")
_OLD_MANYLINUX: Final = {"1": (2, 5), "2010": (2, 12), "2014": (2, 17)}
_REQUIRED: Final = re.compile(r">=?\s*(\d+)\.(\d+)")
_SKIPPED: Final = frozenset({"__pycache__", "node_modules"})
_LIBRARIES: Final = (".so", ".dylib", ".pyd")
_NEEDED: Final = ("isoruntime", "waitress", "psutil")
#: A linker's script is called .so as well.
_MOST_NAMED: Final = 2


class _Fault(NamedTuple):
    kind: Kind
    cause: str


def check(function: Function) -> Iterator[Finding]:
    """Yield what cannot be imported there."""
    folder, image, python = function.folder, function.image, function.python
    if folder is None or image is None or python is None or not folder.is_dir():
        return
    yield from _runtime(function, folder)
    target = image._replace(python=python)
    files = [*_files(folder)]
    judged: set[Path] = set()
    for path in files:
        if path.name == "WHEEL" and path.parent.suffix == ".dist-info":
            faults = [*_of_distribution(path.parent, target)]
            if faults:
                judged |= _recorded(path.parent)
                name = path.parent.name.partition("-")[0]
                yield from _findings(path, faults, target, name)
    yield from _libraries(
        [path for path in files if path not in judged], folder, target
    )


def count(folder: Path) -> int:
    """Return how many packages are vendored in a folder."""
    return sum(
        path.name == "WHEEL" and path.parent.suffix == ".dist-info"
        for path in _files(folder)
    )


def _files(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        # What begins with a dot is for tools: .git, .venv.
        folders[:] = sorted(
            name for name in folders if name not in _SKIPPED and name[0] != "."
        )
        for name in sorted(names):
            if name == "WHEEL" or name.endswith(_LIBRARIES) or ".so." in name:
                yield Path(where) / name


def _findings(
    path: Path, faults: list[_Fault], target: Image, package: str
) -> Iterator[Finding]:
    for kind, cause in faults:
        fix = kind.fix.replace("3.11", target.python_text).replace("...", package)
        yield kind.at(Place(shown(path)), cause, fix)


# What packages say of themselves.


def _of_distribution(folder: Path, target: Image) -> Iterator[_Fault]:
    name, _, version = folder.stem.partition("-")
    tags = _fields(folder / "WHEEL", "Tag")
    reasons = [_unfit(tag, target) for tag in tags]
    if reasons and all(reasons):
        first = next(filter(None, reasons))
        yield _Fault(first.kind, f"{name} {version} {first.cause}")
    for required in _fields(folder / "METADATA", "Requires-Python"):
        for found in _REQUIRED.finditer(required):
            least = int(found[1]), int(found[2])
            if least > target.python:
                cause = (
                    f"{name} {version} needs Python {text_of(least)}, and "
                    f"{target.runtime} has {target.python_text}"
                )
                yield _Fault(REQUIRES, cause)


def _fields(path: Path, name: str) -> list[str]:
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return []
    head = text.partition("\n\n")[0]
    prefix = f"{name}: "
    return [
        line.removeprefix(prefix).strip()
        for line in head.splitlines()
        if line.startswith(prefix)
    ]


def _unfit(tag: str, target: Image) -> _Fault | None:
    """Return why a wheel with this tag cannot be used."""
    python, _, rest = tag.partition("-")
    abi, _, platform = rest.partition("-")
    reason = _unfit_python(python, abi, target)
    if reason:
        return _Fault(PYTHON, reason)
    return _unfit_platform(platform, target)


def _unfit_python(python: str, abi: str, target: Image) -> str:
    has = f"{target.runtime} has {target.python_text}"
    if found := _CP.match(python):
        built = int(found[1]), int(found[2])
        if built > target.python or (
            built < target.python and abi == f"cp{found[1]}{found[2]}"
        ):
            return f"was built for Python {text_of(built)}, and {has}"
        return ""
    if found := _PY.match(python):
        least = int(found[1]), int(found[2] or 0)
        return (
            ""
            if least[0] == 3 and least <= target.python
            else f"is for {python}, and {has}"
        )
    return f"is for {python}, and {has}"


def _unfit_platform(platform: str, target: Image) -> _Fault | None:
    if platform == "any" or platform == "linux_x86_64":
        return None
    old = re.match(r"manylinux(1|2010|2014)_(\w+)$", platform)
    new = _MANYLINUX.match(platform)
    if not (old or new):
        return _Fault(
            PLATFORM, f"was built for {platform}, not for Linux x86-64 with glibc"
        )
    if (old[2] if old else new[3] if new else "") != "x86_64":
        return _Fault(PLATFORM, f"was built for {platform}, not for x86-64")
    needed = (
        _OLD_MANYLINUX[old[1]] if old else (int(new[1]), int(new[2])) if new else (0, 0)
    )
    if needed > target.glibc:
        return _Fault(GLIBC, _too_new(needed, target))
    return None


def _too_new(needed: tuple[int, int], target: Image) -> str:
    return f"needs glibc {text_of(needed)}, and {target.system} has {text_of(target.glibc)}"


def _recorded(folder: Path) -> set[Path]:
    """Return the files that belong to a package."""
    try:
        lines = (folder / "RECORD").read_text("utf-8", "replace").splitlines()
    except OSError:
        return set()
    return {folder.parent / line.split(",")[0].strip('"') for line in lines if line}


# What files are.


def _libraries(files: list[Path], folder: Path, target: Image) -> Iterator[Finding]:
    """Yield what is wrong with libraries, a package at a time."""
    faults = {
        path: fault
        for path in files
        if path.name != "WHEEL" and (fault := _of_library(path, target))
    }
    fitting = {_stem(path) for path in files if path not in faults}
    groups: dict[tuple[str, str], list[Path]] = {}
    for path, fault in faults.items():
        # Some packages bring a file for each of several versions or systems.
        if _stem(path) not in fitting:
            group = _package(path, folder), fault.cause
            groups.setdefault(group, []).append(path)
    for (package, cause), paths in groups.items():
        more = f" (and {len(paths) - 1} more of it)" if len(paths) > 1 else ""
        fault = _Fault(faults[paths[0]].kind, f"{package}: {cause}{more}")
        yield from _findings(paths[0], [fault], target, package)


def _stem(path: Path) -> Path:
    return path.with_name(path.name.partition(".")[0])


def _package(path: Path, folder: Path) -> str:
    """Return the name of the package that a file lies in."""
    parts = path.relative_to(folder).parts
    for at, part in enumerate(parts[:-1]):
        if part not in ("python", "lib", "site-packages") and not part.startswith(
            "python3."
        ):
            return parts[at]
    return path.name.partition(".")[0]


def _of_library(path: Path, target: Image) -> _Fault | None:
    if path.suffix == ".pyd":
        return _Fault(PLATFORM, "it was built for Windows")
    if path.suffix == ".dylib":
        return _Fault(PLATFORM, "it was built for macOS")
    return _by_name(path.name, target) or _by_tables(path, target)


def _by_name(name: str, target: Image) -> _Fault | None:
    found = _TAGGED.search(name)
    if found is None:
        return None
    built = found["python"]
    wanted = f"{target.python[0]}{target.python[1]}"
    if built and (built != wanted or found["flags"]):
        version = f"{built[0]}.{built[1:]}{found['flags']}"
        cause = f"it was built for Python {version}, and {target.runtime} has {target.python_text}"
        return _Fault(PYTHON, cause)
    platform = found["platform"] or "x86_64-linux-gnu"
    if platform != "x86_64-linux-gnu":
        return _Fault(PLATFORM, f"it was built for {platform}")
    return None


def _by_tables(path: Path, target: Image) -> _Fault | None:
    try:
        binary: Binary | None = examine(path)
    except OSError:
        return None
    if binary is None:
        return None
    if not binary.is_x86_64:
        return _Fault(PLATFORM, f"it was built for {binary.name}")
    if binary.glibc > target.glibc:
        return _Fault(GLIBC, f"it {_too_new(binary.glibc, target)}")
    return None


# What isoruntime itself needs.


def _runtime(function: Function, folder: Path) -> Iterator[Finding]:
    start = function.start
    is_vendored = function.packed is not None and function.packed.has_packages
    if not start.is_ours or function.has_layers or is_vendored:
        return
    if start.program is not None and not start.program.exists():
        # Told already; what comes with the file will come then.
        return
    places = [folder, folder / "python"]
    lacking = [
        name
        for name in _NEEDED
        if not any((place / name / "__init__.py").is_file() for place in places)
    ]
    place = Place(shown(start.program or folder))
    if lacking:
        fix = f"put it beside bootstrap: pip install -t {shown(folder / 'python')} {' '.join(lacking)}"
        cause = f"{', '.join(lacking)} cannot be found in the folder or in ./python"
        yield RUNTIME.at(place, cause, fix)
        return
    runs_python = start.words[0].rpartition("/")[2].startswith("python")
    paths = environment_of(function).get("PYTHONPATH", "").split(":")
    is_below = not all((folder / name / "__init__.py").is_file() for name in _NEEDED)
    if (
        runs_python
        and is_below
        and not {f"{CODE}/python", "python", "./python"} & set(paths)
    ):
        yield PATH.at(start.place, "the packages are in ./python")
