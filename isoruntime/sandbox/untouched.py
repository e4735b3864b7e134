"""Whether a folder is still as it was made: most workers leave nothing anywhere."""

from __future__ import annotations

import os


def state_of(folder: str) -> tuple[object, ...]:
    """Return what differs once anything in a folder, or about it, was changed.

    The time of change moves with the entries, the mode, the owner and attributes, and
    nobody without power over the clock sets it. Before Linux 6.13 it moves in steps of
    milliseconds, hence the rest.
    """
    try:
        found = os.stat(folder)  # noqa: PTH116 - pathlib is slow to import
        names = (os.listdir(folder), _attributes_of(folder))  # noqa: PTH208
    except OSError:
        # Gone: different from all that was seen before.
        return (object(),)
    times = (found.st_ctime_ns, found.st_mtime_ns)
    return (*times, found.st_mode, found.st_uid, found.st_gid, found.st_size, names)


def _attributes_of(path: str) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError:
        # This file system has none.
        return []
