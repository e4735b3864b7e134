"""The zip that is deployed: the same entries always make the same bytes.

The platform's tools upload nothing when the checksum has not changed, and a reader can
tell by it whether two deployments are the same. (Another zlib may compress otherwise.)
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

from isoruntime.errors import CannotPackage
from isoruntime.project.contents import Entry
from isoruntime.typed import Final

#: The years that a zip can express.
_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
_LATEST: Final = (2107, 12, 31, 23, 59, 58)
#: So that the permissions in an entry are taken for such, whoever packs.
_UNIX: Final = 3
#: Begins the name of the folder, beside the zip, in which it is made.
_UNFINISHED: Final = ".package-"


def write(path: Path, entries: Iterable[Entry], moment: float | None = None) -> None:
    """Write the entries to a zip, or leave what was there before.

    Every entry gets the time `moment`, in seconds since 1970, else 1980.

    Raises:
        CannotPackage: with the system's reason.
    """
    stamp = _stamp(moment)
    try:
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=path.parent) as made:
            unfinished = Path(made) / path.name
            with zipfile.ZipFile(unfinished, "x") as archive:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    _add(archive, entry, stamp)
            unfinished.replace(path)
    except OSError as error:
        problem = f"{path} was not written: {_reason(error)}; -o names another place"
        raise CannotPackage([problem]) from error


def _reason(error: OSError) -> str:
    """Return the system's reason, and for what, unless only we know of that."""
    reason = error.strerror or str(error)
    if error.filename is None or _UNFINISHED in str(error.filename):
        return reason
    return f"{error.filename}: {reason}"


def _stamp(moment: float | None) -> tuple[int, int, int, int, int, int]:
    if moment is None:
        return _EARLIEST
    told = time.gmtime(moment)[:6]
    return min(max(told, _EARLIEST), _LATEST)


def _add(
    archive: zipfile.ZipFile, entry: Entry, stamp: tuple[int, int, int, int, int, int]
) -> None:
    info = zipfile.ZipInfo(entry.name, stamp)
    info.create_system = _UNIX
    info.external_attr = entry.mode << 16
    if stat.S_ISDIR(entry.mode):
        archive.writestr(info, b"")
        return
    info.compress_type = zipfile.ZIP_DEFLATED
    if isinstance(entry.source, bytes):
        archive.writestr(info, entry.source)
        return
    # Told beforehand, so that the format allows for what is larger than 2 GB.
    info.file_size = entry.size_bytes
    flags = os.O_RDONLY | os.O_NOFOLLOW
    with (
        open(os.open(entry.source, flags), "rb") as source,  # noqa: PTH123 - a descriptor
        archive.open(info, "w") as target,
    ):
        shutil.copyfileobj(source, target)
