"""The cells: where workers live, used by one after the other, and their keepers."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from isoruntime.sandbox.walls import Cell, Walls
    from isoruntime.worker.birth import BecomeWorker
    from isoruntime.zygote.keeper import Keeper


class Cells:
    """All cells of a zygote; each is taken by one worker at a time."""

    def __init__(self, walls: Walls, kept: Collection[int]) -> None:
        """`kept` are descriptors that whoever forks workers has to have."""
        self._walls = walls
        self._kept = kept
        self._start_keeper: type[Keeper] | None = None
        if walls.policy.is_strict:
            # Nobody else's start is to wait for this import.
            from isoruntime.zygote.keeper import Keeper

            self._start_keeper = Keeper
        self._made = 0
        self._free: list[Cell] = []
        self._keepers: dict[int, Keeper] = {}  # number of the cell -> its keeper

    @property
    def keeper_pids(self) -> set[int]:
        """The processes that are no workers, and must not be taken for orphans."""
        return {keeper.pid for keeper in self._keepers.values()}

    def take(self) -> Cell:
        """Return a cell that nobody lives in, one used before if any."""
        while self._free:
            cell = self._free.pop()
            if not cell.folder or os.path.isdir(cell.folder):  # noqa: PTH112 - pathlib is slow
                return cell
            # Somebody tidied up among the temporary files.
            self.abandon(cell)
        self._made += 1
        return self._walls.make_cell(self._made)

    def give_back(self, cell: Cell) -> None:
        """Keep a cell for another worker, unless it has lost its keeper."""
        if not self._walls.policy.is_strict or cell.number in self._keepers:
            self._free.append(cell)

    def keeper_of(
        self, cell: Cell, become_worker: BecomeWorker, poll: select.poll
    ) -> Keeper:
        """Return the keeper of a cell, started if there is none.

        What it forks goes on with `become_worker`.

        Raises:
            KeeperFailed: the host does not give us the namespaces.
        """
        keeper = self._keepers.get(cell.number)
        if keeper is None:
            assert self._start_keeper is not None
            keeper = self._start_keeper(self._walls, cell, become_worker, self._kept)
            self._keepers[cell.number] = keeper
            poll.register(keeper, select.POLLIN)
        return keeper

    def keeper_at(self, fd: int) -> Keeper | None:
        """Return the keeper that can be heard at this descriptor."""
        found = (one for one in self._keepers.values() if one.fileno() == fd)
        return next(found, None)

    def abandon(self, cell: Cell) -> None:
        """Give a cell up for good; the kernel ends what is still in it."""
        keeper = self._keepers.pop(cell.number, None)
        if keeper is not None:
            keeper.close()
        if cell.ruleset >= 0:
            os.close(cell.ruleset)
