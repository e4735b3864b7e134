"""The reaper: no zombie and no orphan stays with the front end.

In a container the front end is often PID 1, and everywhere it is a child subreaper:
what a killed zygote leaves behind becomes a child of ours. Nobody else waits for
these, and nobody else would end them.
"""

from __future__ import annotations

import os

from isoruntime.typed import TYPE_CHECKING
from isoruntime.zygote import tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isoruntime.loop import Loop
    from isoruntime.pool.supervisor import Supervisor

#: After a zygote's death its descendants reach us in several steps, as each of their
#: own parents is killed.
_SWEEPS_S = (0.0, 0.01, 0.05, 0.2)


class Reaper:
    """Collects dead children that are no zygotes, and ends living ones."""

    def __init__(self, loop: Loop, supervisors: Sequence[Supervisor]) -> None:
        self._loop = loop
        self._supervisors = supervisors
        for supervisor in supervisors:
            supervisor.on_zygote_died = self._sweep_soon

    def start(self) -> None:
        """Have orphans of the zygote's come to us."""
        # ctypes takes a while to import, and nothing is served later for it: the
        # zygote is not there yet.
        from isoruntime.sandbox import _libc

        _libc.become_subreaper()

    def _strangers(self) -> list[int]:
        zygotes = {pid for one in self._supervisors for pid in one.pids}
        return [pid for pid in tree.children_of(os.getpid()) if pid not in zygotes]

    def reap(self) -> None:
        """Collect every dead child that is no zygote."""
        for pid in self._strangers():
            _collect(pid)

    def _sweep_soon(self) -> None:
        for delay_s in _SWEEPS_S:
            self._loop.call_later(delay_s, self.sweep)

    def sweep(self) -> None:
        """End every child that is no zygote, and all it started."""
        for pid in self._strangers():
            tree.kill_tree(pid)
            _collect(pid)

    def reap_all(self) -> None:
        """At the end: wait for every child, all of which have been killed."""
        tree.end_children()


def _collect(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
