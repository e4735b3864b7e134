"""The watchdog: what every worker's tree takes of memory and processes, sampled.

Resident memory of all processes of a tree is added up from `statm`, which is cheap
and counts pages twice that parent and child share. Only when that sum is over the
limit, higher than it was before, or was not looked into for a while, are the shares
looked up (`smaps_rollup`), where each page counts once; pages of files are left out, since
the kernel can drop them. A tree over its limit is to be killed: nobody but the culprit
pays.

A sample is taken every `INTERVAL_S` while anything is being invoked, more slowly
with very many workers so that sampling never takes more than a few per cent of a
core. So a limit is enforced within about 25 ms of being passed, not at the byte.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from isoruntime.typed import Final, NamedTuple
from isoruntime.zygote import tree

INTERVAL_S: Final = 0.025
#: What sampling one worker takes of an interval at most.
_SHARE_S: Final = 0.001
#: Shares are dear, and a server beside its worker has some all the time.
_SAMPLES_PER_LOOK: Final = 10
_PAGE_KB: Final = os.sysconf("SC_PAGE_SIZE") // 1024


class Excess(NamedTuple):
    """A tree that takes more than it may."""

    pid: int
    #: `memory` or `processes`
    of: str
    #: KiB of memory, or the number of processes and threads
    used: int


class Watchdog:
    """Samples trees and remembers the peak of each; limits of 0 mean none."""

    __slots__ = (
        "_max_processes",
        "_memory_limit_kb",
        "_peaks_kb",
        "_samples",
        "_sums_kb",
    )

    def __init__(self, memory_limit_mb: int, max_processes: int) -> None:
        self._memory_limit_kb = memory_limit_mb * 1024
        self._max_processes = max_processes
        self._peaks_kb: dict[int, int] = {}
        #: the highest sum of `statm` whose shares were looked up
        self._sums_kb: dict[int, int] = {}
        self._samples = 0

    def interval_s(self, workers: int) -> float:
        """Return the time between two samples of so many workers."""
        return max(INTERVAL_S, workers * _SHARE_S)

    def sample(self, pids: Iterable[int]) -> list[Excess]:
        """Look at the trees below these processes; return those over a limit."""
        found = []
        self._samples += 1
        for pid in pids:
            excess = self._look(pid)
            if excess is not None:
                found.append(excess)
        return found

    def forget(self, pid: int) -> int:
        """Drop what is known of a tree; return its peak in KiB."""
        self._sums_kb.pop(pid, None)
        return self._peaks_kb.pop(pid, 0)

    def _look(self, pid: int) -> Excess | None:
        members = [pid, *tree.descendants_of(pid)]
        if self._max_processes:
            tasks = sum(map(_count_threads, members))
            if tasks > self._max_processes:
                return Excess(pid, "processes", tasks)
        used_kb = sum(map(_resident_kb, members))
        limit_kb = self._memory_limit_kb
        is_over = bool(limit_kb) and used_kb > limit_kb
        has_grown = used_kb > self._sums_kb.get(pid, 0)
        # What is shared no longer, since one of them wrote to it, does not show in the sum.
        is_due = len(members) > 1 and self._samples % _SAMPLES_PER_LOOK == 0
        if not (is_over or has_grown or is_due):
            return None
        self._sums_kb[pid] = used_kb
        if is_over or len(members) > 1:
            used_kb = sum(map(_share_kb, members))
        self._peaks_kb[pid] = max(used_kb, self._peaks_kb.get(pid, 0))
        if limit_kb and used_kb > limit_kb:
            return Excess(pid, "memory", used_kb)
        return None


def _count_threads(pid: int) -> int:
    try:
        # A folder has a link from each folder within it, and here one is a thread.
        return os.stat(f"/proc/{pid}/task").st_nlink - 2  # noqa: PTH116 - pathlib is slow
    except OSError:
        return 0


def _resident_kb(pid: int) -> int:
    data = tree.read_once(f"/proc/{pid}/statm")
    return int(data.split(None, 2)[1]) * _PAGE_KB if data else 0


def _private_kb(pid: int) -> int:
    """Return the memory that is of no file, in full though it may be shared."""
    lines = tree.read_once(f"/proc/{pid}/status").splitlines()
    parts = dict(line.split(None, 2)[:2] for line in lines if line.startswith(b"Rss"))
    return int(parts.get(b"RssAnon:", 0)) + int(parts.get(b"RssShmem:", 0))


def _share_kb(pid: int) -> int:
    """Return what a process takes, each shared page divided by its users."""
    data = tree.read_once(f"/proc/{pid}/smaps_rollup")
    if not data:
        # It has ended, or nobody may look so closely at what is not dumpable.
        return _private_kb(pid)
    parts = {
        name: int(rest.split(None, 1)[0])
        for name, _, rest in (line.partition(b":") for line in data.splitlines()[1:])
    }
    if b"Pss_Anon" in parts:
        swapped = parts.get(b"SwapPss", 0)
        return parts[b"Pss_Anon"] + parts.get(b"Pss_Shmem", 0) + swapped
    return parts.get(b"Pss", 0)
