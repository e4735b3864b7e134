"""The seccomp filter's bytes, run by an interpreter of classic BPF for both machines.

What a kernel makes of them is in `tests/sandbox/test_seccomp_on_the_kernel.py`.
"""

from __future__ import annotations

import errno
import re
import struct
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

from isoruntime.sandbox import bpf, seccomp, syscalls
from isoruntime.sandbox.seccomp import SystemCalls, UnknownMachine, program

ALLOW = 0x7FFF0000
KILL = 0x80000000
EPERM = 0x50000 | errno.EPERM
ENOSYS = 0x50000 | errno.ENOSYS
EAFNOSUPPORT = 0x50000 | errno.EAFNOSUPPORT

#: AUDIT_ARCH_X86_64, _AARCH64, _I386, _ARM
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
OTHER_ARCHITECTURES = (0x40000003, 0x40000028, 0, 0xFFFFFFFF)
NUMBERS = {
    "x86_64": {**syscalls.X86_64, **syscalls.EVERYWHERE},
    "aarch64": {**syscalls.AARCH64, **syscalls.EVERYWHERE},
}

OPEN = SystemCalls(has_network=True)
CLOSED = SystemCalls(has_network=False)
GUARDED = SystemCalls(has_network=True, guarded=(12, 4711, 70000))
AS_ROOT = SystemCalls(has_network=True, may_set_user_id=False)
HOLDING = SystemCalls(has_network=True, may_hold_pages=True)
EVERYTHING = GUARDED._replace(may_set_user_id=False, may_hold_pages=True)

both_machines = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
every_choice = pytest.mark.parametrize(
    "wanted",
    [OPEN, CLOSED, GUARDED, AS_ROOT, HOLDING, EVERYTHING],
    ids=["open", "no network", "guarded", "as root", "holding", "everything"],
)

#: Denied whatever the arguments are, on every machine that has them.
_DENIED = """
    ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd
    bpf perf_event_open userfaultfd syslog add_key request_key keyctl
    mount umount2 pivot_root chroot open_tree open_tree_attr move_mount fsopen fsconfig
    fsmount fspick mount_setattr setns unshare
    kexec_load kexec_file_load init_module finit_module delete_module reboot swapon
    swapoff quotactl quotactl_fd acct vhangup sethostname setdomainname
    settimeofday clock_settime adjtimex clock_adjtime
    open_by_handle_at fanotify_init mbind set_mempolicy get_mempolicy
    set_mempolicy_home_node migrate_pages move_pages memfd_secret
    shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl
    mq_open mq_unlink
"""
DENIED = _DENIED.split()
DENIED_ON_X86 = ["iopl", "ioperm", "modify_ldt"]
MISSING = ["io_uring_setup", "io_uring_enter", "io_uring_register", "clone3"]
_JUDGED = """
    sched_setparam sched_setscheduler sched_setaffinity sched_setattr setpriority
    ioprio_set prlimit64 clone socket socketpair ioctl prctl
"""
JUDGED = _JUDGED.split()
_SIGNALLING = "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open"
SIGNALLING = _SIGNALLING.split()
#: Calls that take a file's mode, and the arguments before it.
SETTING_MODE: dict[str, tuple[int, ...]] = {
    "chmod": (1 << 40,),
    "fchmod": (3,),
    "fchmodat": (-100, 1 << 40),
    "fchmodat2": (-100, 1 << 40),
    "mknod": (1 << 40,),
    "mknodat": (-100, 1 << 40),
    "creat": (1 << 40,),
}
#: Calls that take a mode after flags, and the arguments before these.
OPENING: dict[str, tuple[int, ...]] = {"open": (1 << 40,), "openat": (-100, 1 << 40)}
ONLY_X86 = {"open", "creat", "chmod", "mknod"}

#: What ordinary programs live on: (x86_64, aarch64), None where there is no such call.
ORDINARY: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "open": (2, None),
    "openat": (257, 56),
    "openat2": (437, 437),
    "close": (3, 57),
    "close_range": (436, 436),
    "stat": (4, None),
    "statx": (332, 291),
    "newfstatat": (262, 79),
    "poll": (7, None),
    "ppoll": (271, 73),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "madvise": (28, 233),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "readv": (19, 65),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "select": (23, None),
    "sched_yield": (24, 124),
    "dup": (32, 23),
    "dup3": (292, 24),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "sendfile": (40, 71),
    "connect": (42, 203),
    "accept4": (288, 242),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "bind": (49, 200),
    "listen": (50, 201),
    "setsockopt": (54, 208),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "wait4": (61, 260),
    "waitid": (247, 95),
    "uname": (63, 160),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "mkdirat": (258, 34),
    "unlinkat": (263, 35),
    "renameat2": (316, 276),
    "linkat": (265, 37),
    "symlinkat": (266, 36),
    "fchmodat": (268, 53),
    "fchownat": (260, 54),
    "utimensat": (280, 88),
    "umask": (95, 166),
    "getrlimit": (97, 163),
    "setrlimit": (160, 164),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setgroups": (116, 159),
    "capget": (125, 90),
    "capset": (126, 91),
    "sigaltstack": (131, 132),
    "getpriority": (140, 141),
    "sched_getaffinity": (204, 123),
    "sched_getscheduler": (145, 120),
    "ioprio_get": (252, 31),
    "prctl": (157, 167),
    "seccomp": (317, 277),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
    "gettid": (186, 178),
    "futex": (202, 98),
    "futex_waitv": (449, 449),
    "set_tid_address": (218, 96),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "membarrier": (324, 283),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_pwait": (281, 22),
    "eventfd2": (290, 19),
    "timerfd_create": (283, 85),
    "signalfd4": (289, 74),
    "inotify_init1": (294, 26),
    "io_setup": (206, 0),
    "io_submit": (209, 2),
    "flock": (73, 32),
    "fsync": (74, 82),
    "ftruncate": (77, 46),
    "fallocate": (285, 47),
    "getdents64": (217, 61),
    "statfs": (137, 43),
    "memfd_create": (319, 279),
    "copy_file_range": (326, 285),
    "splice": (275, 76),
    "getrandom": (318, 278),
    "getxattr": (191, 8),
    "name_to_handle_at": (303, 264),
    "personality": (135, 92),
    "arch_prctl": (158, None),
    "mlock": (149, 228),
    "mremap": (25, 216),
    "faccessat2": (439, 439),
    "fchmodat2": (452, 452),
    "epoll_pwait2": (441, 441),
    "file_setattr": (469, 469),
}
NO_HEADERS = "the headers of Linux are not installed"


class Ran(NamedTuple):
    """What came of one run of a program."""

    verdict: int
    #: offsets into what is judged, in the order they were looked at
    looked_at: list[int]


def run(
    filter_bytes: bytes, architecture: int, number: int, args: tuple[int, ...]
) -> Ran:
    """Do what the kernel does with a filter; refuse what it would not load."""
    judged = struct.pack(
        "<IIQ6Q",
        number,
        architecture,
        0xDEAD_BEEF_0000,
        *(value % (1 << 64) for value in (*args, 0, 0, 0, 0, 0, 0)[:6]),
    )
    instructions = list(struct.iter_unpack("<HBBI", filter_bytes))
    position, accumulator = 0, 0
    looked_at = []
    while True:
        code, if_true, if_false, k = instructions[position]
        position += 1
        if code == 0x06:
            return Ran(k, looked_at)
        if code == 0x20:
            looked_at.append(k)
            (accumulator,) = struct.unpack_from("<I", judged, k)
        elif code == 0x05:
            position += k
        else:
            holds = {
                0x15: accumulator == k,
                0x35: accumulator >= k,
                0x45: bool(accumulator & k),
            }[code]
            position += if_true if holds else if_false


def verdict(machine: str, wanted: SystemCalls, name: str | int, *args: int) -> int:
    number = name if isinstance(name, int) else NUMBERS[machine][name]
    return run(program(wanted, machine), ARCHITECTURES[machine], number, args).verdict


def denied_on(machine: str) -> list[str]:
    return DENIED + (DENIED_ON_X86 if machine == "x86_64" else [])


def judged_by(wanted: SystemCalls) -> list[str]:
    guarding = [*SIGNALLING, "fcntl"] if wanted.guarded else []
    giving_modes = [] if wanted.may_set_user_id else [*SETTING_MODE, *OPENING]
    holding = ["io_uring_register"] if wanted.may_hold_pages else []
    return JUDGED + guarding + giving_modes + holding


def missing_under(wanted: SystemCalls) -> set[str]:
    """Return what is not there, some of it unless something else was chosen."""
    return {
        *set(MISSING).difference(judged_by(wanted)),
        *({"pidfd_send_signal"} if wanted.guarded else ()),
        *(() if wanted.may_set_user_id else {"openat2"}),
    }


def those_of(machine: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if machine == "x86_64" or name not in ONLY_X86]


@both_machines
def test_the_tables_hold_what_the_filter_speaks_of_and_nothing_else(
    machine: str,
) -> None:
    judged = those_of(machine, judged_by(EVERYTHING))
    spoken_of = {*denied_on(machine), *MISSING, *judged}
    assert set(NUMBERS[machine]) == spoken_of | {"pidfd_send_signal", "openat2"}
    assert len(set(NUMBERS[machine].values())) == len(NUMBERS[machine])


@both_machines
@every_choice
def test_a_call_that_is_denied_is_denied_whatever_its_arguments(
    machine: str, wanted: SystemCalls
) -> None:
    for name in denied_on(machine):
        for args in [(), (0,), (-1,) * 6, (1, 2, 3, 4, 5, 6)]:
            assert verdict(machine, wanted, name, *args) == EPERM, name
    for name in missing_under(wanted):
        assert verdict(machine, wanted, name) == ENOSYS, name


@both_machines
@every_choice
def test_every_number_is_decided_by_itself_unless_its_arguments_matter(
    machine: str, wanted: SystemCalls
) -> None:
    names = {number: name for name, number in NUMBERS[machine].items()}
    filter_bytes = program(wanted, machine)
    for number in chain(range(2048), range(0x40000000, 0x40000400), [0xFFFFFFFF]):
        name = names.get(number, "")
        if name in judged_by(wanted):
            continue
        ran = run(filter_bytes, ARCHITECTURES[machine], number, ())
        # The kernel remembers calls as always allowed where a filter loads no more.
        assert ran.looked_at == [4, 0], number
        if number > syscalls.NEWEST_KNOWN or name in missing_under(wanted):
            assert ran.verdict == ENOSYS, number
        elif name in denied_on(machine):
            assert ran.verdict == EPERM, number
        else:
            assert ran.verdict == ALLOW, number


@both_machines
@every_choice
def test_ordinary_calls_are_allowed(machine: str, wanted: SystemCalls) -> None:
    for name, numbers in ORDINARY.items():
        number = numbers[machine == "aarch64"]
        if name in missing_under(wanted):
            continue
        if number is not None:
            assert verdict(machine, wanted, number, 1, 2, 3) == ALLOW, name


def test_the_second_set_of_numbers_of_x86_is_not_there() -> None:
    # 520 and 545 are execve and execveat of that set, 512 and 547 its ends; 0x40000000
    # is its read.
    for number in [512, 520, 521, 545, 547]:
        assert verdict("x86_64", OPEN, number) == ENOSYS
        assert verdict("x86_64", OPEN, 0x40000000 | number) == ENOSYS
    for number in [0, 1, 39, 101, 272, 0x3FFFFFFF]:
        assert verdict("x86_64", OPEN, 0x40000000 | number) == ENOSYS


@both_machines
@every_choice
def test_the_calls_of_another_architecture_end_the_process(
    machine: str, wanted: SystemCalls
) -> None:
    foreign = {*ARCHITECTURES.values(), *OTHER_ARCHITECTURES} - {ARCHITECTURES[machine]}
    for architecture in foreign:
        for number in [0, 1, 20, 39, 101, 435, 0x40000000]:
            ran = run(program(wanted, machine), architecture, number, ())
            assert ran == Ran(KILL, [4])


HIGH = 1 << 32


@both_machines
@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        # The kernel takes pids, families and requests as 32 bits: what stands above
        # must neither hide a denied value nor spoil an allowed one.
        *(
            (name, args, expected)
            for name in [
                "sched_setparam",
                "sched_setscheduler",
                "sched_setaffinity",
                "sched_setattr",
            ]
            for args, expected in [
                ((0, 8, 1 << 40), ALLOW),
                ((HIGH, 8), ALLOW),
                ((1234, 8), EPERM),
                ((HIGH | 1234, 8), EPERM),
                ((-1, 8), EPERM),
            ]
        ),
        ("setpriority", (0, 0, 5), ALLOW),
        ("setpriority", (HIGH, HIGH, -5), ALLOW),
        ("setpriority", (0, 77, 5), EPERM),
        ("setpriority", (1, 0, 5), EPERM),
        ("setpriority", (2, 0, 5), EPERM),
        ("setpriority", (2, 77, 5), EPERM),
        ("ioprio_set", (1, 0, 3), ALLOW),
        ("ioprio_set", (1, 77, 3), EPERM),
        ("ioprio_set", (2, 0, 3), EPERM),
        ("ioprio_set", (3, 0, 3), EPERM),
        ("prlimit64", (0, 7, 0, 1 << 47), ALLOW),
        ("prlimit64", (0, 7, 1 << 47, 0), ALLOW),
        ("prlimit64", (HIGH, 7, 1 << 47, 0), ALLOW),
        ("prlimit64", (77, 7, 0, 1 << 47), ALLOW),
        ("prlimit64", (77, 7, 0x7FFF_0000, 0), EPERM),
        ("prlimit64", (77, 7, 0x7FFF_0000_0000_0000, 0), EPERM),
        ("prlimit64", (77, 7, 0x7FFF << 32, 0), EPERM),
        ("prlimit64", (-1, 7, 1, 0), EPERM),
        # What fork(), posix_spawn() and pthread_create() of glibc and musl ask for.
        ("clone", (0x01200011,), ALLOW),
        ("clone", (0x00004111,), ALLOW),
        ("clone", (0x003D0F00,), ALLOW),
        ("clone", (0x007D0F00,), ALLOW),
        ("clone", (HIGH | 0x01200011,), ALLOW),
        ("clone", (0x00008011,), EPERM),
        *(
            ("clone", (high | flag | 17,), EPERM)
            for high in (0, HIGH)
            for flag in [
                0x00020000,
                0x02000000,
                0x04000000,
                0x08000000,
                0x10000000,
                0x20000000,
                0x40000000,
            ]
        ),
        ("ioctl", (0, 0x5401), ALLOW),
        ("ioctl", (0, 0x5413), ALLOW),
        ("ioctl", (0, 0x8901), ALLOW),
        ("ioctl", (0, 0x5412), EPERM),
        ("ioctl", (0, 0x541C), EPERM),
        ("ioctl", (0, HIGH | 0x5412), EPERM),
        ("ioctl", (0, 0xFFFFFFFF_0000541C), EPERM),
        # The kernel asks whether anything is set in all 64 bits of the second.
        ("prctl", (36, 1), ALLOW),
        ("prctl", (36, 2), ALLOW),
        ("prctl", (36, HIGH), ALLOW),
        ("prctl", (36, 1 << 63), ALLOW),
        ("prctl", (36, -1), ALLOW),
        ("prctl", (36, 0), EPERM),
        ("prctl", (36, 0, 1, 1, 1), EPERM),
        ("prctl", (HIGH | 36, 0), EPERM),
        ("prctl", (HIGH | 36, 1), ALLOW),
        *(("prctl", (option, 0), ALLOW) for option in range(80) if option != 36),
        *((name, (1, 2, 0), ALLOW) for name in ["socket", "socketpair"]),
        ("socket", (2, 1, 6), ALLOW),
        ("socket", (10, 2, 0), ALLOW),
        ("socket", (HIGH | 2, 1, 0), ALLOW),
        ("socket", (16, 3, 0), ALLOW),
        ("socket", (16, 3, HIGH), ALLOW),
        *(("socket", (16, 3, kind), EAFNOSUPPORT) for kind in range(1, 23)),
        ("socket", (HIGH | 40, 1, 0), EAFNOSUPPORT),
        *(
            (name, (family, 3, 0), EAFNOSUPPORT)
            for name in ["socket", "socketpair"]
            for family in range(48)
            if family not in (1, 2, 10, 16)
        ),
    ],
)
def test_arguments_are_judged_by_what_the_kernel_looks_at(
    machine: str, name: str, args: tuple[int, ...], expected: int
) -> None:
    assert verdict(machine, OPEN, name, *args) == expected


@both_machines
@pytest.mark.parametrize("name", ["socket", "socketpair"])
def test_without_a_network_there_are_sockets_of_this_machine_alone(
    machine: str, name: str
) -> None:
    allowed = {
        family
        for family in range(-1, 64)
        if verdict(machine, CLOSED, name, family, 3, 0) != EAFNOSUPPORT
    }
    assert allowed == {1}
    assert verdict(machine, CLOSED, name, 1, 1, 0) == ALLOW
    assert verdict(machine, CLOSED, name, HIGH | 1, 1, 0) == ALLOW
    assert verdict(machine, CLOSED, name, HIGH | 2, 1, 0) == EAFNOSUPPORT


@both_machines
@pytest.mark.parametrize("name", SIGNALLING)
def test_no_signal_is_aimed_at_the_guarded(machine: str, name: str) -> None:
    for pid in (12, 4711, 70000):
        for aim in (pid, -pid, HIGH | pid, pid - (1 << 63), -1):
            assert verdict(machine, GUARDED, name, aim, 9) == EPERM
    for pid in (0, 2, -2, 4710, 4712, -4710, 70001, 0x7FFFFFFF):
        assert verdict(machine, GUARDED, name, pid, 9) == ALLOW
    assert verdict(machine, OPEN, name, 4711, 9) == ALLOW


@both_machines
def test_no_descriptor_is_made_to_signal_the_guarded(machine: str) -> None:
    set_owner, set_owner_ex, set_signal = 8, 15, 10
    for aim in (4711, -4711, HIGH | 4711, -1):
        assert verdict(machine, GUARDED, "fcntl", 3, set_owner, aim) == EPERM
        assert verdict(machine, GUARDED, "fcntl", 3, HIGH | set_owner, aim) == EPERM
    assert verdict(machine, GUARDED, "fcntl", 3, set_owner_ex, 1 << 40) == EPERM
    assert verdict(machine, GUARDED, "fcntl", 3, set_owner, 4712) == ALLOW
    # A command that takes something else is not taken for a pid.
    for command in (0, 1, 2, 3, 4, set_signal, 1030, 1033):
        assert verdict(machine, GUARDED, "fcntl", 4711, command, 4711) == ALLOW
    for request in (0x8901, 0x8902):
        assert verdict(machine, GUARDED, "ioctl", 3, request, 1 << 40) == EPERM
        assert verdict(machine, OPEN, "ioctl", 3, request, 1 << 40) == ALLOW


@both_machines
def test_a_call_that_is_judged_is_judged_for_many_guarded(machine: str) -> None:
    guarded = tuple(range(1000, 1100))
    wanted = SystemCalls(has_network=True, guarded=guarded)
    for pid in guarded:
        assert verdict(machine, wanted, "kill", pid, 9) == EPERM
        assert verdict(machine, wanted, "kill", -pid, 9) == EPERM
    assert verdict(machine, wanted, "kill", 1100, 9) == ALLOW
    # No rule is cut short because it got too long.
    with pytest.raises(ValueError, match="a jump over"):
        program(SystemCalls(has_network=True, guarded=tuple(range(2, 200))), machine)


@both_machines
def test_no_file_is_given_the_set_user_id_bit_by_root(machine: str) -> None:
    for name in those_of(machine, SETTING_MODE):
        before = SETTING_MODE[name]
        for mode in (0o4000, 0o4755, 0o6755, 0o7777, 0o104755, HIGH | 0o4755, -1):
            assert verdict(machine, AS_ROOT, name, *before, mode) == EPERM, name
            assert verdict(machine, OPEN, name, *before, mode) == ALLOW, name
        for mode in (0, 0o644, 0o755, 0o2755, 0o3777, 0o102755, 0o4000 << 32):
            assert verdict(machine, AS_ROOT, name, *before, mode) == ALLOW, name
    assert verdict(machine, AS_ROOT, "openat2", -100, 1 << 40, 1 << 40, 24) == ENOSYS
    assert verdict(machine, OPEN, "openat2", -100, 1 << 40, 1 << 40, 24) == ALLOW


@both_machines
def test_no_file_is_made_with_the_set_user_id_bit_by_root(machine: str) -> None:
    create, unnamed, write, close_on_exec = 0o100, 0o20200000, 1, 0o2000000
    for name in those_of(machine, OPENING):
        before = OPENING[name]
        for flags in (create, create | write | close_on_exec, unnamed | write):
            for high in (0, HIGH):
                args = (*before, high | flags, high | 0o4755)
                assert verdict(machine, AS_ROOT, name, *args) == EPERM, name
                assert verdict(machine, OPEN, name, *args) == ALLOW, name
                args = (*before, high | flags, high | 0o2755)
                assert verdict(machine, AS_ROOT, name, *args) == ALLOW, name
        # What is in the place of a mode is not looked at where no file is made: it is
        # left there by chance. 0o200000 or 0o40000 is O_DIRECTORY.
        for flags in (0, write, close_on_exec, 0o200000, 0o40000, create << 32):
            assert verdict(machine, AS_ROOT, name, *before, flags, -1) == ALLOW, name


@both_machines
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        # The kernel takes what is asked for as 32 bits.
        *(((ring, 0, 1 << 40, 3), ALLOW) for ring in (0, 5, HIGH | 5, -1)),
        ((5, HIGH, 1 << 40, 3), ALLOW),
        ((5, 1), ENOSYS),
        ((5, HIGH | 1), ENOSYS),
        ((5, -1), ENOSYS),
        # A ring may be named by a number of its own instead of a descriptor.
        ((5, 0x80000000, 1 << 40, 3), ENOSYS),
        ((5, HIGH | 0x80000000, 1 << 40, 3), ENOSYS),
        *(((5, what), ENOSYS) for what in range(2, 100)),
    ],
)
def test_a_ring_is_given_buffers_to_hold_and_nothing_else(
    machine: str, args: tuple[int, ...], expected: int
) -> None:
    for wanted in (HOLDING, EVERYTHING):
        assert verdict(machine, wanted, "io_uring_register", *args) == expected
        for name in ("io_uring_setup", "io_uring_enter"):
            assert verdict(machine, wanted, name, *args) == ENOSYS
    assert verdict(machine, OPEN, "io_uring_register", *args) == ENOSYS


def instructions(filter_bytes: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    yield from enumerate(struct.iter_unpack("<HBBI", filter_bytes))


@both_machines
@every_choice
def test_the_kernel_would_load_every_program(machine: str, wanted: SystemCalls) -> None:
    filter_bytes = program(wanted, machine)
    length, rest = divmod(len(filter_bytes), 8)
    assert rest == 0
    # The kernel takes 4096. Numbers in a row that are treated alike share a decision,
    # without which there were a hundred more.
    assert length < (300 if wanted.may_set_user_id else 350)
    reached = {0}
    for position, (code, if_true, if_false, k) in instructions(filter_bytes):
        assert position in reached, "an instruction nobody gets to"
        targets = {
            0x20: [0],
            0x06: [],
            0x05: [k],
            0x15: [if_true, if_false],
            0x35: [if_true, if_false],
            0x45: [if_true, if_false],
        }[code]
        reached.update(position + 1 + target for target in targets)
        if code == 0x20:
            assert k % 4 == 0
            assert k < 64
        if code == 0x06:
            assert k in {ALLOW, KILL, EPERM, ENOSYS, EAFNOSUPPORT}
    assert max(reached) == length - 1


@both_machines
def test_a_decision_by_number_takes_few_steps(machine: str) -> None:
    ends = 0
    for _, (code, *_) in instructions(program(OPEN, machine)):
        ends += code == 0x06
    deepest = max(
        steps(program(OPEN, machine), ARCHITECTURES[machine], number)
        for number in range(1024)
    )
    # A list would take half of them.
    assert ends > 60
    assert deepest <= 12


def steps(filter_bytes: bytes, architecture: int, number: int) -> int:
    """Return how many instructions it takes for a call with no arguments."""
    code = [word for _, word in instructions(filter_bytes)]
    position = taken = 0
    loaded = {0: number, 4: architecture}
    accumulator = 0
    while code[position][0] not in (0x05, 0x06):
        kind, if_true, if_false, k = code[position]
        taken += 1
        position += 1
        if kind == 0x20:
            accumulator = loaded[k]
        else:
            holds = accumulator >= k if kind == 0x35 else accumulator == k
            position += if_true if holds else if_false
    return taken + 1


@pytest.mark.parametrize("machine", ["i686", "armv7l", "riscv64", "ppc64le", "s390x"])
def test_a_machine_without_a_table_is_refused_by_name(machine: str) -> None:
    with pytest.raises(UnknownMachine, match=machine) as caught:
        program(OPEN, machine)
    assert caught.value.errno == errno.ENOSYS


def test_this_machine_is_meant_unless_another_is_named() -> None:
    machine = seccomp._this_machine()
    if machine not in ARCHITECTURES:
        pytest.skip(f"no table for {machine}")
    assert program(OPEN) == program(OPEN, machine)
    assert program(OPEN, "x86_64") != program(OPEN, "aarch64")


def test_a_jump_that_does_not_fit_is_no_jump_elsewhere() -> None:
    assert bpf.if_equal(1, then=bpf.FARTHEST) == 0x1_00FF_0015
    for far in (256, 511, 1 << 16):
        with pytest.raises(ValueError, match=str(far)):
            bpf.if_equal(1, then=far)
        with pytest.raises(ValueError, match=str(far)):
            bpf.if_any_bit(1, then=0, otherwise=far)


@both_machines
def test_a_program_is_built_in_no_time(machine: str) -> None:
    def build_s() -> float:
        start = time.perf_counter()
        program(GUARDED, machine)
        return time.perf_counter() - start

    # A start pays for it once: 0.1 ms on the machine where it was written. The fastest
    # counts, for others share a machine.
    assert min(build_s() for _ in range(50)) < 0.0005


def header_numbers(path: Path) -> dict[str, int]:
    """Return what a header of the kernel says the numbers are."""
    defined = r"^#define (__NR\w*?)_(\w+)\s+(?:(\d+)|__NR3264_(\w+))\s*$"
    found = re.findall(defined, path.read_text(), re.MULTILINE)
    numbers = {
        (prefix, name): int(number) for prefix, name, number, _ in found if number
    }
    # Some have a first name for the number and a second for 64-bit machines.
    for prefix, name, _, first_name in found:
        if ("__NR3264", first_name) in numbers:
            numbers.setdefault((prefix, name), numbers["__NR3264", first_name])
    return {
        name: number
        for (prefix, name), number in numbers.items()
        if prefix == "__NR" and name != "syscalls"
    }


HEADERS = {
    "x86_64": [
        Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        Path("/usr/include/asm/unistd_64.h"),
    ],
    "aarch64": [Path("/usr/include/asm-generic/unistd.h")],
}


@both_machines
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    present = [path for path in HEADERS[machine] if path.exists()]
    if not present:
        pytest.skip(NO_HEADERS)
    theirs = header_numbers(present[0])
    newest = max(theirs.values())
    for name, number in NUMBERS[machine].items():
        if number <= newest:
            assert theirs[name] == number, name
    for name, numbers in ORDINARY.items():
        number = numbers[machine == "aarch64"]
        if number is None:
            # Newer machines do without some calls of x86_64.
            assert name not in theirs, name
        elif number <= newest:
            assert theirs[name] == number, name
