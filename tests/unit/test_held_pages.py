"""Pages held by a ring of this kernel, and forks that copy them, in processes of their own."""

from __future__ import annotations

import ctypes
import errno
import gc
import mmap
import os
import resource
import signal
import statistics
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import pytest

from isoruntime.sandbox import _libc, bpf, seccomp, syscalls
from isoruntime.sandbox.seccomp import SystemCalls
from isoruntime.zygote import held_pages
from isoruntime.zygote.held_pages import HeldPages
from tests.sandbox.children import error_of, expire, in_child
from tests.support import rings
from tests.support.memory import address_of, mapped_kb, private_memory

PAGE = mmap.PAGESIZE
SIZE = 600 * PAGE
#: Where every worker writes to.
PLACES = range(0, SIZE, 3 * PAGE)
#: Where few of them do.
RARE = range(PAGE, SIZE, 3 * PAGE)

#: Enough of them, after those that are not looked at.
BATCHES = held_pages._BATCHES_BEFORE + held_pages._WORKERS // 2
NOBODY = 65534

libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(scope="module", autouse=True)
def _there_are_rings() -> None:
    if reason := rings.missing():
        pytest.skip(reason)


def in_zygote(function: Callable[[], Any]) -> Any:
    """Return what `function` returns in a fork of this process that is like a zygote."""

    def run() -> Any:
        # In a worker the collector would write to all there is.
        gc.freeze()
        gc.disable()
        return function()

    return in_child(run)


class Ended(NamedTuple):
    """What is known of a worker in the end."""

    faults: int
    said: bytes


class Worker:
    """A fork of this process that is done with its work, and waits to be told to end."""

    def __init__(
        self, work: Callable[[], object], last: Callable[[], bytes] = lambda: b""
    ) -> None:
        """`last` makes what it says in the end."""
        self._said, say = os.pipe()
        told, self._tell = os.pipe()
        # Safe because there is one thread, and the fork ends below.
        self.pid = os.fork()
        if self.pid == 0:
            try:
                expire()
                work()
                os.write(say, b"x")
                os.read(told, 1)
                os.write(say, last())
            finally:
                # At once: what comes after it is its parent's.
                os._exit(0)
        os.close(say)
        os.close(told)
        assert os.read(self._said, 1) == b"x", "it has died at work"

    def end(self) -> Ended:
        os.write(self._tell, b"x")
        said = os.read(self._said, 64)
        os.close(self._tell)
        os.close(self._said)
        _, _, usage = os.wait4(self.pid, 0)
        return Ended(usage.ru_minflt, said)


def nothing() -> None:
    """Be a worker without work."""


def written_to(size: int = SIZE) -> mmap.mmap:
    """Return memory that has a content, and will not be put into huge pages."""
    memory = private_memory(size)
    with suppress(OSError):
        # There may be none at all.
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    memory.write(b"x" * size)
    return memory


def write(memory: mmap.mmap, places: Iterable[int] = PLACES, what: int = 1) -> None:
    for at in places:
        memory[at] = what


def look(
    pages: HeldPages, work: Callable[[int], object], most: int | None = None
) -> int:
    """Have it look at workers as a zygote does, until it has seen enough.

    `work` takes a worker's number. Return how many batches of two there were, at `most`
    that many.
    """
    batches = 0
    while pages._survey is not None and batches != most:
        workers = [Worker(partial(work, 2 * batches + one)) for one in (0, 1)]
        pages.look_at([worker.pid for worker in workers])
        for worker in workers:
            worker.end()
        batches += 1
    return batches


def copied_by_a_fork(memory: mmap.mmap) -> list[int]:
    """Return which pages a worker has to itself before it has written to any.

    So it is the kernel that says which of them are held, by what it did.
    """
    worker = Worker(nothing)
    words = len(memory) // PAGE
    pagemap = os.open(f"/proc/{worker.pid}/pagemap", os.O_RDONLY)
    said = os.pread(pagemap, 8 * words, 8 * (address_of(memory) // PAGE))
    os.close(pagemap)
    worker.end()
    there, alone = 1 << 63, 1 << 56
    found = enumerate(struct.unpack(f"{words}Q", said))
    return [at * PAGE for at, word in found if word & there and word & alone]


def test_a_sealed_ring_takes_buffers_once() -> None:
    def attempt() -> list[int]:
        ring = _libc.open_sealed_ring()
        memory = private_memory(SIZE)
        ranges = [(address_of(memory) + at, PAGE) for at in PLACES]
        hold = partial(error_of, _libc.hold_buffers, ring)
        return [hold(ranges), rings.held_kb(os.getpid()), hold(ranges)]

    held_kb = len(PLACES) * PAGE // 1024
    assert in_child(attempt) == [0, held_kb, errno.EBUSY]


def test_a_sealed_ring_takes_nothing_else() -> None:
    def attempt() -> list[int]:
        ring = _libc.open_sealed_ring()
        # Half of them there are so far. Nor can what is held be given up (1), or the
        # seal be broken (11 and 12).
        return [error_of(_libc._register, ring, what, None, 0) for what in range(1, 70)]

    errors = in_child(attempt)
    known = errors[:13]
    assert known == [errno.EACCES] * 13
    # Those that this kernel does not know.
    assert set(errors) <= {errno.EACCES, errno.EINVAL}


class Layout(NamedTuple):
    """Where in the memory of a ring with one entry something is."""

    submitted: int
    completed: int
    completions: int


def plain_ring() -> tuple[int, Layout]:
    parameters = ctypes.create_string_buffer(_libc._BYTES_OF_RING_PARAMETERS)
    ring = libc.syscall(_libc._SYS_IO_URING_SETUP, 1, parameters)
    assert ring >= 0
    # `struct io_uring_params`: the offsets of both queues come last.
    (submitted,) = struct.unpack_from("I", parameters, 44)
    completed, _, _, _, completions = struct.unpack_from("5I", parameters, 84)
    return ring, Layout(submitted, completed, completions)


def answers_to_nothing(ring: int, layout: Layout) -> list[int]:
    """Have a ring do the operation that does nothing, which is that of zeros alone."""
    memory = mmap.mmap(ring, PAGE)
    struct.pack_into("I", memory, layout.submitted, 1)
    entered = libc.syscall(syscalls.EVERYWHERE["io_uring_enter"], ring, 1, 0, 0, 0, 0)
    (count,) = struct.unpack_from("I", memory, layout.completed)
    # 16 bytes each, and the answer is in the middle.
    answers = [
        struct.unpack_from("i", memory, layout.completions + 16 * at + 8)[0]
        for at in range(count)
    ]
    return [entered, *answers]


def test_a_sealed_ring_runs_no_operation() -> None:
    def attempt() -> list[list[int]]:
        plain, layout = plain_ring()
        sealed = _libc.open_sealed_ring()
        return [answers_to_nothing(ring, layout) for ring in (plain, sealed)]

    # It is taken, and the answer is that it may not be done.
    assert in_child(attempt) == [[1, 0], [1, -errno.EACCES]]


def test_a_ring_that_cannot_be_sealed_is_not_left_open() -> None:
    """Kernels before 5.10 make rings and do not know the seal."""
    register = _libc._SYS_IO_URING_REGISTER

    def attempt() -> list[Any]:
        _libc.set_no_new_privileges()
        _libc.install_filter(
            bpf.assemble(
                [
                    bpf.load(0),
                    bpf.if_equal(register, then=1),
                    bpf.give(0x7FFF0000),
                    bpf.give(0x00050000 | errno.EINVAL),
                ]
            )
        )
        error = error_of(_libc.open_sealed_ring)
        return [error, HeldPages()._survey, rings.rings_of(os.getpid())]

    assert in_child(attempt) == [errno.EINVAL, None, []]


def test_a_fork_copies_what_workers_write_to() -> None:
    def make() -> list[Any]:
        pages, memory = HeldPages(), written_to()
        before = copied_by_a_fork(memory)
        batches = look(pages, lambda _: write(memory))
        return [before, batches, copied_by_a_fork(memory)]

    assert in_zygote(make) == [[], BATCHES, list(PLACES)]


def test_a_worker_is_interrupted_once_less_for_each_of_these_pages() -> None:
    def make() -> list[float]:
        pages, memory = HeldPages(), written_to()

        def faults() -> float:
            workers = [Worker(partial(write, memory)) for _ in range(5)]
            return statistics.median(worker.end().faults for worker in workers)

        before = faults()
        look(pages, lambda _: write(memory))
        return [before, faults()]

    before, after = in_zygote(make)
    assert before >= len(PLACES)
    assert after <= before - 0.8 * len(PLACES)


def test_what_one_process_writes_no_other_sees() -> None:
    def make() -> list[Any]:
        pages, memory = HeldPages(), written_to()
        look(pages, lambda _: write(memory))
        are_held = copied_by_a_fork(memory) == list(PLACES)

        def seen() -> bytes:
            return bytes({memory[at] for at in PLACES})

        write(memory, what=ord("z"))
        writer = Worker(partial(write, memory, what=ord("w")), seen)
        reader = Worker(nothing, seen)
        seen_here = seen()
        write(memory, what=ord("Z"))
        later = Worker(nothing, seen)
        said = [worker.end().said for worker in (writer, reader, later)]
        return [are_held, *(one.decode() for one in (seen_here, *said, seen()))]

    assert in_zygote(make) == [True, "z", "w", "z", "Z", "Z"]


def test_what_few_of_the_workers_write_to_is_shared_as_ever() -> None:
    def make() -> list[int]:
        pages, memory = HeldPages(), written_to()

        def work(number: int) -> None:
            write(memory)
            if number % 8 == 0:
                write(memory, RARE)

        look(pages, work)
        return copied_by_a_fork(memory)

    assert in_zygote(make) == list(PLACES)


def test_what_is_in_huge_pages_is_not_held() -> None:
    def make() -> list[Any]:
        before, size = mapped_kb("AnonHugePages"), 16 << 20
        pages, memory, huge = HeldPages(), written_to(), private_memory(size)
        with suppress(OSError):
            huge.madvise(mmap.MADV_HUGEPAGE)
        huge.write(b"x" * size)
        if mapped_kb("AnonHugePages") == before:
            return []

        def work(_: int) -> None:
            write(memory)
            write(huge)

        look(pages, work)
        return [
            copied_by_a_fork(huge),
            copied_by_a_fork(memory),
            mapped_kb("AnonHugePages") > before,
        ]

    found = in_zygote(make)
    if not found:
        pytest.skip("this kernel makes no huge page when it is asked to")
    assert found == [[], list(PLACES), True]


def test_no_more_is_held_than_a_fork_copies_in_short_time() -> None:
    most = held_pages.MOST_BYTES // PAGE

    def make() -> list[int]:
        pages, memory = HeldPages(), written_to(2 * most * PAGE)
        look(pages, lambda _: write(memory, range(0, len(memory), PAGE)))
        return [rings.held_kb(os.getpid()), len(copied_by_a_fork(memory))]

    held_kb, copied = in_zygote(make)
    assert held_kb == most * PAGE // 1024
    assert most / 2 < copied <= most


def test_memory_that_is_gone_meanwhile_harms_nobody() -> None:
    def make() -> list[Any]:
        pages, memory, other = HeldPages(), written_to(), written_to()

        def work(_: int) -> None:
            for one in (memory, other):
                if not one.closed:
                    write(one)

        look(pages, work, BATCHES - 2)
        other.close()
        batches = look(pages, work)
        # The kernel refuses all of it, or, where something else is there now, nothing.
        is_held = copied_by_a_fork(memory) == list(PLACES)
        return [batches, is_held, rings.rings_of(os.getpid())]

    batches, is_held, left = in_zygote(make)
    assert batches == 2
    assert len(left) == is_held


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "not known"])
def test_an_import_that_closes_the_ring_has_nothing_else_closed(is_known: bool) -> None:
    """What is opened next gets its number: rules that workers are to be put under, say."""

    def make() -> list[Any]:
        pages, memory = HeldPages(), written_to()
        ring = pages._ring
        os.close(ring)
        other = os.open("/", os.O_RDONLY)
        if is_known:
            look(pages, lambda _: write(memory))
        else:
            for _ in range(held_pages._MOST_BATCHES):
                pages.look_at([])
        is_open = error_of(os.fstat, other) == 0
        return [other == ring, is_open, pages._survey, copied_by_a_fork(memory)]

    assert in_zygote(make) == [True, True, None, []]


def test_where_there_are_no_rings_nothing_is_done_or_left_open() -> None:
    def make() -> list[Any]:
        _libc.set_no_new_privileges()
        seccomp.install(seccomp.program(SystemCalls(has_network=True)))
        before = os.listdir("/proc/self/fd")  # noqa: PTH208 - no folder stays open
        pages = HeldPages()
        pages.look_at([os.getpid()])
        after = os.listdir("/proc/self/fd")  # noqa: PTH208 - as above
        return [error_of(_libc.open_sealed_ring), before == after]

    if seccomp._this_machine() not in ("x86_64", "aarch64"):
        pytest.skip("no filter for this machine")
    assert in_child(make) == [errno.ENOSYS, True]


def become_nobody(may_lock: int) -> None:
    """Be somebody who may lock so many bytes, and look into processes of its own."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (may_lock, may_lock))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        _libc.set_dumpable(True)


# Some kernels count the ring itself as well, and then there is none without a page.
@pytest.mark.parametrize("may_lock", [0, 64 << 10], ids=["nothing", "too little"])
def test_where_the_memory_may_not_be_locked_the_ring_is_given_up(may_lock: int) -> None:
    def make() -> list[Any]:
        become_nobody(may_lock)
        pages, memory = HeldPages(), written_to()
        count = len(rings.rings_of(os.getpid()))
        batches = look(pages, lambda _: write(memory))
        pages.look_at([os.getpid()])
        left = rings.rings_of(os.getpid())
        return [count, batches, left, copied_by_a_fork(memory)]

    count, batches, left, copied = in_zygote(make)
    # Enough was known of them, and it could not be held.
    assert batches == count * BATCHES
    assert (left, copied) == ([], [])


def a_zombie() -> int:
    # Safe because there is one thread, and the fork ends at once.
    pid = os.fork()
    if pid == 0:
        # At once: it has nothing to do.
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


WAYS_TO_BE_FEW: dict[str, Callable[[], list[int]]] = {
    "none": list,
    # Higher than any number the kernel gives.
    "gone": lambda: [(1 << 22) + number for number in range(1, 50)],
    "dead": lambda: [a_zombie() for _ in range(3)],
    "two that stay": lambda: [Worker(written_to).pid for _ in range(2)],
}


@pytest.mark.parametrize("way", WAYS_TO_BE_FEW)
def test_where_too_few_workers_are_seen_the_ring_is_given_up(way: str) -> None:
    def make() -> list[Any]:
        pages, memory = HeldPages(), written_to()
        pids = WAYS_TO_BE_FEW[way]()
        for _ in range(held_pages._MOST_BATCHES - 1):
            pages.look_at(pids)
        before = rings.rings_of(os.getpid())
        pages.look_at(pids)
        after = rings.rings_of(os.getpid())
        pages.look_at(pids)
        found = [len(before), after, copied_by_a_fork(memory)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return found

    assert in_zygote(make) == [1, [], []]
