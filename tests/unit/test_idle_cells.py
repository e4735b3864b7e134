"""A cell that nobody has needed for a minute is given up, with all that it holds."""

from __future__ import annotations

import select
from pathlib import Path

import pytest

from isoruntime.sandbox.identity import UIDS_PER_RUNTIME
from isoruntime.sandbox.walls import Cell, Policy, Walls
from isoruntime.zygote.cells import Cells
from isoruntime.zygote.worker_folders import WorkerFolders


@pytest.fixture
def folders() -> WorkerFolders:
    return WorkerFolders()


@pytest.fixture
def cells(tmp_path: Path, folders: WorkerFolders) -> Cells:
    """Return the cells of a zygote that has made none so far."""
    walls = Walls(Policy(temp_base=str(tmp_path)))
    return Cells(walls, folders, (), select.poll())


def take(cells: Cells, count: int) -> list[Cell]:
    return [cells.take() for _ in range(count)]


def give_back(cells: Cells, taken: list[Cell]) -> None:
    for cell in taken:
        cells.give_back(cell)


def test_those_that_were_not_needed_since_the_last_look_are_given_up(
    cells: Cells, tmp_path: Path
) -> None:
    give_back(cells, take(cells, 5))
    cells.give_up_idle()
    busy = take(cells, 2)
    give_back(cells, busy)
    cells.give_up_idle()
    assert {Path(cell.folder) for cell in busy} == {*tmp_path.iterdir()}
    # They are used again, and not what was given up.
    assert {*take(cells, 2)} == {*busy}


def test_one_that_is_lived_in_stays(cells: Cells) -> None:
    lived_in, free = take(cells, 2)
    cells.give_back(free)
    cells.give_up_idle()
    assert Path(lived_in.folder).is_dir()
    assert not Path(free.folder).exists()


def test_what_a_worker_has_left_goes_with_its_cell(
    cells: Cells, folders: WorkerFolders
) -> None:
    cell = cells.take()
    folder = folders.take(cell.folder, 1)
    assert folder is not None
    folders.give_back(folder)
    Path(cell.folder, "left", "below").mkdir(parents=True)
    cells.give_back(cell)
    cells.give_up_idle()
    assert not Path(cell.folder).exists()


def test_there_is_nothing_to_look_for_while_none_is_free(cells: Cells) -> None:
    assert cells.look_at is None
    cell = cells.take()
    assert cells.look_at is None
    cells.give_back(cell)
    assert cells.look_at is not None
    cells.give_up_idle()
    assert cells.look_at is None


def test_no_two_share_a_user_however_many_have_been_given_up(cells: Cells) -> None:
    first = cells.take()
    users = {first.number % UIDS_PER_RUNTIME}
    for _ in range(UIDS_PER_RUNTIME - 1):
        cell = cells.take()
        assert cell.number % UIDS_PER_RUNTIME not in users
        cells.abandon(cell)
    others = take(cells, UIDS_PER_RUNTIME - 1)
    users |= {cell.number % UIDS_PER_RUNTIME for cell in others}
    assert len(users) == UIDS_PER_RUNTIME
    # More are made all the same.
    assert cells.take().number not in {first.number, *(one.number for one in others)}


def test_an_abandoned_one_is_not_used_again(cells: Cells) -> None:
    cell = cells.take()
    cells.abandon(cell)
    cells.give_back(cell)
    assert cells.look_at is None
    assert cells.take().number != cell.number
