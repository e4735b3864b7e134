"""Start a program as a privilege level has it: python launch.py OPTIONS -- ARGV...

    --apart                in process, mount, IPC and host-name namespaces of its own, so
                           that an attack can meet nobody but the program it is made for
    --uid N                as this user and group, without supplementary groups
    --capabilities A,B     with these at most (numbers); "none", or "all" of ours
    --docker               as inside a container: masked /proc, no cgroups
    --filter               with system calls refused as Docker's default profile does
    --variables FILE       with the variables of this JSON file besides, which is removed:
                           so that no process but the program itself ever has them

With --apart it is process 1 of the namespace, as the init of a container: it starts the
program, reaps, and ends as the program did; with 99 if anything outlived that. It runs
before any of ours, and stays outside of what is tested.
"""

# Runs before anything is imported that is not needed.
# ruff: noqa: PTH108, PTH123, S606

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import signal
import struct
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWUTS, NEWIPC = 0x20000, 0x4000000, 0x8000000
NEWUSER, NEWPID = 0x10000000, 0x20000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 23, 24, 22, 38
PR_SET_PDEATHSIG = 1
#: Whoever of the program's is still there after this has outlived it.
OUTLIVED_S = 3.0
OUTLIVED = 99

READ_ONLY = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/sys")
EMPTY = ("/proc/acpi", "/proc/scsi", "/sys/firmware", "/sys/fs/cgroup")
NOTHING = ("/proc/kcore", "/proc/keys", "/proc/timer_list")

#: What Docker's default profile refuses without CAP_SYS_ADMIN, by architecture:
#: unshare setns mount umount2 pivot_root keyctl add_key request_key bpf
#: perf_event_open userfaultfd, the new mount calls, io_uring. clone3 is refused
#: as unknown, so that libc falls back to clone, whose flags can be judged.
REFUSED = {
    "x86_64": [272, 308, 165, 166, 155, 250, 248, 249, 321, 298, 323],
    "aarch64": [97, 268, 40, 39, 41, 219, 217, 218, 280, 241, 282],
}
REFUSED_EVERYWHERE = [425, 426, 427, 428, 429, 430, 431, 432, 433, 442]
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
NEW_ANYTHING = 0x7E020000
EPERM, ENOSYS = 1, 38


def call(result: int, what: str) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise SystemExit(f"launch: {what}: {os.strerror(errno)}")


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    encoded = kind.encode() if kind else None
    done = LIBC.mount(
        source.encode(), target.encode(), encoded, ctypes.c_ulong(flags), None
    )
    call(done, f"mount {target}")


def go_apart() -> None:
    flags = NEWPID | NEWNS | NEWIPC | NEWUTS
    uid, gid = os.getuid(), os.getgid()
    if uid != 0:
        flags |= NEWUSER
    call(LIBC.unshare(flags), "unshare")
    if uid != 0:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    pid = os.fork()
    if pid:
        signal.signal(signal.SIGTERM, lambda *_: None)
        _, status = os.waitpid(pid, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    mount("proc", "/proc", "proc", 0)


def mask() -> None:
    for path in filter(os.path.exists, EMPTY):
        mount("tmpfs", path, "tmpfs", MS_RDONLY)
    for path in filter(os.path.exists, READ_ONLY):
        mount(path, path, None, MS_BIND | MS_REC)
        mount(path, path, None, MS_BIND | MS_REMOUNT | MS_RDONLY)
    for path in filter(os.path.exists, NOTHING):
        mount(os.devnull, path, None, MS_BIND)


def limit_capabilities(wanted: set[int]) -> None:
    for capability in range(64):
        held = LIBC.prctl(PR_CAPBSET_READ, capability, 0, 0, 0)
        if held == 1 and capability not in wanted and os.getuid() == 0:
            call(LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "bounding set")


def keep_capabilities(wanted: set[int]) -> None:
    header = struct.pack("=Ii", 0x20080522, 0)
    data = ctypes.create_string_buffer(24)
    call(LIBC.capget(header, data), "capget")
    held_low, _, _, held_high, _, _ = struct.unpack("=6I", data.raw)
    bits = sum(1 << one for one in wanted) & (held_low | held_high << 32)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    call(LIBC.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)), "capset")


def refuse_as_docker_does() -> None:
    machine = platform.machine()
    if machine not in REFUSED:
        raise SystemExit(f"launch: no filter for {machine}")

    def op(code: int, yes: int, no: int, k: int) -> bytes:
        return struct.pack("=HBBI", code, yes, no, k)

    load, equal, anyset, give_back = 0x20, 0x15, 0x45, 0x06
    allow = op(give_back, 0, 0, 0x7FFF0000)
    program = op(load, 0, 0, 0)
    for number in REFUSED[machine] + REFUSED_EVERYWHERE:
        program += op(equal, 0, 1, number) + op(give_back, 0, 0, 0x50000 | EPERM)
    program += op(equal, 0, 1, CLONE3) + op(give_back, 0, 0, 0x50000 | ENOSYS)
    program += op(equal, 0, 3, CLONE[machine]) + op(load, 0, 0, 16)
    program += op(anyset, 0, 1, NEW_ANYTHING) + op(give_back, 0, 0, 0x50000 | EPERM)
    program += allow

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    if os.getuid() != 0:
        LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    argument = Program(len(program) // 8, program)
    done = LIBC.prctl(PR_SET_SECCOMP, 2, ctypes.byref(argument), 0, 0)
    call(done, "seccomp")


def become(uid: int) -> None:
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    elif os.getuid() != uid:
        raise SystemExit("launch: only root can become somebody else")


def be_init(program: int) -> None:
    """Reap until the program has ended and nobody else is left."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    signal.signal(signal.SIGTERM, lambda *_: os.kill(program, signal.SIGTERM))
    code, give_up_at = 0, None
    while give_up_at is None or time.monotonic() < give_up_at:
        try:
            pid, status = os.waitpid(-1, 0 if give_up_at is None else os.WNOHANG)
        except ChildProcessError:
            os._exit(code & 0xFF)
        if pid == program:
            code = os.waitstatus_to_exitcode(status)
            give_up_at = time.monotonic() + OUTLIVED_S
        elif pid == 0:
            signal.sigtimedwait([signal.SIGCHLD], 0.05)
    os._exit(OUTLIVED)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--uid", type=int)
    parser.add_argument("--capabilities", default="all")
    parser.add_argument("--docker", action="store_true")
    parser.add_argument("--filter", action="store_true")
    parser.add_argument("--variables")
    parser.add_argument("argv", nargs="+")
    return parser.parse_args()


def give_up(chosen: argparse.Namespace) -> None:
    """Leave to the program what its level has, and no more."""
    # A session of its own: what an attack does to its group stays there.
    os.setsid()
    if chosen.filter:
        # First: with its privileges a process may do so and yet gain privileges.
        refuse_as_docker_does()
    wanted = set(range(64))
    if chosen.capabilities != "all":
        words = chosen.capabilities.replace("none", "").split(",")
        wanted = {int(word) for word in words if word}
        limit_capabilities(wanted)
    if chosen.uid is not None:
        become(chosen.uid)
    elif chosen.capabilities != "all":
        keep_capabilities(wanted)


def main() -> None:
    chosen = options()
    variables = dict(os.environ)
    if chosen.variables:
        with open(chosen.variables) as file:
            variables.update(json.load(file))
        os.unlink(chosen.variables)
    if chosen.apart:
        go_apart()
    if chosen.docker:
        mask()
    os.chdir("/")
    program = os.fork() if chosen.apart else 0
    if program:
        be_init(program)
    give_up(chosen)
    os.execvpe(chosen.argv[0], chosen.argv, variables)


if __name__ == "__main__":
    sys.exit(main())
