"""A worker's folder goes to the next one only if nobody has changed anything about it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from isoruntime.zygote.worker_folders import Folder, WorkerFolders
from tests.waiting import wait_until


def taken(folders: WorkerFolders, cell: Path, slot: int) -> Folder:
    folder = folders.take(str(cell), slot)
    assert folder is not None
    return folder


def test_an_untouched_folder_goes_to_the_next_worker(tmp_path: Path) -> None:
    folders = WorkerFolders()
    first = taken(folders, tmp_path / "1-1", 1)
    # To read in it is no change.
    assert list(Path(first.path).iterdir()) == []
    folders.give_back(first)
    assert taken(folders, tmp_path / "1-1", 2).path == first.path


def test_cells_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = WorkerFolders()
    first = taken(folders, tmp_path / "1-1", 1)
    folders.give_back(first)
    assert taken(folders, tmp_path / "1-2", 2).path != first.path


def leave_a_file(folder: Path) -> None:
    (folder / "left").write_text("secret")


def leave_a_folder(folder: Path) -> None:
    (folder / "left" / "below").mkdir(parents=True)


def come_and_go(folder: Path) -> None:
    (folder / "left").write_text("secret")
    (folder / "left").unlink()
    # The clock of a file system may move in steps.
    wait_until(lambda: later_than(folder), 1, "a later time of change")


def later_than(folder: Path) -> bool:
    before = folder.stat().st_ctime_ns
    (folder / "again").touch()
    (folder / "again").unlink()
    return folder.stat().st_ctime_ns > before


def open_it_to_all(folder: Path) -> None:
    folder.chmod(0o777)


def leave_an_attribute(folder: Path) -> None:
    try:
        os.setxattr(folder, "user.left", b"secret")
    except OSError:
        pytest.skip("the file system has no attributes")


@pytest.mark.parametrize(
    "change",
    [leave_a_file, leave_a_folder, come_and_go, open_it_to_all, leave_an_attribute],
)
def test_a_changed_folder_is_removed(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folders = WorkerFolders()
    first = taken(folders, tmp_path / "1-1", 1)
    change(Path(first.path))
    folders.give_back(first)
    assert not Path(first.path).exists()
    second = Path(taken(folders, tmp_path / "1-1", 2).path)
    assert list(second.iterdir()) == []
    assert stat.S_IMODE(second.stat().st_mode) == 0o700
    assert "user.left" not in os.listxattr(second)


def test_a_folder_that_somebody_tidied_away_is_made_again(tmp_path: Path) -> None:
    folders = WorkerFolders()
    first = taken(folders, tmp_path / "1-1", 1)
    folders.give_back(first)
    Path(first.path).rmdir()
    (tmp_path / "1-1").rmdir()
    assert Path(taken(folders, tmp_path / "1-1", 2).path).is_dir()
