"""Pages that a fork copies at once, because every worker writes to them.

After a fork parent and child share their memory, and whoever writes to a page is
interrupted and given a copy. The interruption takes longer than the copy. A page that
some device may be writing to is not shared: the kernel copies it during the fork, and
neither parent nor child is interrupted for it. So the pages that workers write to are
registered as buffers of an io_uring that nothing is ever read into. It is sealed before
any code of the user's is there (Linux 5.10), so that nobody can do more with it than that.

Which pages these are is different for every function. So some of its first workers are
looked at while they are at work: a page that they have written to is theirs alone
(proc(5), pagemap).
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from itertools import groupby

from isoruntime.sandbox import _libc
from isoruntime.typed import TYPE_CHECKING, Final
from isoruntime.zygote.own_memory import own_mappings_in_small_pages

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from isoruntime.zygote.own_memory import Mapping

#: Until then the zygote does some things for the first time, which moves what it has.
_BATCHES_BEFORE: Final = 2
#: So many workers are looked at after a batch, each for a third of a millisecond.
_WORKERS_A_BATCH: Final = 2
#: Enough to know.
_WORKERS: Final = 40
#: Where so many batches have not shown enough workers, later ones will not.
_MOST_BATCHES: Final = 400
#: Copied by the fork a page takes half of what it takes later. Some workers are looked at
#: long before they have written to all that they will; hence less than half of them.
_WRITTEN_BY: Final = 0.25
#: More would make a fork long.
MOST_BYTES: Final = 4 << 20

# proc(5), pagemap: 64 bits for each page, some of which say this.
_BYTES_A_PAGE: Final = 8
_PRESENT: Final = 1 << 63
_OF_A_FILE: Final = 1 << 61
_ALONE: Final = 1 << 56
_WRITTEN: Final = _PRESENT | _ALONE
_ASKED: Final = _WRITTEN | _OF_A_FILE


class HeldPages:
    """Has forks copy the pages that workers write to, once these are known."""

    def __init__(self) -> None:
        """To be made before any code of the user's runs, and before the walls."""
        self._survey: Survey | None = None
        try:
            self._ring = _libc.open_sealed_ring()
        except OSError:
            # Forks stay what they were.
            return
        self._survey = Survey()

    def look_at(self, pids: Iterable[int]) -> None:
        """Look at some of the workers, the oldest first; to be called after each batch."""
        survey = self._survey
        if survey is None:
            return
        try:
            survey.look_at(pids)
            if not survey.is_over:
                return
            _libc.hold_buffers(self._ring, survey.ranges())
        except OSError:
            # No /proc, too few workers, or so much memory may not be locked.
            self._give_up()
        self._survey = None

    def _give_up(self) -> None:
        # An import may have closed it, and its number be that of a worker's rules by now.
        try:
            if "io_uring" in os.readlink(f"/proc/self/fd/{self._ring}"):  # noqa: PTH115 - pathlib is slow to import
                os.close(self._ring)
        except OSError:
            # Closed, or there is no telling: what holds nothing may stay open.
            return


class Survey:
    """Finds out which pages workers write to."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._batches = 0
        self._workers = 0
        self._seen: set[int] = set()
        #: number of a page -> by how many workers it was written to
        self._times: Counter[int] = Counter()
        self._mappings: list[Mapping] = []

    @property
    def is_over(self) -> bool:
        """Whether enough was seen, or enough was tried."""
        return self._workers >= _WORKERS or self._batches >= _MOST_BATCHES

    def look_at(self, pids: Iterable[int]) -> None:
        """Look at some workers that have not been looked at, the first of them first.

        Raises:
            OSError: there is no /proc.
        """
        self._batches += 1
        if self._batches <= _BATCHES_BEFORE:
            return
        if not self._mappings:
            # To hold a part of a huge page would be to hold, and copy, all of it.
            self._mappings = own_mappings_in_small_pages()
        most = self._workers + _WORKERS_A_BATCH
        for pid in pids:
            if pid in self._seen:
                continue
            self._seen.add(pid)
            pages = self._written_by(pid)
            self._times.update(pages)
            self._workers += bool(pages)
            if self._workers == most:
                return

    def ranges(self) -> list[tuple[int, int]]:
        """Return the address and length of what many have written to.

        Raises:
            OSError: ENODATA, it is not known.
        """
        if self._workers < _WORKERS:
            raise OSError(errno.ENODATA, "too few workers could be looked at")
        least = _WRITTEN_BY * self._workers
        most = self._times.most_common(MOST_BYTES // self._page)
        pages = sorted(page for page, times in most if times >= least)
        return [
            (first * self._page, count * self._page)
            for first, count in _in_a_row(pages)
        ]

    def _written_by(self, pid: int) -> list[int]:
        """Return the numbers of pages that a worker has to itself; none if it is gone."""
        try:
            pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
        except OSError:
            return []
        found: list[int] = []
        try:
            for start, end, _ in self._mappings:
                first, count = start // self._page, (end - start) // self._page
                length, at = _BYTES_A_PAGE * count, _BYTES_A_PAGE * first
                said = os.pread(pagemap, length, at)
                if len(said) < length:
                    # It has ended meanwhile.
                    return []
                pages = enumerate(memoryview(said).cast("Q"), first)
                found += [page for page, word in pages if word & _ASKED == _WRITTEN]
        except OSError:
            return []
        finally:
            os.close(pagemap)
        return found


def _in_a_row(pages: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first of each row of consecutive numbers, and how many it has."""
    rows = groupby(enumerate(pages), key=lambda pair: pair[1] - pair[0])
    return [(row[0][1], len(row)) for row in (list(pairs) for _, pairs in rows)]
