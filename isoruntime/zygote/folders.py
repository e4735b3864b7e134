"""Temporary folders: one for every worker, and what was in it is removed with it.

The folder that holds them belongs to one front end. It is made by the first
zygote and removed by the last, so that nothing stays behind even when the front
end is killed.
"""

from __future__ import annotations

import os

from isoruntime.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_MODE: Final = 0o700


def make_base(parents: Iterable[str]) -> tuple[str, str]:
    """Make the folder of one front end where it can be had first.

    Return its path, empty if there is no such place, and why those before it would not
    do.
    """
    name = f"isoruntime-{os.getpid()}-{os.urandom(4).hex()}"
    problems: list[str] = []
    for parent in parents:
        try:
            os.makedirs(f"{parent}/{name}", _MODE)  # noqa: PTH103 - pathlib is slow to import
        except OSError as error:
            problems.append(f"{parent}: {error.strerror}")
        else:
            return f"{parent}/{name}", "; ".join(problems)
    return "", "; ".join(problems)


def make(path: str) -> str | None:
    """Make the folder of a worker, and that of its cell; None if the disk refuses it."""
    try:
        os.mkdir(path, _MODE)  # noqa: PTH102 - pathlib is slow to import
    except FileNotFoundError:
        try:
            os.makedirs(path, _MODE)  # noqa: PTH103
        except OSError:
            return None
    except OSError:
        return None
    return path


def remove_orphaned(base: str) -> None:
    """Remove the folders of workers whose zygote is gone, and they with it."""
    try:
        names = os.listdir(base)  # noqa: PTH208 - pathlib is slow to import
    except OSError:
        return
    for name in names:
        zygote, _, _ = name.partition("-")
        if zygote.isdigit() and not os.path.exists(f"/proc/{zygote}"):  # noqa: PTH110
            remove(f"{base}/{name}")


def remove(path: str) -> None:
    """Remove a folder with all that is in it, following no link out of it."""
    try:
        os.rmdir(path)  # noqa: PTH106 - the usual case: nothing was left in it
    except FileNotFoundError:
        return
    except OSError:
        _empty(path)


def _empty(path: str) -> None:
    # What is in there was made by user code, links included, and we may be root.
    # `fwalk` opens every folder without following links, and what is removed is
    # named relative to the open folder.
    try:
        for _, folders, files, fd in os.fwalk(path, topdown=False):
            for name in files:
                _try(os.unlink, name, fd)
            for name in folders:
                # A link to a folder is listed among the folders, and is no folder.
                if not _try(os.rmdir, name, fd):
                    _try(os.unlink, name, fd)
        os.rmdir(path)  # noqa: PTH106
    except OSError:
        return


def _try(remove_entry: object, name: str, fd: int) -> bool:
    try:
        remove_entry(name, dir_fd=fd)  # type: ignore[operator]
    except OSError:
        return False
    return True
