"""What a worker sees of its children, in real processes."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from isoruntime.sandbox import _libc
from isoruntime.worker.leftovers import Processes
from tests.sandbox.children import in_child


def seen(prepare: Callable[[], Any]) -> Any:
    """Return what `look` says in a process that has prepared something."""

    def look() -> tuple[bool, int]:
        processes = Processes()
        assert processes.look() == (False, 0)
        prepare()
        return processes.look()

    return tuple(in_child(look))


def sleep_on() -> None:
    """Be there for a while, and keep nobody waiting for what this process has open."""
    os.closerange(0, 256)
    signal.alarm(10)
    signal.pause()


def sleeper() -> int:
    pid = os.fork()
    if pid == 0:
        sleep_on()
    return pid


def corpse() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def test_a_living_child_is_alive_and_a_dead_one_is_not() -> None:
    assert seen(sleeper) == (True, 0)
    assert seen(corpse) == (False, 1)
    assert seen(lambda: [sleeper(), corpse(), corpse()]) == (True, 2)


def test_the_look_leaves_a_dead_child_to_whoever_waits_for_it() -> None:
    def look_and_wait() -> int:
        pid = corpse()
        Processes().look()
        return os.waitpid(pid, 0)[0] == pid

    assert in_child(look_and_wait)


def test_a_child_of_another_thread_counts() -> None:
    def fork_elsewhere() -> None:
        thread = threading.Thread(target=sleeper)
        thread.start()
        thread.join()

    assert seen(fork_elsewhere) == (True, 0)


def test_children_count_that_nobody_is_told_of() -> None:
    """SIGCHLD may be ignored, and a child may be made that sends none."""

    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        sleeper()

    def clone() -> None:
        # `clone` with no flags, and no signal at its end.
        number = {"x86_64": 56, "aarch64": 220}.get(os.uname().machine)
        if number is None:
            return
        if _libc._libc.syscall(number, 0, 0, 0, 0, 0) == 0:
            sleep_on()

    assert seen(ignore) == (True, 0)
    if os.uname().machine in ("x86_64", "aarch64"):
        assert seen(clone) == (True, 0)


def test_without_a_descriptor_to_look_with_a_child_counts_as_alive() -> None:
    def use_up() -> None:
        sleeper()
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))

    assert seen(use_up) == (True, 0)


@pytest.mark.parametrize("others", [0, 2])
def test_the_functions_own_child_is_no_leftover(others: int) -> None:
    def look() -> tuple[bool, int]:
        processes = Processes()
        processes.keep(sleeper())
        for _ in range(others):
            sleeper()
        return processes.look()

    assert tuple(in_child(look)) == (others > 0, 0)
