"""Temporary folders that go from one worker to the next, as long as they are empty."""

from __future__ import annotations

import os

from isoruntime.sandbox.untouched import state_of
from isoruntime.zygote.folders import make, remove


class Folder:
    """The temporary folder of a worker."""

    __slots__ = ("as_made", "cell", "encoded", "path")

    def __init__(self, path: str, cell: str) -> None:
        self.path = path
        self.encoded = os.fsencode(path)
        #: the folder of the cell that it lies in
        self.cell = cell
        self.as_made = state_of(path)


class WorkerFolders:
    """The folders of a zygote's workers.

    One goes to the next worker of the cell as long as nobody has changed anything in it,
    or about it: to look takes a tenth of what it takes to remove one and make another.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Folder] = {}  # by cell

    def take(self, cell: str, slot: int, uid: int = 0) -> Folder | None:
        """Return a folder for one worker; None if the disk refuses it.

        It lies in that of its cell, whose name begins with the zygote's pid, for whoever
        has to clean up after its death. With a `uid` the folder is that user's.
        """
        kept = self._kept.pop(cell, None)
        # Somebody may have tidied up among the temporary files.
        if kept is not None and os.path.isdir(kept.path):  # noqa: PTH112 - pathlib is slow to import
            return kept
        path = make(f"{cell}/{slot}")
        if path is None:
            return None
        if uid:
            os.chown(path, uid, uid)
        return Folder(path, cell)

    def give_back(self, folder: Folder) -> None:
        """Keep the folder of a dead worker for another one, or remove it."""
        if state_of(folder.path) == folder.as_made:
            self._kept[folder.cell] = folder
        else:
            remove(folder.path)

    def give_up(self, cell: str) -> None:
        """Remove the folder of a cell that nobody lives in, and what was kept of it."""
        self._kept.pop(cell, None)
        remove(cell)
