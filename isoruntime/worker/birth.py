"""What a worker is born with, beside the handlers."""

from typing import NamedTuple

from isoruntime.sandbox.walls import Cell, Walls
from isoruntime.worker.pipes import WorkerEnds


class Birth(NamedTuple):
    """What the process that is to be a worker hands to itself."""

    ends: WorkerEnds
    walls: Walls
    cell: Cell
    #: who must not be outlived
    parent: int
    #: for temporary files, and removed after the worker's end; empty if there is none
    folder: str
    #: descriptors that user code opened when it was imported
    users_fds: frozenset[int]
