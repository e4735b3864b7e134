"""A cell is renewed between two workers, unless the first has left it as it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from isoruntime.sandbox import namespaces
from tests.sandbox.children import a_child, in_child

pytestmark = pytest.mark.skipif(
    namespaces.needs_user_namespace(),
    reason="without CAP_SYS_ADMIN a cell needs a process outside that maps its ids",
)

#: Below a scratch folder, so that it has to be exposed.
EXPOSED = Path("/tmp/isoruntime-test-exposed/below/code")


def make_and_remove() -> None:
    path = Path("/tmp/left")
    path.touch()
    path.unlink()


CHANGES: dict[str, Callable[[], object]] = {
    "a file in tmp": Path("/tmp/left").touch,
    "a folder in shared memory": Path("/dev/shm/left").mkdir,
    "a file that is gone again": make_and_remove,
    "another mode": lambda: Path("/tmp").chmod(0o700),
    "another owner": lambda: os.chown("/var/tmp", 1, 1),
    "a time": lambda: os.utime("/tmp", (1, 1)),
    "a file beside what is exposed": (EXPOSED.parent / "left").touch,
    "a mode on the way to what is exposed": lambda: EXPOSED.parent.chmod(0o711),
}


def enter_a_cell() -> namespaces.Inside:
    namespaces.separate(has_network=True, in_user_namespace=False)
    inside = namespaces.Inside(namespaces.Furniture("/usr", (str(EXPOSED),)))
    inside.furnish()
    return inside


@pytest.fixture
def exposed() -> object:
    EXPOSED.mkdir(parents=True)
    yield
    for folder in (EXPOSED, *EXPOSED.parents[:2]):
        folder.rmdir()


@pytest.mark.usefixtures("exposed")
def test_a_cell_in_which_nothing_was_written_is_fresh() -> None:
    def look() -> list[bool]:
        inside = enter_a_cell()
        with a_child(lambda: list(Path("/tmp").iterdir())):
            pass
        assert [path.name for path in EXPOSED.parent.iterdir()] == [EXPOSED.name]
        return [inside.is_fresh(), inside.is_fresh()]

    assert in_child(look) == [True, True]


@pytest.mark.usefixtures("exposed")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_cell_is_not_fresh_after(change: Callable[[], object]) -> None:
    def look() -> list[bool]:
        inside = enter_a_cell()
        change()
        before = inside.is_fresh()
        inside.refresh()
        return [before, inside.is_fresh()]

    assert in_child(look) == [False, True]
