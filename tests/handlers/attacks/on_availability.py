"""Attacks on everybody's share: processes, memory, descriptors, disk, time.

Each has an end of its own, so that it is harmless where nothing stops it; then it
returns how much it got. A bomb that was refused something first returns 0.
"""

# Attacks are system calls, as they are.
# ruff: noqa: D401, PTH108, PTH110, PTH123, PTH208, SIM115

from __future__ import annotations

import mmap
import os
import resource
import signal
import sys
import threading
import time
from typing import Any

from means import Scene, set_name

_MB = 1 << 20
#: Where a bomb stops by itself.
MOST_PROCESSES = 200
MOST_THREADS = 200
MOST_DESCRIPTORS = 5000
MOST_MB = 300
LONGEST_S = 4.0


def fork_bomb(scene: Scene) -> int:
    """Fork as often as it can be done."""
    count = 0
    end = time.monotonic() + LONGEST_S
    for _ in range(MOST_PROCESSES):
        try:
            pid = os.fork()
        except OSError as error:
            scene.failed.append(str(error))
            break
        if pid == 0:
            set_name("leftover")
            while time.monotonic() < end:
                time.sleep(0.2)
            os._exit(0)
        count += 1
    return _unless_refused(scene, count)


def thread_bomb(scene: Scene) -> int:
    """Start threads as long as that works."""
    threading.stack_size(64 * 1024)
    over = threading.Event()
    started = []
    for _ in range(MOST_THREADS):
        thread = threading.Thread(target=over.wait, args=(LONGEST_S,), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            scene.failed.append(str(error))
            break
        started.append(thread)
    _last()
    over.set()
    for thread in started:
        thread.join()
    return _unless_refused(scene, len(started))


def memory_bomb(scene: Scene) -> int:
    """Take memory until there is no more; return how many MB."""
    taken = []
    for _ in range(MOST_MB // 10):
        taken.append(b"\1" * (10 * _MB))
    _last()
    return len(taken) * 10


def memory_bomb_by_children(scene: Scene) -> int:
    """The same, a little in each of many processes."""
    for _ in range(6):
        if os.fork() == 0:
            set_name("leftover")
            kept = b"\1" * (MOST_MB // 6 * _MB)
            time.sleep(LONGEST_S)
            os._exit(len(kept) & 1)
    _last()
    return MOST_MB


def shared_memory_bomb(scene: Scene) -> int:
    """The same in memory that belongs to nobody's heap."""
    area = mmap.mmap(-1, MOST_MB * _MB)
    for at in range(0, MOST_MB * _MB, 4096):
        area[at] = 1
    _last()
    return MOST_MB


def memory_file_bomb(scene: Scene) -> int:
    """The same in files that are nowhere."""
    written = 0
    for number in range(MOST_MB // 50):
        fd = os.memfd_create(f"bomb{number}")
        try:
            written += os.write(fd, b"\1" * (50 * _MB)) // _MB
        except OSError as error:
            scene.failed.append(str(error))
            break
    _last()
    return _unless_refused(scene, written)


def _unless_refused(scene: Scene, count: int) -> int:
    return 0 if scene.failed else count


def _last() -> None:
    """Give whoever watches the time to see it."""
    time.sleep(1)


def descriptor_bomb(scene: Scene) -> int:
    """Open as much as can be opened."""
    opened: list[int] = []
    try:
        while len(opened) < MOST_DESCRIPTORS:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        scene.failed.append(str(error))
    for fd in opened:
        os.close(fd)
    return _unless_refused(scene, len(opened))


def huge_output(scene: Scene) -> None:
    """Print more than anybody wants to read."""
    line = "x" * 65535 + "\n"
    for _ in range(20 * 16):
        sys.stdout.write(line)


def stop_oneself(scene: Scene) -> None:
    """Neither die nor go on."""
    os.kill(os.getpid(), signal.SIGSTOP)


def ignore_everything(scene: Scene) -> None:
    """Be deaf to whoever asks politely, and stay."""
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    time.sleep(LONGEST_S * 2)


def raise_own_limits(scene: Scene) -> list[str]:
    """Lift what was imposed; return which limits could be lifted."""
    lifted = []
    for name in sorted(dir(resource)):
        if not name.startswith("RLIMIT_"):
            continue
        which = getattr(resource, name)
        soft, hard = resource.getrlimit(which)
        if hard in (resource.RLIM_INFINITY, 0) and name != "RLIMIT_CORE":
            continue
        try:
            resource.setrlimit(which, (soft, hard + 1))
        except (OSError, ValueError) as error:
            scene.failed.append(f"{name}: {error}")
            continue
        lifted.append(name)
    return lifted


def be_first(scene: Scene) -> bool:
    """Take the processor from all others."""
    scene.attempt("nice", lambda: os.setpriority(os.PRIO_PROCESS, 0, -20))
    if hasattr(os, "SCHED_FIFO"):
        first = os.sched_param(1)
        scene.attempt(
            "real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, first)
        )
        scene.attempt(
            "fair again",
            lambda: os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0)),
        )
    return os.getpriority(os.PRIO_PROCESS, 0) < 0 or "real time" in scene.worked


def lock_memory(scene: Scene) -> bool:
    """Keep memory from ever being used by somebody else."""
    from means import LIBC

    done = LIBC.mlockall(2) == 0
    size = 16 * _MB
    area = mmap.mmap(-1, size)
    area[:] = b"\1" * size
    locked = "VmLck:\t       0 kB" not in open("/proc/self/status").read()
    LIBC.munlockall()
    return done and locked


def outlive_an_oom(scene: Scene) -> bool:
    """Be the last one whom the kernel, short of memory, would end."""

    def change() -> None:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("-1000")

    def less() -> None:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("0")

    scene.attempt("never", change)
    scene.attempt("later", less)
    return int(open("/proc/self/oom_score_adj").read()) < 1000


def dump_core(scene: Scene) -> bool:
    """Have the kernel write all that is in memory to a file."""
    os.chdir(os.environ["TMPDIR"])
    scene.attempt("limit", lambda: resource.setrlimit(resource.RLIMIT_CORE, (-1, -1)))
    pid = os.fork()
    if pid == 0:
        os.abort()
    _, status = os.waitpid(pid, 0)
    names = [name for name in os.listdir(".") if name.startswith("core")]
    if os.WCOREDUMP(status):
        names.append("the kernel says so")
    for name in names:
        if os.path.exists(name):
            os.unlink(name)
    return bool(names)


def fill_the_disk(scene: Scene) -> int:
    """One file, larger than a function needs; return how many MB went in."""
    written = 0
    path = os.environ["TMPDIR"] + "/big"
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.posix_fallocate(fd, 0, 2 << 30)
        written = 2048
    except OSError as error:
        scene.failed.append(str(error))
    finally:
        os.close(fd)
        os.unlink(path)
    return written


ATTACKS: dict[str, Any] = {
    attack.__name__: attack
    for attack in (
        fork_bomb,
        thread_bomb,
        memory_bomb,
        memory_bomb_by_children,
        shared_memory_bomb,
        memory_file_bomb,
        descriptor_bomb,
        huge_output,
        stop_oneself,
        ignore_everything,
        raise_own_limits,
        be_first,
        lock_memory,
        outlive_an_oom,
        dump_core,
        fill_the_disk,
    )
}
