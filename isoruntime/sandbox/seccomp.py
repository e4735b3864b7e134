"""Which system calls a handler and its children can make: a seccomp filter.

It closes what other walls leave open: calls that reach into another process of the
same user, that make namespaces, mounts or kernel objects nobody cleans up, and corners
of the kernel that handlers have no use for and attackers do. All else stays allowed, for
a list of what is allowed would break with every release of a C library. What libraries
try before something older is answered with ENOSYS, so that they fall back; the rest with
EPERM.

A program, once loaded, is asked about every call:

    other architecture?  ── yes ─→ the process is killed
            │ no
    tree over the number ── most ─→ allowed
            │   └── denied ──────→ EPERM or ENOSYS
            └── judged ─→ rule that looks at the arguments

The tree comes first and looks at nothing but the number, so that the kernel (from
5.11 on) finds out beforehand which calls are always allowed, and never asks about these.
"""

from __future__ import annotations

import errno
import os
import sys

from isoruntime.sandbox import _libc, bpf, syscalls
from isoruntime.sandbox.bpf import give, if_any_bit, if_at_least, if_equal, jump, load
from isoruntime.typed import Final, NamedTuple


class UnknownMachine(OSError):
    """There is no table of system calls for this machine."""


class SystemCalls(NamedTuple):
    """What a filter is to let through, as far as that is a matter of choice."""

    #: sockets of the internet; without it `socket()` knows those of this machine alone
    has_network: bool
    #: Pids, as seen from the filtered process, that no signal may be aimed at, nor at
    #: the process groups of these numbers, nor at everybody. They cannot signal
    #: themselves either. Needed only where Landlock has no scope for signals: a thread
    #: other than a process's first is not covered, since its number is not known.
    guarded: tuple[int, ...] = ()
    #: Whether a file may be given the set-user-ID bit. Where workers are root, a program
    #: with it outlives them as a way for any user of the host to become root, outside
    #: these walls. (With set-group-ID it is left alone: archives and shared repositories
    #: have folders with that.) If not, every opening of a file is judged.
    may_set_user_id: bool = True
    #: Whether buffers may be registered with an io_uring that somebody has opened
    #: before: this is how a zygote holds pages (`zygote.held_pages`).
    may_hold_pages: bool = False


# What the kernel calls each architecture (AUDIT_ARCH_* of linux/audit.h), and its table.
_MACHINES: Final = {
    "x86_64": (0xC000003E, syscalls.X86_64),
    "aarch64": (0xC00000B7, syscalls.AARCH64),
}

# linux/seccomp.h
_ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
_ERRNO: Final = 0x00050000
_NOT_PERMITTED: Final = _ERRNO | errno.EPERM
_NOT_THERE: Final = _ERRNO | errno.ENOSYS
_NO_SUCH_FAMILY: Final = _ERRNO | errno.EAFNOSUPPORT

# Where `struct seccomp_data` has what.
_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_ARGUMENTS: Final = 16

# One line a reason, from threats.md 8.3.
_DENIED: Final = (
    # into the memory, descriptors and state of other processes
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise"),
    *("kcmp", "pidfd_getfd"),
    # programs in the kernel, and watching it
    *("bpf", "perf_event_open", "userfaultfd", "syslog"),
    # keyrings, which outlive and are shared by processes
    *("add_key", "request_key", "keyctl"),
    # mounts and namespaces: a door to most of what only root can reach
    *("mount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr"),
    *("move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"),
    *("setns", "unshare"),
    # the machine's own affairs, should a capability be left
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module"),
    *("reboot", "swapon", "swapoff", "quotactl", "quotactl_fd", "acct", "vhangup"),
    *("sethostname", "setdomainname", "iopl", "ioperm", "modify_ldt"),
    *("settimeofday", "clock_settime", "adjtimex", "clock_adjtime"),
    # files by number, past every folder; and other processes' file accesses
    *("open_by_handle_at", "fanotify_init"),
    # where memory lies, also of other processes. `get_mempolicy` is how libraries find
    # out whether they may: told no, they leave the rest alone.
    *("mbind", "set_mempolicy", "get_mempolicy", "set_mempolicy_home_node"),
    *("migrate_pages", "move_pages"),
    # memory that no limit and no reader of dumps sees
    "memfd_secret",
    # System V and POSIX objects that outlive their makers
    *("shmget", "shmat", "shmctl", "shmdt"),
    *("semget", "semop", "semctl", "semtimedop"),
    *("msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink"),
)

_MISSING: Final = (
    # Carries out other calls where no filter sees them.
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    # Has its flags in memory, where a filter cannot look; C libraries go on to `clone`.
    "clone3",
)

# Each takes a pid first, and 0 for oneself.
_SCHEDULING: Final = (
    *("sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr"),
)

# Each takes the pid aimed at first. `rt_tgsigqueueinfo` and `tgkill` take the thread's
# number next, which the kernel wants to belong to the process named first.
_SIGNALLING: Final = (
    *("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open"),
)

# linux/sched.h: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET. (NEWTIME
# shares its bit with the signal in `clone`, and means nothing there.)
_NEW_NAMESPACES: Final = 0x7E020000
# The parent's parent gets the child: out of its worker's tree, so not counted with it.
_CLONE_PARENT: Final = 0x00008000

_AF_UNIX: Final = 1
_AF_INET: Final = 2
_AF_INET6: Final = 10
_AF_NETLINK: Final = 16
_NETLINK_ROUTE: Final = 0

# asm-generic/ioctls.h and sockios.h
_TIOCSTI: Final = 0x5412
_TIOCLINUX: Final = 0x541C
_FIOSETOWN: Final = 0x8901
_SIOCSPGRP: Final = 0x8902

# asm-generic/fcntl.h
_F_SETOWN: Final = 8
_F_SETOWN_EX: Final = 15
# O_CREAT, and the bit of O_TMPFILE that O_DIRECTORY does not have: without either, the
# kernel does not look at the mode.
_CREATES_FILE: Final = 0o100 | 0o20000000

# linux/stat.h
_S_ISUID: Final = 0o4000

# linux/prctl.h
_PR_SET_CHILD_SUBREAPER: Final = 36

_IOPRIO_WHO_PROCESS: Final = 1
_PRIO_PROCESS: Final = 0


def program(wanted: SystemCalls, machine: str | None = None) -> bytes:
    """Return the filter for a machine, this one unless named, as the kernel takes it.

    Raises:
        UnknownMachine: it is neither x86_64 nor aarch64, or Python is not 64 bits wide.
        ValueError: more pids are guarded than one rule has room for (about 120).
    """
    architecture, numbers = _machine(machine or _this_machine())
    numbers = {**numbers, **syscalls.EVERYWHERE}
    verdicts = {numbers[name]: _NOT_PERMITTED for name in _DENIED if name in numbers}
    for name in _MISSING:
        verdicts[numbers[name]] = _NOT_THERE
    if wanted.may_hold_pages:
        del verdicts[numbers["io_uring_register"]]
    if wanted.guarded:
        # Takes a folder of /proc as well, whose pid a filter does not see. Those who
        # use it (Go, systemd) know kernels without.
        verdicts[numbers["pidfd_send_signal"]] = _NOT_THERE
    if not wanted.may_set_user_id:
        # Has its mode in memory, where a filter cannot look; who tries it goes on to
        # `openat`.
        verdicts[numbers["openat2"]] = _NOT_THERE
    judged = {
        numbers[name]: rule
        for names, rule in _rules(wanted)
        for name in names
        if name in numbers
    }
    return bpf.assemble(
        [
            load(_ARCHITECTURE),
            if_equal(architecture, then=1),
            give(_KILL_PROCESS),
            load(_NUMBER),
            *_decide(verdicts, judged),
        ]
    )


def install(program: bytes) -> None:
    """Have this process, and all it starts from now on, judged by a program for good.

    Needs `_libc.set_no_new_privileges` before.

    Raises:
        OSError: EINVAL, the kernel has no filters; EACCES, no_new_privs is not set.
    """
    _libc.install_filter(program)


def _this_machine() -> str:
    machine = os.uname().machine
    # The kernel's name says nothing of a 32-bit program on it, whose numbers differ.
    if sys.maxsize < 1 << 32:
        raise UnknownMachine(errno.ENOSYS, f"a 32-bit Python on {machine}")
    return machine


def _machine(name: str) -> tuple[int, dict[str, int]]:
    try:
        return _MACHINES[name]
    except KeyError:
        raise UnknownMachine(
            errno.ENOSYS, f"no table of system calls for {name}"
        ) from None


def _decide(verdicts: dict[int, int], judged: dict[int, list[int]]) -> list[int]:
    """Return a balanced tree over the numbers, and below it the rules it leads to."""
    starts, targets = _ranges({**verdicts, **judged})
    # One leaf a range, and one comparison between each two.
    length = 2 * len(starts) - 1
    code: list[int] = []
    below: list[int] = []
    positions: dict[int, int] = {}

    def grow(first: int, end: int) -> None:
        if end - first > 1:
            middle = (first + end) // 2
            to_the_left = 2 * (middle - first) - 1
            code.append(if_at_least(starts[middle], then=to_the_left))
            grow(first, middle)
            grow(middle, end)
            return
        target = targets[first]
        if isinstance(target, int):
            code.append(give(target))
            return
        # Several calls may have one rule, which is there once.
        if id(target) not in positions:
            positions[id(target)] = length + len(below)
            below.extend(target)
        code.append(jump(positions[id(target)] - len(code) - 1))

    grow(0, len(starts))
    return code + below


def _ranges(
    special: dict[int, int | list[int]],
) -> tuple[list[int], list[int | list[int]]]:
    """Return where each range of numbers starts that is treated alike, and how."""
    starts: list[int] = [0]
    targets: list[int | list[int]] = [_ALLOW]
    expected = 0

    def begin(start: int, target: int | list[int]) -> None:
        if targets[-1] is not target and targets[-1] != target:
            starts.append(start)
            targets.append(target)

    for number in sorted(special):
        if number > expected:
            begin(expected, _ALLOW)
        begin(number, special[number])
        expected = number + 1
    begin(expected, _ALLOW)
    # Also the second set of x86_64's numbers (x32): those from 0x40000000 on, and
    # 512 to 547, which some kernels take without that bit.
    begin(syscalls.NEWEST_KNOWN + 1, _NOT_THERE)
    return starts, targets


def _rules(wanted: SystemCalls) -> list[tuple[tuple[str, ...], list[int]]]:
    """Return which calls are judged by their arguments, and by which instructions.

    They compare the low half of an argument where the kernel's own parameter has 32
    bits. Whoever compares more than the kernel looks at can be passed by with a bit
    in the half that the kernel ignores.
    """
    rules = [
        (_SCHEDULING, _only((0, 0))),
        (("setpriority",), _only((0, _PRIO_PROCESS), (1, 0))),
        (("ioprio_set",), _only((0, _IOPRIO_WHO_PROCESS), (1, 0))),
        (("prlimit64",), _own_limits()),
        # The kernel takes its flags from the lower half: the upper one is `clone3`'s.
        (("clone",), _without_bits(0, _NEW_NAMESPACES | _CLONE_PARENT)),
        (("socket", "socketpair"), _families(wanted.has_network)),
        (("prctl",), _stay_subreaper()),
    ]
    if wanted.may_hold_pages:
        rules.append((("io_uring_register",), _hold_pages()))
    if not wanted.may_set_user_id:
        # `mkdir` is not among them: the kernel takes the bit from its mode.
        rules += [
            (("chmod", "fchmod", "creat", "mknod"), _without_bits(1, _S_ISUID)),
            (("fchmodat", "fchmodat2", "mknodat"), _without_bits(2, _S_ISUID)),
            (("open",), _open(1)),
            (("openat",), _open(2)),
        ]
    if not wanted.guarded:
        return [*rules, (("ioctl",), _unless(1, _TIOCSTI, _TIOCLINUX))]
    aims = sorted({-1, *wanted.guarded, *(-pid for pid in wanted.guarded)})
    return [
        *rules,
        (("ioctl",), _unless(1, _TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP)),
        (_SIGNALLING, _unless(0, *aims)),
        (("fcntl",), _owner(aims)),
    ]


def _argument(index: int) -> int:
    """Load the lower half of an argument; both machines are little-endian."""
    return load(_ARGUMENTS + 8 * index)


def _upper_half(index: int) -> int:
    return load(_ARGUMENTS + 8 * index + 4)


def _only(*pairs: tuple[int, int]) -> list[int]:
    """Allow a call if each of these arguments has the value it is paired with."""
    code: list[int] = []
    for index, value in pairs:
        code += [
            _argument(index),
            if_equal(value, then=1),
            give(_NOT_PERMITTED),
        ]
    return [*code, give(_ALLOW)]


def _unless(index: int, *values: int) -> list[int]:
    """Allow a call unless an argument has one of these values."""
    count = len(values)
    return [
        _argument(index),
        *(
            if_equal(value & 0xFFFFFFFF, then=count - place)
            for place, value in enumerate(values)
        ),
        give(_ALLOW),
        give(_NOT_PERMITTED),
    ]


def _own_limits() -> list[int]:
    """Allow reading anybody's limits, and changing one's own."""
    return [
        _argument(0),
        if_equal(0, then=5),
        # The new limit is a pointer, so both halves count.
        _argument(2),
        if_equal(0, then=0, otherwise=2),
        _upper_half(2),
        if_equal(0, then=1),
        give(_NOT_PERMITTED),
        give(_ALLOW),
    ]


def _without_bits(index: int, bits: int) -> list[int]:
    """Allow a call unless an argument has one of these bits in its lower half."""
    return [
        _argument(index),
        if_any_bit(bits, then=1),
        give(_ALLOW),
        give(_NOT_PERMITTED),
    ]


def _open(flags: int) -> list[int]:
    """Allow opening a file unless that makes one with the set-user-ID bit.

    `flags` is the index of that argument; the mode comes after it.
    """
    return [
        _argument(flags),
        if_any_bit(_CREATES_FILE, then=1),
        give(_ALLOW),
        *_without_bits(flags + 1, _S_ISUID),
    ]


def _hold_pages() -> list[int]:
    """Allow `io_uring_register` for buffers, and for nothing else."""
    return [
        _argument(1),
        if_equal(_libc.IORING_REGISTER_BUFFERS, then=1),
        give(_NOT_THERE),
        give(_ALLOW),
    ]


def _stay_subreaper() -> list[int]:
    """Allow `prctl` unless it makes a subreaper stop being one.

    The daemons of a worker that did would go to the zygote: out of the worker's tree, so
    neither counted nor ended with it.
    """
    return [
        _argument(0),
        if_equal(_PR_SET_CHILD_SUBREAPER, then=1),
        give(_ALLOW),
        # Any bit means yes, in either half.
        _argument(1),
        if_equal(0, then=0, otherwise=2),
        _upper_half(1),
        if_equal(0, then=1),
        give(_ALLOW),
        give(_NOT_PERMITTED),
    ]


def _families(has_network: bool) -> list[int]:
    """Allow sockets of the internet and of this machine.

    One kind of netlink belongs to the internet: through it alone can libc list
    interfaces. Without it getaddrinfo falls back, but psutil's and node's lists of
    addresses and `socket.if_nameindex` raise, and functions that name themselves after
    their address are common. It tells what /proc/net tells, and changing anything
    takes a capability. The other kinds (audit, netfilter, sockets of others, generic)
    are not for handlers.
    """
    if not has_network:
        return [
            _argument(0),
            if_equal(_AF_UNIX, then=1),
            give(_NO_SUCH_FAMILY),
            give(_ALLOW),
        ]
    return [
        _argument(0),
        if_equal(_AF_UNIX, then=6),
        if_equal(_AF_INET, then=5),
        if_equal(_AF_INET6, then=4),
        if_equal(_AF_NETLINK, then=0, otherwise=2),
        _argument(2),
        if_equal(_NETLINK_ROUTE, then=1),
        give(_NO_SUCH_FAMILY),
        give(_ALLOW),
    ]


def _owner(aims: list[int]) -> list[int]:
    """Allow `fcntl` unless it makes one of these the owner of a descriptor.

    The owner is sent a signal, any that was chosen, when there is something to read.
    """
    return [
        _argument(1),
        # Names the owner in memory, where a filter cannot look.
        if_equal(_F_SETOWN_EX, then=0, otherwise=1),
        give(_NOT_PERMITTED),
        if_equal(_F_SETOWN, then=1),
        give(_ALLOW),
        *_unless(2, *aims),
    ]
