"""Attacks on the front end, the zygote and other workers as processes."""

# Attacks are system calls, as they are.
# ruff: noqa: B023, D401, PTH123, S605

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import struct
import time
from typing import Any

from means import (
    LIBC,
    Scene,
    Vector,
    checked,
    memory_of,
    set_name,
    syscall,
)

_PTRACE_ATTACH, _PTRACE_SEIZE = 16, 0x4206
_F_SETOWN, _F_SETSIG = 8, 10
_PRIO_PROCESS, _PRIO_USER = 0, 2
_CLONE_PARENT = 0x8000
_PR_SET_CHILD_SUBREAPER = 36
VOW = b"UNTOUCHED" + b"-MEMORY"
BROKEN = b"TAMPERED!" + b"-MEMORY"


def _send(scene: Scene, pid: int, number: int) -> None:
    """Send a signal in every way there is."""
    if pid <= 1:
        return
    # For the calls that carry one: a siginfo that says it is from a queue.
    info = struct.pack("=iiiiii", number, 0, -1, 0, os.getpid(), os.getuid())
    buffer = ctypes.create_string_buffer(info, 128)
    scene.attempt("sigio", lambda: _send_as_owner(pid, number))
    scene.attempt("pidfd", lambda: _send_to_pidfd(pid, number))
    scene.attempt("queue", lambda: syscall("rt_sigqueueinfo", pid, number, buffer))
    scene.attempt("tgkill", lambda: syscall("tgkill", pid, pid, number))
    scene.attempt("kill", lambda: os.kill(pid, number))


def _send_to_pidfd(pid: int, number: int) -> None:
    fd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(fd, number)
    finally:
        os.close(fd)


def _send_as_owner(pid: int, number: int) -> None:
    """Have the kernel send it, to the owner of a pipe in which something arrives."""
    read_end, write_end = os.pipe()
    try:
        fcntl.fcntl(read_end, _F_SETOWN, pid)
        fcntl.fcntl(read_end, _F_SETSIG, number)
        flags = fcntl.fcntl(read_end, fcntl.F_GETFL)
        fcntl.fcntl(read_end, fcntl.F_SETFL, flags | os.O_ASYNC)
        os.write(write_end, b"!")
    finally:
        os.close(read_end)
        os.close(write_end)


def kill_front(scene: Scene) -> None:
    _send(scene, scene.front, signal.SIGKILL)


def kill_zygote(scene: Scene) -> None:
    _send(scene, scene.zygote, signal.SIGKILL)
    if os.getppid() > 1:
        _send(scene, os.getppid(), signal.SIGKILL)


def kill_sibling(scene: Scene) -> None:
    _send(scene, scene.neighbour, signal.SIGKILL)


def kill_by_sigio(scene: Scene) -> None:
    for pid in (scene.neighbour, scene.zygote, scene.front):
        if pid > 1:
            scene.attempt(f"sigio {pid}", lambda: _send_as_owner(pid, signal.SIGKILL))


def kill_from_a_child(scene: Scene) -> None:
    """A program that the handler runs is no better off than the handler."""
    pids = [scene.neighbour, scene.zygote, scene.front]
    words = " ".join(str(pid) for pid in pids if pid > 1)
    done = os.system(f"for pid in {words}; do kill -9 $pid; done 2>/dev/null")
    scene.failed.append(f"the shell said {done}")


def kill_all(scene: Scene) -> None:
    if scene.event["may_scan"]:
        scene.attempt("kill -1", lambda: os.kill(-1, signal.SIGKILL))


def killpg_front(scene: Scene) -> None:
    for pid in (scene.front, scene.zygote, scene.neighbour):
        group = scene.attempt("getpgid", lambda: os.getpgid(pid))
        # Only a group that is led by its victim holds nobody else.
        if group and group == pid:
            scene.attempt("killpg", lambda: os.killpg(group, signal.SIGKILL))


def stop_front(scene: Scene) -> None:
    _send(scene, scene.front, signal.SIGSTOP)


def stop_zygote(scene: Scene) -> None:
    _send(scene, scene.zygote, signal.SIGSTOP)


def stop_sibling(scene: Scene) -> None:
    _send(scene, scene.neighbour, signal.SIGSTOP)


def hang_up_front(scene: Scene) -> None:
    """The signals it listens to: it would drain, and refuse callers."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        _send(scene, scene.front, number)


def _trace(scene: Scene, pid: int) -> None:
    if pid <= 1:
        return
    scene.attempt("seize", lambda: syscall("ptrace", _PTRACE_SEIZE, pid, 0, 0))
    scene.attempt("attach", lambda: syscall("ptrace", _PTRACE_ATTACH, pid, 0, 0))


def ptrace_front(scene: Scene) -> None:
    _trace(scene, scene.front)


def ptrace_zygote(scene: Scene) -> None:
    _trace(scene, scene.zygote)


def ptrace_sibling(scene: Scene) -> None:
    _trace(scene, scene.neighbour)


def _overwrite(scene: Scene, pid: int) -> int:
    changed = 0

    def through_proc() -> None:
        nonlocal changed
        fd = os.open(f"/proc/{pid}/mem", os.O_RDWR)
        try:
            for start, data in memory_of(pid):
                at = data.find(VOW)
                while at >= 0:
                    os.pwrite(fd, BROKEN, start + at)
                    changed += 1
                    at = data.find(VOW, at + 1)
        finally:
            os.close(fd)

    def through_the_call() -> None:
        nonlocal changed
        new = ctypes.create_string_buffer(BROKEN)
        # Our own memory tells where it is in theirs.
        for start, data in memory_of("self"):
            at = data.find(VOW)
            while at >= 0:
                local = Vector(ctypes.addressof(new), len(BROKEN))
                remote = Vector(start + at, len(BROKEN))
                syscall(
                    "process_vm_writev",
                    pid,
                    ctypes.byref(local),
                    1,
                    ctypes.byref(remote),
                    1,
                    0,
                )
                changed += 1
                at = data.find(VOW, at + 1)

    scene.attempt("mem", through_proc)
    scene.attempt("process_vm_writev", through_the_call)
    return changed


def write_memory_of_sibling(scene: Scene) -> int:
    return _overwrite(scene, scene.neighbour)


def write_memory_of_zygote(scene: Scene) -> int:
    return _overwrite(scene, scene.zygote)


class _Limits(ctypes.Structure):
    _fields_ = (("soft", ctypes.c_uint64), ("hard", ctypes.c_uint64))


def _limit(scene: Scene, pid: int) -> None:
    def change() -> None:
        given = _Limits(7, 7)
        which = int(resource.RLIMIT_NOFILE)
        checked(LIBC.prlimit(pid, which, ctypes.byref(given), None), "prlimit")

    if pid > 1:
        scene.attempt("prlimit", change)


def prlimit_sibling(scene: Scene) -> None:
    _limit(scene, scene.neighbour)


def prlimit_front(scene: Scene) -> None:
    _limit(scene, scene.front)
    _limit(scene, scene.zygote)


def _schedule(scene: Scene, pid: int) -> None:
    if pid <= 1:
        return
    one = {max(os.sched_getaffinity(0))}
    idle = os.sched_param(0)
    scene.attempt("affinity", lambda: os.sched_setaffinity(pid, one))
    scene.attempt("scheduler", lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, idle))


def sched_sibling(scene: Scene) -> None:
    _schedule(scene, scene.neighbour)


def sched_front(scene: Scene) -> None:
    _schedule(scene, scene.front)
    _schedule(scene, scene.zygote)


def nice_sibling(scene: Scene) -> None:
    for pid in (scene.neighbour, scene.zygote, scene.front):
        if pid > 1:
            scene.attempt(
                "nice",
                lambda: os.setpriority(_PRIO_PROCESS, pid, 15),
            )


def nice_user(scene: Scene) -> None:
    """All of this user's processes at once; only where no others are this user's."""
    if scene.event["may_scan"]:
        scene.attempt(
            "nice by user", lambda: os.setpriority(_PRIO_USER, os.getuid(), 15)
        )


def ioprio_sibling(scene: Scene) -> None:
    idle = 3 << 13
    for pid in (scene.neighbour, scene.front):
        if pid > 1:
            scene.attempt("ioprio", lambda: syscall("ioprio_set", 1, pid, idle))


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def oom_score_front(scene: Scene) -> None:
    for pid in (scene.front, scene.zygote):
        if pid > 1:
            scene.attempt("oom", lambda: _write(f"/proc/{pid}/oom_score_adj", "1000"))


def daemon_escapes(scene: Scene) -> None:
    """Leave a process behind: forked twice, a session of its own, deaf, nobody's child."""
    LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    told_r, told_w = os.pipe()
    first = os.fork()
    if first == 0:
        os.setsid()
        second = os.fork()
        if second == 0:
            _be_deaf()
        os.write(told_w, b"%d" % second)
        os._exit(0)
    os.waitpid(first, 0)
    os.read(told_r, 20)


def sibling_by_clone(scene: Scene) -> None:
    """Leave a process behind that has never been a descendant: a child of our parent."""
    flags = _CLONE_PARENT | signal.SIGCHLD
    pid = scene.attempt("clone", lambda: syscall("clone", flags, 0, 0, 0, 0))
    if pid == 0:
        _be_deaf()


def kill_oneself_and_stay(scene: Scene) -> None:
    """Leave a process behind and be gone before anybody looks."""
    daemon_escapes(scene)
    os.kill(os.getpid(), signal.SIGKILL)


def _be_deaf() -> None:
    set_name("leftover")
    pr_set_pdeathsig = 1
    LIBC.prctl(pr_set_pdeathsig, 0, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.closerange(0, 1024)
    time.sleep(20)
    os._exit(0)


ATTACKS: dict[str, Any] = {
    attack.__name__: attack
    for attack in (
        kill_front,
        kill_zygote,
        kill_sibling,
        kill_by_sigio,
        kill_from_a_child,
        kill_all,
        killpg_front,
        stop_front,
        stop_zygote,
        stop_sibling,
        hang_up_front,
        ptrace_front,
        ptrace_zygote,
        ptrace_sibling,
        write_memory_of_sibling,
        write_memory_of_zygote,
        prlimit_sibling,
        prlimit_front,
        sched_sibling,
        sched_front,
        nice_sibling,
        nice_user,
        ioprio_sibling,
        oom_score_front,
        daemon_escapes,
        sibling_by_clone,
        kill_oneself_and_stay,
    )
}
