"""The cells: where workers live, used by one after the other, and their keepers."""

from __future__ import annotations

import os
import select
import time

from isoruntime.sandbox.identity import UIDS_PER_RUNTIME
from isoruntime.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from isoruntime.sandbox.walls import Cell, Walls
    from isoruntime.worker.birth import BecomeWorker
    from isoruntime.zygote.keeper import Keeper
    from isoruntime.zygote.worker_folders import WorkerFolders

#: A cell that nobody has needed for so long is given up.
IDLE_S: Final = 60.0


class Cells:
    """All cells of a zygote; each is taken by one worker at a time."""

    def __init__(
        self,
        walls: Walls,
        folders: WorkerFolders,
        kept: Collection[int],
        poll: select.poll,
    ) -> None:
        """`kept` are descriptors that whoever forks workers has to have.

        Keepers are to be heard through `poll`.
        """
        self._walls = walls
        self._folders = folders
        self._kept = kept
        self._poll = poll
        self._start_keeper: type[Keeper] | None = None
        if walls.policy.is_strict:
            # Nobody else's start is to wait for this import.
            from isoruntime.zygote.keeper import Keeper

            self._start_keeper = Keeper
        self._last_number = 0
        self._numbers: set[int] = set()
        #: the one that was used last is at the end, and used next
        self._free: list[Cell] = []
        #: how many of them nobody has needed since the last look
        self._idle = 0
        #: when to look for idle ones, by the monotonic clock; None while none is free
        self.look_at: float | None = None
        self._keepers: dict[int, Keeper] = {}  # number of the cell -> its keeper

    @property
    def keeper_pids(self) -> set[int]:
        """The processes that are no workers, and must not be taken for orphans."""
        return {keeper.pid for keeper in self._keepers.values()}

    def take(self) -> Cell:
        """Return a cell that nobody lives in, one used before if any."""
        while self._free:
            cell = self._free.pop()
            self._idle = min(self._idle, len(self._free))
            if not cell.folder or os.path.isdir(cell.folder):  # noqa: PTH112 - pathlib is slow
                return cell
            # Somebody tidied up among the temporary files.
            self.abandon(cell)
        number = self._next_number()
        self._numbers.add(number)
        return self._walls.make_cell(number)

    def _next_number(self) -> int:
        """Return a number that no other cell shares its user with, if there is one."""
        users = {number % UIDS_PER_RUNTIME for number in self._numbers}
        for _ in range(UIDS_PER_RUNTIME):
            self._last_number += 1
            if self._last_number % UIDS_PER_RUNTIME not in users:
                break
        return self._last_number

    def give_back(self, cell: Cell) -> None:
        """Keep a cell for another worker, unless it was abandoned."""
        if cell.number not in self._numbers:
            return
        self._free.append(cell)
        if self.look_at is None:
            self._idle = len(self._free)
            self.look_at = time.monotonic() + IDLE_S

    def give_up_idle(self) -> None:
        """Abandon what nobody has needed since the last look; to be called at `look_at`."""
        idle, self._free = self._free[: self._idle], self._free[self._idle :]
        for cell in idle:
            self.abandon(cell)
        self._idle = len(self._free)
        self.look_at = time.monotonic() + IDLE_S if self._free else None

    def keeper_of(self, cell: Cell, become_worker: BecomeWorker) -> Keeper:
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
            self._poll.register(keeper, select.POLLIN)
        return keeper

    def keeper_at(self, fd: int) -> Keeper | None:
        """Return the keeper that can be heard at this descriptor."""
        found = (one for one in self._keepers.values() if one.fileno() == fd)
        return next(found, None)

    def abandon(self, cell: Cell) -> None:
        """Give a cell up for good; the kernel ends what is still in it."""
        self._numbers.discard(cell.number)
        keeper = self._keepers.pop(cell.number, None)
        if keeper is not None:
            # What is closed would be found to be so at every poll.
            self._poll.unregister(keeper)
            keeper.close()
        if cell.ruleset >= 0:
            os.close(cell.ruleset)
        if cell.folder:
            self._folders.give_up(cell.folder)
