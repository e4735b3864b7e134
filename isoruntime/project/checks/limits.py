"""Whether the values of s.yaml fit each other, and the platform's limits."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator

from isoruntime.project.finding import ERROR, WARNING, Finding, Kind
from isoruntime.project.function import Function
from isoruntime.typed import Final

CPU_AND_MEMORY: Final = Kind(
    "cpu-memory-ratio",
    WARNING,
    "cpu and memorySize do not fit: for each vCPU there are to be 1 to 4 GB.",
    "change cpu or memorySize",
)
CPU_STEP: Final = Kind(
    "cpu-step", WARNING, "cpu is no multiple of 0.05.", "round it to 0.05"
)
VARIABLES_TOO_LARGE: Final = Kind(
    "variables-too-large",
    ERROR,
    "The environment variables are larger than 4 KB together.",
    "put large values into a file of the package, or into a store",
)
VARIABLE_RESERVED: Final = Kind(
    "variable-reserved",
    ERROR,
    "A variable has a name that the platform keeps to itself: FC_*, accessKeyID, "
    "accessKeySecret, securityToken, topic; or one that it sets.",
    "take another name; what the platform says is there without being configured",
)
VARIABLE_NAME: Final = Kind(
    "variable-name",
    ERROR,
    "A variable's name does not begin with a letter, or holds something besides "
    "letters, digits and underscores.",
    "take another name",
)
CODE_MISSING: Final = Kind(
    "code-missing",
    ERROR,
    "The folder or file that code names does not exist.",
    "mend the path; it is relative to the folder of s.yaml",
)
PACKAGE_TOO_LARGE: Final = Kind(
    "package-too-large",
    WARNING,
    "The folder is larger than what may be uploaded: a zip of 500 MB with the tools "
    "or through OSS, 100 MB in a call of the API.",
    "leave out what is not needed (.fcignore), or move it into a layer",
)
RUNTIME_OLD: Final = Kind(
    "runtime-unsupported",
    ERROR,
    "The runtime's newest Python is older than 3.10, which isoruntime needs. `custom` "
    "is Debian 9 with Python 3.7.",
    "use runtime custom.debian12, custom.debian11 or custom.debian10",
)

_RESERVED: Final = frozenset(
    {"accessKeyID", "accessKeySecret", "securityToken", "topic"}
)
_SET_BY_PLATFORM: Final = frozenset(
    {
        "ALIBABA_CLOUD_ACCESS_KEY_ID",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        "ALIBABA_CLOUD_SECURITY_TOKEN",
    }
)
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MOST_VARIABLES_BYTES: Final = 4096
#: Of a zip, with the tools or through OSS.
LARGEST_PACKAGE_MB: Final = 500
_MB: Final = 1024 * 1024


def check(function: Function) -> Iterator[Finding]:
    """Yield what does not fit."""
    yield from _cpu(function)
    yield from _variables(function)
    yield from _package(function)
    told, image = function.told, function.image
    if told and image and image.python < (3, 10):
        cause = f"{image.runtime} is {image.system} with Python {image.python_text}"
        yield RUNTIME_OLD.at(function.place("runtime"), cause)


def _cpu(function: Function) -> Iterator[Finding]:
    cpu = function.props.number("cpu")
    memory_mb = function.props.number("memorySize")
    if not cpu:
        return
    if abs(cpu / 0.05 - round(cpu / 0.05)) > 1e-6:
        place = function.place("cpu")
        yield CPU_STEP.at(place, f"cpu is {cpu:g}, no multiple of 0.05")
    if memory_mb and not 1 <= memory_mb / 1024 / cpu <= 4:
        cause = (
            f"{cpu:g} vCPU and {memory_mb:g} MB are {memory_mb / 1024 / cpu:.2g} GB "
            "for each vCPU, and 1 to 4 are allowed"
        )
        # In twentieths of a vCPU, so that what is said can be given.
        least, most = math.ceil(memory_mb / 4096 * 20), int(memory_mb / 1024 * 20)
        fix = f"give cpu from {max(1, least) / 20:g} to {most / 20:g}"
        yield CPU_AND_MEMORY.at(function.place("cpu"), cause, fix)


def _variables(function: Function) -> Iterator[Finding]:
    total = 0
    for name, node in function.variables.items():
        place = function.place(f"environmentVariables.{name}")
        total += len(name.encode()) + len(str(node.value or "").encode())
        if name in _RESERVED or name.startswith("FC_"):
            yield VARIABLE_RESERVED.at(place, f"{name} is kept for the platform")
        elif name in _SET_BY_PLATFORM:
            fix = (
                "leave it out: with `role` the platform sets it, and a handler finds "
                "it in context.credentials"
            )
            yield VARIABLE_RESERVED.at(place, f"{name} is set by the platform", fix)
        elif not _NAME.fullmatch(name):
            yield VARIABLE_NAME.at(place, f"'{name}' is no name for a variable")
    if total > _MOST_VARIABLES_BYTES:
        cause = f"the environment variables take {total} bytes of the 4096 there are"
        yield VARIABLES_TOO_LARGE.at(function.place("environmentVariables"), cause)


def _package(function: Function) -> Iterator[Finding]:
    folder = function.folder
    if folder is None:
        return
    if not folder.exists():
        cause = f"{folder} does not exist"
        yield CODE_MISSING.at(function.place("code"), cause)
        return
    size = _size(str(folder))
    if size > LARGEST_PACKAGE_MB * _MB:
        cause = (
            f"the folder holds {size // _MB} MB with what .fcignore leaves out, and a "
            "zip may have 500"
        )
        yield PACKAGE_TOO_LARGE.at(function.place("code"), cause)


def _size(folder: str) -> int:
    total = 0
    for where, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(where, name)).st_size  # noqa: PTH118 - many files
            except OSError:
                continue
    return total
