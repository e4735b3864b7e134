"""isoruntime package: the zip that is deployed, with everything that it needs."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from isoruntime import __version__
from isoruntime.cli.progress import shown
from isoruntime.cli.text import BAD_USAGE, complain
from isoruntime.cli.words import Parser, Unreadable
from isoruntime.errors import CannotPackage
from isoruntime.project import archive, images, parcel, target
from isoruntime.project.checks.limits import LARGEST_PACKAGE_MB
from isoruntime.project.parcel import Parcel
from isoruntime.project.target import DEFAULT_PLATFORM, PYTHONS, Target, Told
from isoruntime.typed import Final, NamedTuple

_EPOCH: Final = "SOURCE_DATE_EPOCH"

_USAGE: Final = f"""\
usage: isoruntime package [DIR] [-o FILE] [OPTIONS]

Makes the zip that is deployed of DIR, or of the current directory: the code without
what .fcignore names, bootstrap ready to be started, and in python/ isoruntime, what it
needs, and what requirements.txt asks for, for the platform's Python, all with its
bytecode if that Python is here. The same input makes the same bytes. Needs pip, and the
package index that pip is set up for.

  -o FILE, --output FILE  the zip [else code.zip in DIR]
  --python VERSION        {", ".join(sorted(PYTHONS.values()))}: for which Python the packages are
                          [else that of s.yaml's runtime, else {PYTHONS[images.DEFAULT]}]
  --platform NAME         for which system, as wheels name it; may be repeated
                          [else {DEFAULT_PLATFORM}, which every image runs]
  --no-vendor             no packages: they come with a layer, or are in DIR already
  --no-bytecode           only the code: smaller, and compiled at every cold start
  --help                  print this and exit

{_EPOCH}, in seconds since 1970, is the time of all that is in the zip, else 1980."""

_FAILED: Final = 1
_MB: Final = 1 << 20


class _Order(NamedTuple):
    """What was asked for."""

    folder: Path
    output: Path
    python: str | None
    platforms: tuple[str, ...]
    vendors: bool
    compiles: bool
    moment: float | None


def main(argv: Sequence[str]) -> int:
    """Make the zip; 1 if that cannot be, 2 for bad words."""
    if {"-h", "--help"} & set(argv):
        print(_USAGE)
        return 0
    try:
        order, problems = _order(argv, os.environ)
    except Unreadable as error:
        problems = error.told("package")
    if problems:
        complain(problems)
        return BAD_USAGE
    try:
        print("\n".join(_packed(order)))
    except CannotPackage as error:
        complain(error.problems)
        return _FAILED
    return 0


def _order(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[_Order, list[str]]:
    parser = Parser()
    parser.add_argument("dir", nargs="?", default=".")
    parser.add_argument("-o", "--output")
    parser.add_argument("--python")
    parser.add_argument("--platform", action="append", default=[])
    parser.add_argument("--no-vendor", action="store_true")
    parser.add_argument("--no-bytecode", action="store_true")
    words = parser.read(argv)
    folder = Path(words.dir)
    output = Path(words.output) if words.output else folder / "code.zip"
    moment, problem = _moment(environ.get(_EPOCH, ""))
    order = _Order(
        folder,
        output,
        words.python,
        tuple(words.platform),
        vendors=not words.no_vendor,
        compiles=not words.no_bytecode,
        moment=moment,
    )
    return order, [*_problems(folder, output), *problem]


def _problems(folder: Path, output: Path) -> Iterator[str]:
    if not folder.is_dir():
        yield f"{folder} is no folder: give the one with the code"
    elif not output.parent.is_dir():
        yield f"{output.parent} is no folder, so that {output} cannot be there"
    elif output.is_dir():
        yield f"{output} is a folder: give the name of a file, with -o"
    elif output.exists() and output.stat().st_size and not zipfile.is_zipfile(output):
        yield f"{output} is there and no zip: it is kept; give another name, with -o"


def _moment(text: str) -> tuple[float | None, list[str]]:
    if not text:
        return None, []
    try:
        return float(int(text)), []
    except ValueError:
        return None, [f"{_EPOCH}='{text}' is no whole number of seconds"]


def _packed(order: _Order) -> list[str]:
    """Make the zip and return what there is to say about it."""
    told = target.told(order.folder)
    whole = parcel.of(order.folder, [order.output])
    chosen = _target(order, told)
    said: list[str] = []
    with tempfile.TemporaryDirectory(prefix="isoruntime-package-") as made:
        if order.vendors and chosen:
            whole = _with_packages(whole, order, told, chosen, Path(made) / "python")
            named = {"isoruntime": __version__, **whole.distributions}
            said = [
                f"  packages   for {chosen}: {chosen.because}",
                f"  python/    {', '.join(' '.join(one) for one in named.items())}",
            ]
        if order.compiles and chosen:
            with shown(f"compiling for Python {chosen.python}"):
                into = Path(made) / "bytecode"
                with_all = parcel.with_bytecode(whole, chosen.python, into)
            count = len(with_all.entries) - len(whole.entries)
            if count:
                said.append(f"  bytecode   for Python {chosen.python}, {count} files")
            whole = with_all
        report = [*_written(order, whole, told)]
    report[2:2] = said
    return report


def _target(order: _Order, told: Told) -> Target | None:
    """Return what it is packed for; None if nobody knows, and no package needs to."""
    try:
        return told.target(order.python, order.platforms)
    except CannotPackage:
        if order.vendors:
            raise
        return None


def _with_packages(
    folders: Parcel, order: _Order, told: Told, chosen: Target, into: Path
) -> Parcel:
    with shown(f"fetching packages for {chosen}"):
        packages, remarks = parcel.packages_for(order.folder, chosen, into)
    if order.python is None:
        remarks = [*told.remarks, *remarks]
    return folders.with_packages(packages, [*told.doubts(chosen), *remarks])


def _written(order: _Order, parcel: Parcel, told: Told) -> Iterator[str]:
    unpacked_mb = parcel.size_bytes / _MB
    if unpacked_mb > told.disk_mb:
        problem = (
            f"unpacked it takes {unpacked_mb:.0f} MB, and the function's disk has "
            f"{told.disk_mb} MB: leave something out in .fcignore, or set diskSize"
        )
        raise CannotPackage([problem])
    with shown(f"writing {order.output}"):
        archive.write(order.output, parcel.entries, order.moment)
    size_mb = order.output.stat().st_size / _MB
    yield (
        f"{order.output}: {len(parcel.entries)} files, {size_mb:.1f} MB "
        f"of the {LARGEST_PACKAGE_MB} MB that a zip may have"
    )
    yield f"  unpacked   {unpacked_mb:.1f} MB of the function's disk of {told.disk_mb} MB"
    for remark in parcel.remarks:
        yield f"  note       {remark}"
