"""What a server holds at one moment: processes, descriptors, memory, files.

Taken twice, when nothing is in flight, two of these tell a leak from a habit.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from benchmarks.measure.servers import Server, wait_until

_SETTLE_S: Final = 15.0
_NUMBERS: Final = re.compile(r"\d+")


class Holdings(NamedTuple):
    """Everything counted at one moment."""

    zygotes: int
    workers: int
    front_end_fds: Counter[str]
    zygote_fds: Counter[str]
    front_end_rss_mb: float
    front_end_pss_mb: float
    zygote_rss_mb: float
    zombies: list[str]
    strays: list[str]
    files: list[str]
    folders: int


class Auditor:
    """Looks at a running runtime from outside."""

    def __init__(self, server: Server, code_dir: Path, workers: int) -> None:
        self._server = server
        self._workers = workers
        self._folders = (server.temp_dir, code_dir)
        self._files_before = self._files()

    def settle(
        self, reference: Holdings | None = None, within_s: float = _SETTLE_S
    ) -> Holdings:
        """Wait until it is quiet and holds no more than `reference`, or long enough."""
        found: list[Holdings] = []

        def is_quiet() -> bool:
            try:
                found[:] = [self.take()]
            except (psutil.Error, FileNotFoundError):
                return False
            return _is_settled(found[0], self._workers, reference)

        wait_until(is_quiet, within_s, every_s=0.1)
        return found[0] if found else self.take()

    def take(self) -> Holdings:
        """Count everything now.

        Raises:
            psutil.Error, FileNotFoundError: a process ended meanwhile.
        """
        front_end = self._server.process
        zygotes = [
            child
            for child in front_end.children()
            if any("zygote" in word for word in child.cmdline())
        ]
        workers = [worker for zygote in zygotes for worker in zygote.children()]
        known = {each.pid for each in (front_end, *zygotes, *workers)}
        below = front_end.children(recursive=True)
        strays = [*below, *self._server.left_over()]
        memory = front_end.memory_full_info()
        return Holdings(
            zygotes=len(zygotes),
            workers=len(workers),
            front_end_fds=descriptors(front_end.pid),
            zygote_fds=sum((descriptors(each.pid) for each in zygotes), Counter()),
            front_end_rss_mb=memory.rss / (1 << 20),
            front_end_pss_mb=memory.pss / (1 << 20),
            zygote_rss_mb=sum(each.memory_info().rss for each in zygotes) / (1 << 20),
            zombies=[named(each) for each in below if is_zombie(each)],
            strays=sorted({named(each) for each in strays if each.pid not in known}),
            files=[str(path) for path in self.files_left() if not path.is_dir()],
            # A worker may have one of its own, as long as it lives.
            folders=sum(path.is_dir() for path in self.files_left()),
        )

    def files_left(self) -> list[Path]:
        """Return files and folders that were not there at the beginning."""
        return sorted(self._files() - self._files_before)

    def _files(self) -> set[Path]:
        # `os.walk` does not mind that folders of ending workers vanish under it.
        return {
            Path(parent, name)
            for folder in self._folders
            for parent, folders, files in os.walk(folder)
            for name in (*folders, *files)
            if "__pycache__" not in (*Path(parent).parts, name)
        }


def _is_settled(now: Holdings, workers: int, reference: Holdings | None) -> bool:
    is_complete = now.zygotes == 1 and now.workers == workers
    is_quiet = is_complete and not now.zombies and not now.strays
    if reference is None:
        return is_quiet
    return (
        is_quiet
        and not more(reference.front_end_fds, now.front_end_fds)
        and not more(reference.zygote_fds, now.zygote_fds)
        and now.folders <= reference.folders
    )


def descriptors(pid: int) -> Counter[str]:
    """Return how many descriptors of each kind a process holds."""
    kinds: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)  # noqa: PTH115 - no path: `pipe:[123]`
        except OSError:
            continue
        kinds[_NUMBERS.sub("", target)] += 1
    return kinds


def more(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """Return what there is more of, such as `pipe:[] +3`; nothing if nothing is."""
    found = [
        f"{kind} {after.get(kind, 0) - before.get(kind, 0):+d}"
        for kind in sorted({*before, *after})
        if after.get(kind, 0) > before.get(kind, 0)
    ]
    return ", ".join(found)


def is_zombie(process: psutil.Process) -> bool:
    """Return whether it has ended and was not reaped."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def named(process: psutil.Process) -> str:
    """Return what a process is, in one line."""
    try:
        with process.oneshot():
            what = " ".join(process.cmdline())[:60] or process.name()
            return f"{process.pid} {process.status()} child of {process.ppid()}: {what}"
    except psutil.NoSuchProcess:
        return f"{process.pid} (gone)"
