"""What is deployed: the folder's contents, a `bootstrap` that starts, the packages."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from isoruntime.errors import CannotPackage
from isoruntime.project import bytecode, contents, start, vendor
from isoruntime.project.contents import PROGRAM, Entry, file_in
from isoruntime.project.target import Target
from isoruntime.typed import NamedTuple


class Parcel(NamedTuple):
    """All that goes into the zip."""

    entries: tuple[Entry, ...]
    #: what a reader should know of it
    remarks: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """How much disk it takes, unpacked."""
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def distributions(self) -> Mapping[str, str]:
        """Version of each vendored package, by name."""
        return vendor.distributions(self.entries)

    def with_packages(
        self, packages: Sequence[Entry], remarks: Sequence[str] = ()
    ) -> Parcel:
        """Return it with packages; what the folder had of these gives way.

        Raises:
            CannotPackage: their place is taken.
        """
        if any(entry.name == vendor.FOLDER for entry in self.entries):
            problem = f"{vendor.FOLDER} must be a folder, for the packages: rename it"
            raise CannotPackage([problem])
        tops = {_top(entry.name) for entry in packages}
        tops |= {f"{name}.dist-info" for name in vendor.distributions(packages)}
        giving_way = {_top(entry.name) for entry in self.entries} & tops - {""}
        kept = [entry for entry in self.entries if _top(entry.name) not in giving_way]
        if giving_way:
            named = ", ".join(sorted(giving_way))
            remarks = [*remarks, f"{vendor.FOLDER}/ had {named} already: replaced"]
        return Parcel((*kept, *packages), (*self.remarks, *remarks))


def of(folder: Path, besides: Sequence[Path]) -> Parcel:
    """Return what the folder itself has to deploy, without the files `besides`.

    Raises:
        CannotPackage: with everything that stands in the way.
    """
    found, problems = contents.read(folder, besides)
    if problems:
        raise CannotPackage(problems)
    if not found:
        problem = f"{folder} holds nothing to deploy: isoruntime init makes a function"
        raise CannotPackage([problem])
    script, remarks = _start(folder)
    entries = [entry for entry in found if entry.name != start.NAME]
    return Parcel((*entries, script), tuple(remarks))


def packages_for(
    folder: Path, target: Target, into: Path
) -> tuple[list[Entry], list[str]]:
    """Fetch the packages for the folder's code; return them and remarks.

    Raises:
        CannotPackage: with pip's last words.
    """
    requirements = file_in(folder, "requirements.txt")
    packages = vendor.fetch(target, requirements, into, folder)
    return packages, vendor.remarks_on(packages, requirements, target)


def with_bytecode(parcel: Parcel, python: str, into: Path) -> Parcel:
    """Return it with the bytecode of all its code, for a Python as in "3.11".

    `into` is a folder to be made, which the bytecode is read from later.
    """
    into.mkdir()
    made = bytecode.compiled(parcel.entries, python, into)
    remarks = parcel.remarks
    if not made and any(bytecode.is_source(entry) for entry in parcel.entries):
        remark = (
            f"no bytecode, so that each cold start compiles what it imports: there is no "
            f"Python {python} here to make it"
        )
        remarks = (*remarks, remark)
    return Parcel((*parcel.entries, *made), remarks)


def _start(folder: Path) -> tuple[Entry, list[str]]:
    """Return the start command, and what was done to it."""
    own = file_in(folder, start.NAME)
    if own is None:
        return Entry(start.NAME, PROGRAM, start.ours()), [
            f"{start.NAME} is isoruntime's: the folder has none"
        ]
    script, remarks = start.mended(own.read_bytes())
    if not own.stat().st_mode & stat.S_IXUSR:
        remarks.append("it is made executable")
    return Entry(start.NAME, PROGRAM, script), [
        f"{start.NAME}: {remark}" for remark in remarks
    ]


def _top(name: str) -> str:
    """Return what lies directly in `python/` that a path belongs to, or nothing."""
    folder, _, rest = name.partition("/")
    top = rest.partition("/")[0] if folder == vendor.FOLDER else ""
    if top.endswith(".dist-info"):
        # The same package in another version is the same package.
        name = top.removesuffix(".dist-info").rpartition("-")[0]
        return f"{vendor.normalized(name)}.dist-info"
    return top
