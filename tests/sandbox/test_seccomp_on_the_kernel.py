"""The seccomp filter in force: what is denied is tried for real, and so is what works.

Most attempts are made twice, with the filter and without: what fails without it
proves nothing about the filter and is skipped.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import fcntl
import json
import mmap
import os
import resource
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import termios
import textwrap
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from isoruntime.sandbox import _libc, seccomp, syscalls
from isoruntime.sandbox.seccomp import SystemCalls, program
from tests.sandbox.children import error_of
from tests.support import rings
from tests.support.memory import address_of, private_memory

ROOT = Path(__file__).parents[2]
MACHINE = os.uname().machine
OPEN = SystemCalls(has_network=True)
CLOSED = SystemCalls(has_network=False)
AS_ROOT = SystemCalls(has_network=True, may_set_user_id=False)
HOLDING = SystemCalls(has_network=True, may_hold_pages=True)

if MACHINE not in ("x86_64", "aarch64"):
    pytest.skip(f"no filter for {MACHINE}", allow_module_level=True)

NUMBERS = {
    **(syscalls.X86_64 if MACHINE == "x86_64" else syscalls.AARCH64),
    **syscalls.EVERYWHERE,
}
libc = ctypes.CDLL(None, use_errno=True)


class Ended(NamedTuple):
    """A child that did not get to say anything."""

    status: int


def put_on(wanted: SystemCalls | None) -> None:
    """Put this process under a filter; with None, leave it as it is."""
    if wanted is not None:
        _libc.set_no_new_privileges()
        seccomp.install(program(wanted))


def in_child(attempt: Callable[[], object], wanted: SystemCalls | None = OPEN) -> Any:
    """Return what an attempt returns, as JSON would, in a process under a filter.

    An OSError counts as its name, such as `EPERM`.
    """
    read_end, write_end = os.pipe()
    # Safe because the child touches nothing it shares, and ends below.
    pid = os.fork()
    if pid == 0:
        try:
            put_on(wanted)
            try:
                answer = attempt()
            except OSError as error:
                answer = errno.errorcode.get(error.errno or 0, repr(error))
            os.write(write_end, json.dumps(answer).encode())
        except BaseException:  # noqa: BLE001 - beside the failure that follows
            traceback.print_exc()
        finally:
            # At once: pytest's own ending is not this process's.
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answers:
        said = answers.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return json.loads(said) if said else Ended(status)


def call(number: int | str, *args: int) -> int:
    """Make a system call as it is.

    Raises:
        OSError: it failed.
    """
    if isinstance(number, str):
        number = NUMBERS[number]
    result = libc.syscall(
        ctypes.c_long(number), *(ctypes.c_long(argument) for argument in args)
    )
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
    return int(result)


def differs_without_filter(attempt: Callable[[], object], denial: str) -> None:
    """Skip the test where the system denies the attempt by itself."""
    if in_child(attempt, None) == denial:
        pytest.skip(f"{denial} here without a filter, too")


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that others are after, in a group of its own."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process
        process.kill()


def is_alive(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


#: Where -1 for every argument would do something.
ARGUMENTS = {
    "vhangup": None,
    "msgget": (0x7FFF_1234, 0),
    "io_uring_setup": (0, 1),
    "ptrace": (16, -1),
    "clone3": (1, 1),
}
DENIED = [name for name in seccomp._DENIED if name in NUMBERS]


@pytest.mark.parametrize("name", [*DENIED, *seccomp._MISSING])
def test_a_denied_call_does_not_get_into_the_kernel(name: str) -> None:
    args = ARGUMENTS.get(name, (-1,) * 6)
    denial = "ENOSYS" if name in seccomp._MISSING else "EPERM"

    def attempt() -> int:
        return call(name, *(args or ()))

    assert in_child(attempt) == denial
    if args is not None:
        differs_without_filter(attempt, denial)


@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "any"])
def test_a_ring_of_before_is_given_buffers_to_hold_and_nothing_else(
    is_sealed: bool,
) -> None:
    if reason := rings.missing():
        pytest.skip(reason)

    def attempt() -> list[int]:
        parameters = ctypes.create_string_buffer(120)
        setup = (NUMBERS["io_uring_setup"], 1, ctypes.addressof(parameters))
        ring = _libc.open_sealed_ring() if is_sealed else call(*setup)
        put_on(HOLDING)
        memory = private_memory(mmap.PAGESIZE)
        held = [(address_of(memory), mmap.PAGESIZE)]
        _libc.hold_buffers(ring, held)
        attempts = [setup, (NUMBERS["io_uring_enter"], ring, 0, 0, 0, 0, 0)]
        # A ring without a seal would know each of the first eleven.
        attempts += [
            (NUMBERS["io_uring_register"], ring, what, 0, 0)
            for what in (*range(1, 50), 0x80000000)
        ]
        return [
            error_of(_libc.hold_buffers, ring, held),
            rings.held_kb(os.getpid()) * 1024,
            *{error_of(call, *words) for words in attempts},
        ]

    assert in_child(attempt, None) == [errno.EBUSY, mmap.PAGESIZE, errno.ENOSYS]


def test_the_memory_of_another_process_is_not_read(
    victim: subprocess.Popen[bytes],
) -> None:
    secret = ctypes.create_string_buffer(b"a secret of the parent")
    parent = os.getpid()

    def read() -> str:
        into = ctypes.create_string_buffer(len(secret))
        vector = ctypes.c_size_t * 2
        ours = vector(ctypes.addressof(into), len(secret))
        theirs = vector(ctypes.addressof(secret), len(secret))
        call(
            "process_vm_readv",
            parent,
            ctypes.addressof(ours),
            1,
            ctypes.addressof(theirs),
            1,
            0,
        )
        return into.value.decode()

    def attach() -> int:
        return call("ptrace", 16, victim.pid, 0, 0)

    assert in_child(read) == "EPERM"
    assert in_child(attach) == "EPERM"
    assert is_alive(victim)
    differs_without_filter(read, "EPERM")


def test_no_namespace_is_made_or_entered() -> None:
    new_user = 0x10000000

    def by_clone() -> int:
        pid = call("clone", new_user | signal.SIGCHLD, 0, 0, 0, 0)
        if pid == 0:
            # At once: this child of a child has nothing to say.
            os._exit(0)
        os.waitpid(pid, 0)
        return 0

    def by_unshare() -> int:
        return call("unshare", new_user)

    def by_entering() -> int:
        fd = os.open("/proc/self/ns/uts", os.O_RDONLY)
        return call("setns", fd, 0)

    for attempt in (by_clone, by_unshare, by_entering):
        assert in_child(attempt) == "EPERM"
    differs_without_filter(by_clone, "EPERM")


def test_no_child_is_given_to_the_parent() -> None:
    clone_parent = 0x8000

    def attempt() -> int:
        pid = call("clone", clone_parent | signal.SIGCHLD, 0, 0, 0, 0)
        if pid == 0:
            # At once: it is pytest's child now, and has nothing to say.
            os._exit(0)
        return pid

    assert in_child(attempt) == "EPERM"
    pid = in_child(attempt, None)
    os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("family", "kind", "protocol"),
    [
        pytest.param(40, socket.SOCK_STREAM, 0, id="vsock"),
        pytest.param(17, socket.SOCK_RAW, 0, id="packet"),
        pytest.param(38, socket.SOCK_SEQPACKET, 0, id="alg"),
        pytest.param(30, socket.SOCK_STREAM, 0, id="tipc"),
        pytest.param(16, socket.SOCK_RAW, 4, id="netlink of others' sockets"),
        pytest.param(16, socket.SOCK_RAW, 9, id="netlink of audit"),
        pytest.param(16, socket.SOCK_RAW, 12, id="netlink of netfilter"),
        pytest.param(16, socket.SOCK_RAW, 15, id="netlink of devices"),
        pytest.param(16, socket.SOCK_RAW, 16, id="netlink of everything else"),
    ],
)
def test_there_are_no_sockets_of_other_families(
    family: int, kind: int, protocol: int
) -> None:
    def attempt() -> str:
        with socket.socket(family, kind, protocol):
            return "made"

    assert in_child(attempt) == "EAFNOSUPPORT"
    differs_without_filter(attempt, "EAFNOSUPPORT")


def test_without_a_network_there_are_sockets_of_this_machine_alone() -> None:
    def attempt() -> list[str]:
        made = []
        for family in (socket.AF_INET, socket.AF_INET6, 16, socket.AF_UNIX):
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM):
                made.append(str(int(family)))
        return made

    assert in_child(attempt, CLOSED) == ["1"]
    assert {"1", "2", "16"} <= set(in_child(attempt, OPEN))
    assert in_child(exchange_descriptors, CLOSED) == "over a pipe"


def test_nothing_is_typed_into_a_terminal() -> None:
    tiocsti, tiocsctty = 0x5412, 0x540E

    def attempt(request: int = tiocsti) -> int:
        _, slave = os.openpty()
        os.setsid()
        fcntl.ioctl(slave, tiocsctty, 0)
        return libc.ioctl(slave, ctypes.c_ulong(request), b"x") and call_errno()

    def attempt_with_a_high_bit() -> int:
        return attempt(1 << 32 | tiocsti)

    assert in_child(attempt) == "EPERM"
    assert in_child(attempt_with_a_high_bit) == "EPERM"
    # Newer kernels have it switched off, and say EIO.
    assert in_child(attempt, None) in (0, "EIO")


def call_errno() -> int:
    raise OSError(ctypes.get_errno(), "")


def test_what_else_a_terminal_can_do_it_still_can() -> None:
    def attempt() -> list[int]:
        _, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x18\0\x50\0\0\0\0\0")
        return list(os.get_terminal_size(slave))

    assert in_child(attempt) == [80, 24]


def test_the_limits_of_others_are_read_and_not_changed(
    victim: subprocess.Popen[bytes],
) -> None:
    limits = resource.prlimit(victim.pid, resource.RLIMIT_NOFILE)

    def change() -> object:
        return resource.prlimit(victim.pid, resource.RLIMIT_NOFILE, (7, limits[1]))

    def read() -> object:
        return resource.prlimit(victim.pid, resource.RLIMIT_NOFILE)

    assert in_child(change) == "EPERM"
    assert resource.prlimit(victim.pid, resource.RLIMIT_NOFILE) == limits
    assert in_child(read) == list(limits)
    in_child(change, None)
    assert resource.prlimit(victim.pid, resource.RLIMIT_NOFILE)[0] == 7


def test_the_scheduling_of_others_is_not_changed(
    victim: subprocess.Popen[bytes],
) -> None:
    pid = victim.pid
    attempts: list[Callable[[], object]] = [
        lambda: os.sched_setaffinity(pid, os.sched_getaffinity(0)),
        lambda: os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0)),
        lambda: os.sched_setparam(pid, os.sched_param(0)),
        lambda: os.setpriority(os.PRIO_PROCESS, pid, 5),
        lambda: os.setpriority(os.PRIO_PGRP, pid, 5),
        lambda: os.setpriority(os.PRIO_USER, 0, 5),
        lambda: call("ioprio_set", 1, pid, 3 << 13),
        lambda: call("ioprio_set", 2, pid, 3 << 13),
    ]
    for attempt in attempts:
        assert in_child(attempt) == "EPERM"
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0)
    assert in_child(attempts[3], None) is None
    assert os.getpriority(os.PRIO_PROCESS, pid) == 5


def test_ones_own_scheduling_and_limits_are_ones_own() -> None:
    def attempt() -> list[object]:
        os.sched_setaffinity(0, os.sched_getaffinity(0))
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        call("ioprio_set", 1, 0, 3 << 13)
        before = os.getpriority(os.PRIO_PROCESS, 0)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        resource.prlimit(0, resource.RLIMIT_CORE, (0, 0))
        return [os.nice(1) - before, resource.getrlimit(resource.RLIMIT_NOFILE)[0]]

    assert in_child(attempt) == [1, 64]


class Code(NamedTuple):
    """A few bytes of a program, as a function; keep it while the function is used."""

    memory: mmap.mmap
    run: Callable[[], int]


def machine_code(text: bytes) -> Code:
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=7)
    memory.write(text)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return Code(memory, ctypes.CFUNCTYPE(ctypes.c_int)(address))


@pytest.mark.skipif(MACHINE != "x86_64", reason="x86 has two other sets of numbers")
def test_the_32_bit_door_of_x86_ends_the_process() -> None:
    # getpid() of the old kind: mov eax, 20; int 0x80; ret
    def attempt() -> int:
        code = machine_code(b"\xb8\x14\0\0\0\xcd\x80\xc3")
        # How it ends is what is wanted; pytest's stacks of it are not.
        faulthandler.disable()
        return int(code.run() == os.getpid())

    without = in_child(attempt, None)
    if without != 1:
        pytest.skip(f"this kernel has no 32-bit calls: {without}")
    assert in_child(attempt) == Ended(-signal.SIGSYS)


@pytest.mark.skipif(MACHINE != "x86_64", reason="written in its machine code")
def test_machine_code_itself_is_nothing_a_filter_minds() -> None:
    # getpid() of the usual kind: mov eax, 39; syscall; ret
    def attempt() -> int:
        code = machine_code(b"\xb8\x27\0\0\0\x0f\x05\xc3")
        return int(code.run() == os.getpid())

    assert in_child(attempt) == 1


@pytest.mark.skipif(MACHINE != "x86_64", reason="x86 has two other sets of numbers")
def test_the_second_set_of_numbers_of_x86_is_not_there() -> None:
    for name in ("ptrace", "unshare", "clone"):
        assert in_child(lambda name=name: call(0x40000000 | NUMBERS[name])) == "ENOSYS"
    for number in (39, 512, 521, 547):
        assert in_child(lambda number=number: call(0x40000000 | number)) == "ENOSYS"


def is_subreaper() -> bool:
    answer = ctypes.c_int(-1)
    call("prctl", 37, ctypes.addressof(answer), 0, 0, 0)
    return bool(answer.value)


def daemonise() -> int:
    """Return the pid of an orphan, which ends as soon as it is one."""
    read_end, write_end = os.pipe()
    # Safe because there is one thread.
    between = os.fork()
    if between == 0:
        daemon = os.fork()
        if daemon:
            os.write(write_end, str(daemon).encode())
        # At once: neither has anything else to say.
        os._exit(0)
    os.waitpid(between, 0)
    return int(os.read(read_end, 16))


def test_a_subreaper_stays_one() -> None:
    def stop() -> int:
        _libc.become_subreaper()
        return call("prctl", 36, 0, 0, 0, 0)

    def keep_daemons() -> list[object]:
        _libc.become_subreaper()
        with contextlib.suppress(PermissionError):
            call("prctl", 36, 0, 0, 0, 0)
        daemon = daemonise()
        return [is_subreaper(), os.waitpid(daemon, 0)[0] == daemon]

    assert in_child(stop) == "EPERM"
    assert in_child(stop, None) == 0
    assert in_child(keep_daemons) == [True, True]
    assert in_child(keep_daemons, None) == "ECHILD"


def test_a_child_of_a_filtered_process_becomes_a_subreaper_and_stays_one() -> None:
    def attempt() -> list[object]:
        # As a worker does, when the zygote has put on the filter.
        def become_it() -> list[object]:
            before = is_subreaper()
            _libc.become_subreaper()
            call("prctl", 36, 1 << 32, 0, 0, 0)
            return [before, is_subreaper()]

        def stop() -> int:
            _libc.become_subreaper()
            return call("prctl", 36, 0, 0, 0, 0)

        return [in_child(become_it, None), in_child(stop, None)]

    assert in_child(attempt) == [[False, True], "EPERM"]


def test_the_other_options_of_a_process_are_its_own() -> None:
    def attempt() -> bool:
        set_name, set_dumpable, set_death_signal = 15, 4, 1
        name = ctypes.create_string_buffer(b"renamed")
        call("prctl", set_name, ctypes.addressof(name), 0, 0, 0)
        call("prctl", set_dumpable, 0, 0, 0, 0)
        call("prctl", set_death_signal, 0, 0, 0, 0)
        return Path("/proc/self/comm").read_text() == "renamed\n"

    assert in_child(attempt) is True


class Target(NamedTuple):
    """What a file's mode is set on: a file that is there, or one to be made."""

    file: Path
    new: Path
    mode: int

    def address(self, path: Path) -> int:
        """Return where the name of a path is, for good."""
        name = ctypes.create_string_buffer(os.fsencode(path))
        KEPT.append(name)
        return ctypes.addressof(name)


#: Names that the kernel reads after their variable is gone.
KEPT: list[object] = []
HERE = -100
CREATE = os.O_CREAT | os.O_WRONLY


def open_by_memory(target: Target) -> int:
    # struct open_how: flags, mode, resolve
    how = (ctypes.c_uint64 * 3)(CREATE, target.mode, 0)
    return call("openat2", HERE, target.address(target.new), ctypes.addressof(how), 24)


def make_unnamed(target: Target) -> None:
    """Make a file without a name, then give it one."""
    folder = target.address(target.new.parent)
    flags = os.O_TMPFILE | os.O_WRONLY
    fd = call("openat", HERE, folder, flags, target.mode)
    here = os.open(target.new.parent, os.O_RDONLY)
    # Without a folder to start from, Python makes the call that follows no link.
    os.link(f"/proc/self/fd/{fd}", target.new.name, dst_dir_fd=here)


WAYS_TO_SET_A_MODE: dict[str, Callable[[Target], object]] = {
    "chmod": lambda to: call("chmod", to.address(to.file), to.mode),
    "fchmod": lambda to: call("fchmod", os.open(to.file, os.O_RDONLY), to.mode),
    "fchmodat": lambda to: call("fchmodat", HERE, to.address(to.file), to.mode),
    "fchmodat2": lambda to: call("fchmodat2", HERE, to.address(to.file), to.mode, 0),
    "mknod": lambda to: call("mknod", to.address(to.new), stat.S_IFREG | to.mode, 0),
    "mknodat": lambda to: call(
        "mknodat", HERE, to.address(to.new), stat.S_IFREG | to.mode, 0
    ),
    "creat": lambda to: call("creat", to.address(to.new), to.mode),
    "open": lambda to: call("open", to.address(to.new), CREATE, to.mode),
    "openat": lambda to: call("openat", HERE, to.address(to.new), CREATE, to.mode),
    "openat2": open_by_memory,
    "a file without a name": make_unnamed,
    # However the libraries of this machine do it.
    "os.chmod": lambda to: to.file.chmod(to.mode),
    "os.open": lambda to: os.open(to.new, CREATE, to.mode),
}
#: One that is not a call's name is there on every machine.
WAYS_HERE = [
    way
    for way in WAYS_TO_SET_A_MODE
    if way in NUMBERS or way not in ("chmod", "creat", "mknod", "open")
]


def mode_given(
    way: str, mode: int, wanted: SystemCalls | None, folder: Path
) -> int | str:
    """Return what mode a file has in the end, or which error there was instead."""
    target = Target(folder / "file", folder / "new", mode)
    target.new.unlink(missing_ok=True)
    target.file.unlink(missing_ok=True)
    target.file.touch(0o600)

    def attempt() -> None:
        os.umask(0)
        WAYS_TO_SET_A_MODE[way](target)

    error = in_child(attempt, wanted)
    last = target.new if target.new.exists() else target.file
    given = stat.S_IMODE(last.stat().st_mode)
    if error is not None:
        assert (last, given) == (target.file, 0o600)
        return str(error)
    return given


@pytest.mark.parametrize("way", WAYS_HERE)
def test_no_file_gets_the_set_user_id_bit_where_workers_are_root(
    way: str, tmp_path: Path
) -> None:
    without = mode_given(way, 0o4755, None, tmp_path)
    if without != 0o4755:
        pytest.skip(f"it does not work without a filter: {without}")
    denial = "ENOSYS" if way == "openat2" else "EPERM"
    assert mode_given(way, 0o4755, AS_ROOT, tmp_path) == denial
    assert mode_given(way, 0o6711, AS_ROOT, tmp_path) == denial
    assert mode_given(way, 0o4755, OPEN, tmp_path) == 0o4755


@pytest.mark.parametrize("way", [way for way in WAYS_HERE if way != "openat2"])
@pytest.mark.parametrize("mode", [0o755, 0o640, 0o2755])
def test_a_file_gets_every_other_mode_where_workers_are_root(
    way: str, mode: int, tmp_path: Path
) -> None:
    without = mode_given(way, mode, None, tmp_path)
    if without != mode:
        pytest.skip(f"it does not work without a filter: {without}")
    assert mode_given(way, mode, AS_ROOT, tmp_path) == mode


def test_folders_are_made_with_any_mode_where_workers_are_root(tmp_path: Path) -> None:
    def attempt() -> None:
        os.umask(0)
        (tmp_path / "one").mkdir(0o700)
        # What the kernel leaves of it is no more than this.
        (tmp_path / "two").mkdir(0o4755)
        (tmp_path / "one").chmod(0o3777)

    assert in_child(attempt, AS_ROOT) is None
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o3777
    assert stat.S_IMODE((tmp_path / "two").stat().st_mode) == 0o755


def guarding(process: subprocess.Popen[bytes]) -> SystemCalls:
    return SystemCalls(has_network=True, guarded=(process.pid,))


def own(descriptor: int, pid: int) -> int:
    """Have a pid killed as soon as there is something to read."""
    set_signal = 10
    fcntl.fcntl(descriptor, set_signal, int(signal.SIGKILL))
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, pid)
    return fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_ASYNC)


def kill_by_input(pid: int) -> None:
    read_end, write_end = os.pipe()
    own(read_end, pid)
    os.write(write_end, b"x")


def kill_by_file_of_pid(pid: int) -> None:
    # What a filter cannot tell from a process's own: a folder in place of a pidfd.
    folder = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY)
    call("pidfd_send_signal", folder, signal.SIGKILL, 0, 0)


def own_by_request(pid: int) -> None:
    ours, _ = socket.socketpair()
    fcntl.ioctl(ours, 0x8901, pid.to_bytes(4, "little"))


WAYS_TO_KILL = {
    "kill": lambda pid: os.kill(pid, signal.SIGKILL),
    "its group": lambda pid: os.killpg(pid, signal.SIGKILL),
    "a thread": lambda pid: call("tkill", pid, signal.SIGKILL),
    "a thread of a process": lambda pid: call("tgkill", pid, pid, signal.SIGKILL),
    "a pidfd": lambda pid: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL),
    "a folder of proc": kill_by_file_of_pid,
    "input on a pipe": kill_by_input,
}


@pytest.mark.parametrize("way", WAYS_TO_KILL)
def test_the_guarded_are_not_killed(way: str, victim: subprocess.Popen[bytes]) -> None:
    def attempt() -> object:
        return WAYS_TO_KILL[way](victim.pid)

    denial = "ENOSYS" if way == "a folder of proc" else "EPERM"
    assert in_child(attempt, guarding(victim)) == denial
    assert is_alive(victim)
    # The way is one: without a guard it ends the victim.
    in_child(attempt, OPEN)
    assert victim.wait(10) == -signal.SIGKILL


def test_the_guarded_do_not_come_to_own_a_descriptor(
    victim: subprocess.Popen[bytes],
) -> None:
    def attempt() -> None:
        own_by_request(victim.pid)

    assert in_child(attempt, guarding(victim)) == "EPERM"
    assert in_child(attempt, OPEN) is None


def test_a_signal_to_everybody_is_denied_where_some_are_guarded(
    victim: subprocess.Popen[bytes],
) -> None:
    # Number 0 asks whether it could be sent, and sends nothing.
    def attempt() -> None:
        os.kill(-1, 0)

    assert in_child(attempt, guarding(victim)) == "EPERM"
    assert in_child(attempt, OPEN) is None


def test_ones_own_children_are_killed_where_others_are_guarded(
    victim: subprocess.Popen[bytes],
) -> None:
    def attempt() -> list[int]:
        with subprocess.Popen(["sleep", "60"], start_new_session=True) as first:
            pidfd = os.pidfd_open(first.pid)
            os.killpg(first.pid, signal.SIGTERM)
            select.select([pidfd], [], [], 10)
        with subprocess.Popen(["sleep", "60"]) as second:
            second.kill()
        fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getpid())
        return [first.returncode, second.returncode]

    assert in_child(attempt, guarding(victim)) == [-signal.SIGTERM, -signal.SIGKILL]


def exchange_descriptors() -> str:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read_end, write_end = os.pipe()
    socket.send_fds(ours, [b"here"], [write_end])
    _, (received,), _, _ = socket.recv_fds(theirs, 16, 1)
    os.write(received, b"over a pipe")
    return os.read(read_end, 32).decode()


@pytest.mark.parametrize("wanted", [OPEN, AS_ROOT], ids=["open", "as root"])
def test_a_zygote_can_do_its_work_under_the_filter(
    wanted: SystemCalls, tmp_path: Path
) -> None:
    def attempt() -> list[object]:
        os.setsid()
        os.makedirs(tmp_path / "of" / "a cell", 0o700)  # noqa: PTH103 - as it does it
        _libc.become_subreaper()
        _libc.set_dumpable(False)
        memory = os.memfd_create("shared")
        os.write(memory, b"m")
        # Safe because there is one thread.
        pid = os.fork()
        if pid == 0:
            # Whatever comes of it, the child ends here.
            try:
                become_worker()
                os._exit(3)
            finally:
                os._exit(1)
        pidfd = os.pidfd_open(pid)
        select.select([pidfd], [], [], 10)
        _, status, _ = os.wait4(pid, 0)
        return [os.waitstatus_to_exitcode(status), exchange_descriptors()]

    assert in_child(attempt, wanted) == [3, "over a pipe"]


def become_worker() -> None:
    """Do what a worker does to itself after the fork."""
    assert _libc.die_with_parent(os.getppid())
    _libc.become_subreaper()
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        # Kernels without Landlock have no rules to go by.
        handled = (1).to_bytes(8, "little")
        ruleset = _libc.landlock_create_ruleset(handled)
        _libc.landlock_restrict_self(ruleset)
        os.close(ruleset)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(61234, 61234, 61234)
        os.setresuid(61234, 61234, 61234)
    _libc.set_capabilities(0, 0, 0)
    # A second filter, as a browser or a nested sandbox has.
    seccomp.install(program(CLOSED))
    os.closerange(100, 200)


LAUNCHER = """
import os, sys
from isoruntime.sandbox import _libc, seccomp
_libc.set_no_new_privileges()
seccomp.install(bytes.fromhex(sys.argv[1]))
os.execvp(sys.argv[2], sys.argv[2:])
"""


def run_filtered(
    *command: str, wanted: SystemCalls = OPEN, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-c", LAUNCHER, program(wanted).hex()]
    # Those packages too that this process has from its environment.
    found = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    return subprocess.run(
        [*launcher, *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": found},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


ORDINARY_PYTHON = {
    "a subprocess": """
        import subprocess
        print(subprocess.run(["ls", "-l", "/"], capture_output=True, check=True).stdout)
        subprocess.run("ls / | wc -l", shell=True, check=True)
    """,
    "threads": """
        import threading
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(int, "12345678")) == 36
    """,
    "a pool of processes": """
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(abs, [-1, -2]) == [1, 2]
    """,
    "spawned processes and locks": """
        import multiprocessing
        if __name__ == "__main__":
            context = multiprocessing.get_context("forkserver")
            lock = context.Lock()
            process = context.Process(target=print, args=("hello",))
            process.start()
            process.join()
            assert process.exitcode == 0
    """,
    "shared memory": """
        from multiprocessing import shared_memory
        memory = shared_memory.SharedMemory(create=True, size=64)
        memory.buf[0] = 1
        memory.close()
        memory.unlink()
    """,
    "sockets on loopback": """
        import socket
        server = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        client.sendall(b"hello")
        assert peer.recv(9) == b"hello"
        assert socket.getaddrinfo("localhost", 80, flags=socket.AI_ADDRCONFIG)
    """,
    "asyncio and its children": """
        import asyncio
        async def main():
            process = await asyncio.create_subprocess_exec("true")
            assert await process.wait() == 0
            await asyncio.to_thread(print, "hello")
        asyncio.run(main())
    """,
    "a list of interfaces": """
        import psutil, socket
        assert psutil.net_if_addrs() and socket.if_nameindex()
        assert psutil.Process().rlimit(psutil.RLIMIT_NOFILE)
    """,
    "a database": """
        import sqlite3, tempfile
        with tempfile.TemporaryDirectory() as folder:
            database = sqlite3.connect(folder + "/file.db")
            database.execute("pragma journal_mode=wal")
            database.execute("create table numbers (number)")
            database.commit()
            database.close()
    """,
    "a stopwatch and signals": """
        import signal, time, os
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        signal.pause()
        os.kill(os.getpid(), 0)
        assert time.clock_gettime(time.CLOCK_MONOTONIC) > 0
    """,
}


@pytest.mark.parametrize("wanted", [OPEN, AS_ROOT], ids=["open", "as root"])
@pytest.mark.parametrize("what", ORDINARY_PYTHON)
def test_ordinary_python_works_under_the_filter(
    what: str, wanted: SystemCalls, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(ORDINARY_PYTHON[what]))
    ran = run_filtered(sys.executable, str(script), wanted=wanted)
    assert (ran.returncode, ran.stderr) == (0, "")


C_PROGRAM = '#include <stdio.h>\nint main(void) { puts("compiled"); return 0; }\n'
NODE_PROGRAM = """
const os = require("os");
const names = Object.keys(os.networkInterfaces());
const child = require("child_process").execFileSync("echo", ["child"]);
require("dns").lookup("localhost", (error) => {
  require("fs").readFile("/proc/self/stat", () => {
    console.log(names.length > 0 && !error && child.toString().trim());
  });
});
"""


@pytest.mark.parametrize(
    ("command", "prints"),
    [
        pytest.param(["node", "-e", NODE_PROGRAM], "child", id="node"),
        pytest.param(["git", "--version"], "git version", id="git"),
        pytest.param(["git", "init", "."], "repository", id="a repository"),
        pytest.param(
            ["git", "init", "--shared", "."], "shared", id="a shared repository"
        ),
        pytest.param(["tar", "-xpvf", "archive.tar"], "program", id="an archive"),
        pytest.param(
            ["sh", "-c", "gcc -o made made.c && ./made"], "compiled", id="gcc"
        ),
        pytest.param(["nice", "-n", "5", "nice"], "5", id="nice"),
        pytest.param(["taskset", "-c", "0", "echo", "one"], "one", id="taskset"),
        pytest.param(["ionice", "-c", "3", "echo", "idle"], "idle", id="ionice"),
        pytest.param(
            ["prlimit", "--nofile=64", "sh", "-c", "ulimit -n"], "64", id="prlimit"
        ),
    ],
)
@pytest.mark.parametrize("wanted", [OPEN, AS_ROOT], ids=["open", "as root"])
def test_ordinary_programs_work_under_the_filter(
    command: list[str], prints: str, wanted: SystemCalls, tmp_path: Path
) -> None:
    needed = "gcc" if "gcc" in command[-1] else command[0]
    if shutil.which(needed) is None:
        pytest.skip(f"{needed} is not installed")
    (tmp_path / "made.c").write_text(C_PROGRAM)
    pack(tmp_path / "archive.tar", {"folder": 0o2775, "folder/program": 0o755})
    ran = run_filtered(*command, wanted=wanted, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert prints in ran.stdout


def pack(archive: Path, modes: dict[str, int]) -> None:
    """Make an archive of folders and, below them, empty programs."""
    with tarfile.open(archive, "w") as pile:
        for name, mode in modes.items():
            member = tarfile.TarInfo(name)
            member.type = tarfile.REGTYPE if "/" in name else tarfile.DIRTYPE
            member.mode, member.uid, member.gid = mode, os.getuid(), os.getgid()
            pile.addfile(member)


def test_an_archive_brings_set_group_id_folders_and_no_set_user_id_programs(
    tmp_path: Path,
) -> None:
    archive = tmp_path / "archive.tar"
    pack(archive, {"folder": 0o2775, "folder/good": 0o2755, "folder/bad": 0o4755})

    def unpack(*names: str) -> None:
        with tarfile.open(archive) as pile:
            for name in names:
                # By hand, as releases of Python differ in what they leave of a mode.
                pile.extract(name, tmp_path, set_attrs=False)
                (tmp_path / name).chmod(pile.getmember(name).mode)

    assert in_child(lambda: unpack("folder", "folder/good"), AS_ROOT) is None
    assert in_child(lambda: unpack("folder/bad"), AS_ROOT) == "EPERM"
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) & 0o6000
        for path in tmp_path.rglob("*")
    }
    assert modes == {"archive.tar": 0, "folder": 0o2000, "good": 0o2000, "bad": 0}


def test_a_program_that_is_executed_is_inside_as_well() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    ran = run_filtered("sh", "-c", "unshare --user true || echo denied")
    assert ran.stdout == "denied\n"
    assert "Operation not permitted" in ran.stderr


def test_a_filter_wants_no_new_privileges_first() -> None:
    def attempt() -> None:
        _libc.set_capabilities(0, 0, 0)
        seccomp.install(program(OPEN))

    assert in_child(attempt, None) == "EACCES"
