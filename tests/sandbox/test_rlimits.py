"""Limits hold for the process and its children, and are never raised."""

from __future__ import annotations

import errno
import os
import resource
from contextlib import ExitStack
from pathlib import Path

import pytest

from isoruntime.sandbox import identity, rlimits
from tests.sandbox.children import a_child, error_of, in_child

_LOOKED_AT = "CORE NOFILE FSIZE NPROC AS DATA SIGPENDING MEMLOCK"
LOOKED_AT = _LOOKED_AT.split()


def limits_after(
    strict: bool, max_processes: int | None = None, *, holds_pages: bool = False
) -> dict[str, object]:
    problems = rlimits.apply(strict=strict, holds_pages=holds_pages)
    if max_processes is not None:
        rlimits.limit_processes(max_processes)
    found = {
        name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        for name in LOOKED_AT
    }
    return {**found, "problems": problems}


@pytest.mark.parametrize(("strict", "files"), [(False, 4096), (True, 1024)])
def test_limits_are_set_for_good(strict: bool, files: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = in_child(lambda: limits_after(strict))
    assert found["problems"] == []
    assert found["CORE"] == [0, 0]
    expected = files if hard == resource.RLIM_INFINITY else min(files, hard)
    assert found["NOFILE"] == [expected, expected]
    assert found["SIGPENDING"][0] <= 1024
    for untouched in ("NPROC", "AS", "DATA"):
        before = resource.getrlimit(getattr(resource, f"RLIMIT_{untouched}"))
        assert found[untouched] == list(before)


def test_a_lower_limit_stays() -> None:
    def limit() -> dict[str, object]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (50, 60))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 2000))
        return limits_after(strict=False)

    found = in_child(limit)
    assert found["problems"] == []
    assert found["NOFILE"] == [60, 60]
    assert found["FSIZE"] == [2000, 2000]


@pytest.mark.parametrize(
    ("holds_pages", "kb"), [(False, 64), (True, 64 + 4096)], ids=["others", "held"]
)
@pytest.mark.parametrize("strict", [False, True])
def test_memory_that_is_held_has_its_room_beside_what_is_locked(
    strict: bool, holds_pages: bool, kb: int
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    found = in_child(lambda: limits_after(strict, holds_pages=holds_pages))
    assert found["problems"] == []
    expected = kb << 10 if hard == resource.RLIM_INFINITY else min(kb << 10, hard)
    assert found["MEMLOCK"] == [expected, expected]


def test_nobody_gets_room_for_held_memory_that_the_host_denies() -> None:
    def limit() -> dict[str, object]:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (50 << 10, 100 << 10))
        return limits_after(strict=False, holds_pages=True)

    found = in_child(limit)
    assert found["problems"] == []
    assert found["MEMLOCK"] == [100 << 10, 100 << 10]


def test_descriptors_run_out() -> None:
    def hoard() -> int:
        rlimits.apply(strict=True)
        count = 0
        while error_of(os.dup, 0) == 0:
            count += 1
        assert error_of(os.dup, 0) == errno.EMFILE
        return count

    assert in_child(hoard) < 1024


def test_a_file_has_an_end(tmp_path: Path) -> None:
    def write() -> list[int]:
        rlimits.apply(strict=True)
        with (tmp_path / "large").open("wb") as file:
            # Sparse: the limit is about the size, the disk stays empty.
            file.truncate(512 << 20)
            return [error_of(file.truncate, (512 << 20) + 1)]

    # Python ignores SIGXFSZ, so that it is an error and not a death.
    assert in_child(write) == [errno.EFBIG]


@pytest.mark.skipif(
    identity.available() != "", reason=identity.available() or "it can be had"
)
def test_processes_are_counted_for_a_user_of_its_own() -> None:
    def fork_on() -> int:
        rlimits.limit_processes(5)
        identity.take(30999)
        with ExitStack() as stack:
            for count in range(20):
                try:
                    stack.enter_context(a_child(lambda: None))
                except BlockingIOError:
                    return count
        return 20

    assert in_child(fork_on) == 4
