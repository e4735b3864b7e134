"""What a folder has to ship: its files and links, without what `.fcignore` leaves out.

Nothing outside the folder is read. Permissions are reduced to what a deployment needs,
so that they do not depend on who packs: everybody may read, and run what its owner may.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from isoruntime.errors import CannotPackage
from isoruntime.project.ignore import FILE_NAME, Ignore
from isoruntime.typed import Final, NamedTuple

FILE: Final = stat.S_IFREG | 0o644
PROGRAM: Final = stat.S_IFREG | 0o755
FOLDER: Final = stat.S_IFDIR | 0o755
LINK: Final = stat.S_IFLNK | 0o777

#: What no function has a use for there: what Python makes again by itself, the history
#: of the code, and what belongs to this machine.
NEVER: Final = ("__pycache__/", "*.py[co]", ".git", ".venv*/", "/.s/")
_LEAVE_OUT: Final = f"or name it in {FILE_NAME}"


class Entry(NamedTuple):
    """One thing that is shipped."""

    #: its path there, with `/`
    name: str
    #: what it is and who may do what, as `stat` has it
    mode: int
    #: where its content is, or the content; of a link, where it leads
    source: Path | bytes

    @property
    def size_bytes(self) -> int:
        """How much disk it takes, unpacked."""
        if isinstance(self.source, bytes):
            return len(self.source)
        return self.source.stat().st_size if stat.S_ISREG(self.mode) else 0


class Contents(NamedTuple):
    """What a folder has to ship, and what stands in the way of that."""

    entries: list[Entry]
    problems: list[str]


def read(folder: Path, besides: Sequence[Path] = ()) -> Contents:
    """Look through a folder, leaving out what it says and the files `besides`.

    Raises:
        CannotPackage: what is left out is said outside of the folder.
    """
    file_in(folder, FILE_NAME)
    walk = _Walk(folder, [Ignore.read(folder), Ignore(NEVER)], besides)
    entries = list(walk.below(""))
    problems = [*walk.problems, *_links_to_nothing(folder, entries)]
    return Contents(entries, problems)


def file_in(folder: Path, name: str) -> Path | None:
    """Return the folder's file of that name, if it has one.

    Raises:
        CannotPackage: it lies outside of the folder.
    """
    path = folder / name
    if not path.is_file():
        return None
    if not path.resolve().is_relative_to(folder.resolve()):
        raise CannotPackage([f"{name} is a link that leaves the folder: copy it there"])
    return path


def permitted(status: os.stat_result) -> int:
    """Return the mode with which a file is shipped."""
    return PROGRAM if status.st_mode & stat.S_IXUSR else FILE


class _Walk:
    def __init__(
        self, folder: Path, left_out: Sequence[Ignore], besides: Sequence[Path]
    ) -> None:
        self._root = folder
        self._real_root = os.path.realpath(folder)
        self._left_out = left_out
        self._besides = {os.path.realpath(path) for path in besides}
        self.problems: list[str] = []

    def below(self, prefix: str) -> Iterator[Entry]:
        """Yield what is shipped of one folder and all below it."""
        try:
            with os.scandir(self._root / prefix) as found:
                names = sorted(found, key=lambda one: one.name)
        except OSError as error:
            self.problems.append(_unreadable(prefix, error))
            return
        if prefix and not names:
            yield Entry(prefix, FOLDER, b"")
        for one in names:
            name = f"{prefix}{one.name}"
            is_folder = one.is_dir(follow_symlinks=False)
            if not self._is_left_out(name, is_folder):
                yield from (
                    self.below(f"{name}/") if is_folder else self._file(name, one)
                )

    def _is_left_out(self, name: str, is_folder: bool) -> bool:
        if any(ignore.matches(name, is_folder) for ignore in self._left_out):
            return True
        return f"{self._real_root}/{name}" in self._besides

    def _file(self, name: str, one: os.DirEntry[str]) -> Iterator[Entry]:
        status = one.stat(follow_symlinks=False)
        problem = _unwritable(name)
        if stat.S_ISLNK(status.st_mode):
            problem = problem or self._leading_out(name, one.path)
            entry = Entry(name, LINK, os.fsencode(os.readlink(one.path)))  # noqa: PTH115 - its text, as it is
        else:
            problem = problem or _unshippable(name, one.path, status)
            entry = Entry(name, permitted(status), Path(one.path))
        if problem:
            self.problems.append(problem)
        else:
            yield entry

    def _leading_out(self, name: str, path: str) -> str:
        target = os.readlink(path)  # noqa: PTH115 - its text, as it is
        if os.path.isabs(target):  # noqa: PTH117 - it is a text, not yet a place
            return f"{name} is a link to {target}: make it relative, {_LEAVE_OUT}"
        real = os.path.realpath(path)
        if os.path.commonpath([real, self._real_root]) == self._real_root:
            return ""
        return (
            f"{name} is a link that leaves the folder, to {target}: "
            f"copy what it leads to, {_LEAVE_OUT}"
        )


def _unwritable(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"{os.fsencode(name)!r} is no name in UTF-8: rename it, {_LEAVE_OUT}"
    return ""


def _unshippable(name: str, path: str, status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return f"{name} is neither a file nor a folder nor a link: {_LEAVE_OUT[3:]}"
    if not os.access(path, os.R_OK):
        return f"{name} cannot be read: allow it (chmod u+r), {_LEAVE_OUT}"
    return ""


def _unreadable(prefix: str, error: OSError) -> str:
    where = prefix.rstrip("/") or "the folder"
    return f"{where} cannot be listed: {error.strerror}"


def _links_to_nothing(folder: Path, entries: Sequence[Entry]) -> Iterator[str]:
    """Yield a problem for every link that would lead nowhere on the platform."""
    shipped = {part for entry in entries for part in _with_parents(entry.name)}
    root = os.path.realpath(folder)
    for entry in entries:
        if not stat.S_ISLNK(entry.mode):
            continue
        real = os.path.realpath(folder / entry.name)
        target = os.path.relpath(real, root)
        if target != "." and target not in shipped:
            yield (
                f"{entry.name} is a link to {target}, which is not shipped: "
                f"ship that too, {_LEAVE_OUT}"
            )


def _with_parents(name: str) -> Iterator[str]:
    parts = name.rstrip("/").split("/")
    for depth in range(1, len(parts) + 1):
        yield "/".join(parts[:depth])
