"""What a function's folder looks like: the files that count, and a mark of each.

Two looks that differ mean a change, whoever made it and in however many steps. So what
an editor writes beside a file and renames, or removes again, is no change of its own.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from isoruntime.project.ignore import FILE_NAME, Ignore
from isoruntime.typed import Final, NamedTuple

#: Variables that developers keep beside the code and do not deploy: `.fcignore` mostly
#: has it, and it counts all the same.
ENV_FILE: Final = ".env"
#: Folders of tools. What is in them either follows from the code or is none of it.
_FOLDERS_OF_TOOLS: Final = frozenset(
    {
        *("__pycache__", ".git", ".hg", ".svn", ".venv", "node_modules"),
        *(".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".tox", ".nox"),
        *(".idea", ".vscode", ".s"),
    }
)
#: What editors, `sed -i` and network file systems write beside a file for a while; and
#: bytecode, which is written by the very import that a change leads to.
_PASSING: Final = re.compile(
    r"""
      .*~ | \#.*\# | \.\#.*                          # Emacs, and backups of many
    | .*\.sw[nopx] | .*\.swpx | 4913                 # Vim
    | .*___jb_(?:tmp|old)___                         # JetBrains
    | \.goutputstream-.* | .*\.kate-swp              # GNOME, KDE
    | sed[A-Za-z0-9]{6} | \.nfs[0-9a-f]+ | \.fuse_hidden.*
    | .*\.(?:tmp|temp|part|crswap|bak|orig|rej)
    | .*\.py[co] | \.DS_Store
    """,
    re.VERBOSE,
)


class Mark(NamedTuple):
    """By what a file is known to be another one than before."""

    modified_ns: int
    size: int
    inode: int
    #: a command may only lack the right to be run
    mode: int


#: Files by their paths.
Look = Mapping[str, Mark]


def mark_of(path: str) -> Mark | None:
    """Return the mark of a file, or None if there is no such file."""
    try:
        return _mark(os.stat(path))  # noqa: PTH116 - thousands of them, several times a second
    except OSError:
        return None


def _mark(found: os.stat_result) -> Mark | None:
    if not stat.S_ISREG(found.st_mode):
        return None
    return Mark(found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode)


class Folder:
    """A function's folder, with what of it counts."""

    def __init__(self, path: str, *, not_code: frozenset[str] = frozenset()) -> None:
        """`not_code` are paths in it that somebody else looks at."""
        self.path = os.path.realpath(path)
        self._not_code = not_code
        self._ignore = Ignore()
        self._ignore_mark: Mark | None = None
        #: judged once each: it takes longer than to ask for a file's mark
        self._verdicts: dict[tuple[str, bool], bool] = {}

    def look(self) -> dict[str, Mark]:
        """Return the files that count, as they are now."""
        self._read_ignore()
        return dict(self._files("", set()))

    def counts(self, path: str) -> bool:
        """Tell whether a path that lies in this folder, or did, is worth a look."""
        inside = self.path.rstrip("/") + "/"
        if not path.startswith(inside):
            return False
        names = path[len(inside) :].split("/")
        return names == [FILE_NAME] or all(
            self._is_seen("/".join(names[:depth]), depth < len(names))
            for depth in range(1, len(names) + 1)
        )

    def _read_ignore(self) -> None:
        mark = mark_of(f"{self.path}/{FILE_NAME}")
        if mark == self._ignore_mark:
            return
        try:
            self._ignore = Ignore.read(Path(self.path))
        except OSError:
            # As good as none, until it can be read.
            self._ignore, mark = Ignore(), None
        self._ignore_mark = mark
        self._verdicts.clear()

    def _files(self, folder: str, above: set[int]) -> Iterator[tuple[str, Mark]]:
        try:
            inode = os.stat(f"{self.path}/{folder}").st_ino  # noqa: PTH116 - as above
            entries = list(os.scandir(f"{self.path}/{folder}"))
        except OSError:
            # It is gone, or nobody's business.
            return
        if inode in above:
            # A link to a folder that it lies in.
            return
        for entry in entries:
            relative = f"{folder}{entry.name}"
            try:
                is_folder = entry.is_dir()
                if not self._is_seen(relative, is_folder):
                    continue
                mark = None if is_folder else _mark(entry.stat())
            except OSError:
                continue
            if is_folder:
                yield from self._files(f"{relative}/", above | {inode})
            elif mark is not None:
                yield f"{self.path}/{relative}", mark

    def _is_seen(self, relative: str, is_folder: bool) -> bool:
        known = self._verdicts.get((relative, is_folder))
        if known is None:
            known = self._judge(relative, is_folder)
            self._verdicts[relative, is_folder] = known
        return known

    def _judge(self, relative: str, is_folder: bool) -> bool:
        name = relative.rpartition("/")[2]
        if is_folder:
            is_code = name not in _FOLDERS_OF_TOOLS
        else:
            is_code = relative != FILE_NAME and not _PASSING.fullmatch(name)
            is_code = is_code and f"{self.path}/{relative}" not in self._not_code
        if not is_code or relative == ENV_FILE:
            return is_code
        return not self._ignore.matches(relative, is_folder)


def changed(before: Look, after: Look) -> list[str]:
    """Return the paths of what was changed, made or removed, in order."""
    return sorted(
        path
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path)
    )
