"""What attacks are made of: system calls by number, victims, and looking for secrets.

Runs inside a worker; standard library only. A canary is a secret that a test has
planted somewhere; attacks report every one they come across, and the test knows which
of them they must not have seen.
"""

# Attacks are system calls, as they are.
# ruff: noqa: BLE001, PTH110, PTH115, PTH118, PTH120, PTH208

from __future__ import annotations

import ctypes
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
CANARY = re.compile(rb"CANARY-[a-z]+-[0-9a-f]{16}")
#: Larger areas of memory are no heap of ours.
_MOST_AT_ONCE = 64 << 20
_SMALL_FILE = 1 << 16

_NAMES = (
    "clone unshare setns mount ptrace process_vm_readv process_vm_writev tgkill "
    "rt_sigqueueinfo ioprio_set add_key keyctl bpf perf_event_open userfaultfd "
    "memfd_create kcmp chroot name_to_handle_at open_by_handle_at modify_ldt"
)
_X86_64 = (
    "56 272 308 165 101 310 311 234 129 251 248 250 321 298 323 319 312 161 303 304 154"
)
_AARCH64 = (
    "220 97 268 40 117 270 271 131 138 30 217 219 280 241 282 279 272 51 264 265 -1"
)
_NUMBERS = {
    "x86_64": dict(zip(_NAMES.split(), map(int, _X86_64.split()), strict=True)),
    "aarch64": dict(zip(_NAMES.split(), map(int, _AARCH64.split()), strict=True)),
}[os.uname().machine]
#: The same everywhere.
_NUMBERS |= {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "open_tree": 428,
    "fsopen": 430,
    "clone3": 435,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "memfd_secret": 447,
}


def syscall(name: str, *arguments: Any) -> int:
    """Make a system call; OSError if it fails."""
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = LIBC.syscall(ctypes.c_long(_NUMBERS[name]), *words)
    if result == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{name}: {os.strerror(errno)}")
    return result


def checked(result: int, what: str) -> int:
    """Return the result of a C function; OSError if it is -1."""
    if result == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")
    return result


class Scene:
    """Who is there to be attacked, and what came of it.

    Numbers of processes are those of the runtime's namespace. With `may_scan` the
    runtime is alone with us in a namespace, so whoever else can be seen is fair game.
    In a cell with a namespace of its own such a number may be ours: then it is nobody's.
    """

    def __init__(self, event: dict[str, Any], context: Any) -> None:
        self.event = event
        self.context = context
        self.front = _somebody_else(event, "front")
        self.zygote = _somebody_else(event, "zygote")
        self.neighbour = _somebody_else(event, "neighbour")
        self.worked: list[str] = []
        self.failed: list[str] = []
        self.canaries: set[str] = set()

    def attempt(self, what: str, action: Callable[[], Any]) -> Any:
        """Do something, and note whether it could be done."""
        try:
            result = action()
        except (OSError, ValueError, ImportError, AttributeError) as error:
            self.failed.append(f"{what}: {error}")
            return None
        self.worked.append(what)
        return result

    def collect(self, data: bytes) -> int:
        """Note the canaries in `data`; return how many there are."""
        found = {one.decode() for one in CANARY.findall(data)}
        self.canaries |= found
        return len(found)

    def reached(self) -> None:
        """Say that the attack has been tried, and hold still while the test looks."""
        print(f"tried {self.event['id']}", flush=True)
        wait_for(self.event["gate"])

    def everybody(self) -> list[int]:
        """Return the victims, and whoever else can be seen, without this process."""
        known = [self.front, self.zygote, self.neighbour, os.getppid()]
        if self.event.get("may_scan"):
            known += [int(name) for name in os.listdir("/proc") if name.isdigit()]
        mine = os.getpid()
        return [pid for pid in dict.fromkeys(known) if pid > 1 and pid != mine]


def _somebody_else(event: dict[str, Any], name: str) -> int:
    number = int(event.get(name, 0))
    # Two namespaces: that of system calls, and the one that /proc was mounted in.
    is_ours = {os.getpid(), int(os.readlink("/proc/self"))} == {number}
    return 0 if is_ours else number


def wait_for(gate: str, within_s: float = 10.0) -> None:
    """Wait until there is a file of that name."""
    end = time.monotonic() + within_s
    while not os.path.exists(gate) and time.monotonic() < end:
        time.sleep(0.002)


def folders_above(folder: str) -> list[str]:
    """Name the folders around our temporary one that are the runtime's, nearest first."""
    found = []
    while "isoruntime-" in folder:
        folder = os.path.dirname(folder)
        found.append(folder)
    return found[:-1]


def read_file(path: str) -> bytes:
    """Return what a file holds, if it is small."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(fd, _SMALL_FILE)
    finally:
        os.close(fd)


def files_below(folder: str) -> Iterator[str]:
    """Name every file below a folder."""
    for at, _, names in os.walk(folder):
        for name in names:
            yield os.path.join(at, name)


def in_a_child(action: Callable[[], Any]) -> bytes:
    """Return what an action wrote, done in a child that has executed nothing."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write_end, str(action()).encode()[:4000])
        except BaseException as error:
            os.write(write_end, f"failed: {error}".encode()[:4000])
        finally:
            os._exit(0)
    os.close(write_end)
    said = b""
    while chunk := os.read(read_end, 4096):
        said += chunk
    os.close(read_end)
    os.waitpid(pid, 0)
    return said


def areas_of(pid: int | str) -> list[tuple[int, int]]:
    """Return the writable private areas of a process's memory.

    Where they cannot be read, our own are a good guess: every fork of one zygote has
    the same layout.
    """
    try:
        listed = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        listed = Path("/proc/self/maps").read_text()
    found = []
    for line in listed.splitlines():
        where, permissions, *_ = line.split()
        start, end = (int(word, 16) for word in where.split("-"))
        if permissions.startswith("rw") and end - start <= _MOST_AT_ONCE:
            found.append((start, end))
    return found


def memory_of(pid: int | str) -> Iterator[tuple[int, bytes]]:
    """Read the memory of a process through /proc."""
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        for start, end in areas_of(pid):
            try:
                yield start, os.pread(fd, end - start, start)
            except OSError:
                continue
    finally:
        os.close(fd)


class Vector(ctypes.Structure):
    """`struct iovec`."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def remote_memory_of(pid: int) -> Iterator[bytes]:
    """Read the memory of a process through process_vm_readv."""
    refused = None
    has_read = False
    for start, end in areas_of(pid):
        buffer = ctypes.create_string_buffer(end - start)
        local = Vector(ctypes.addressof(buffer), end - start)
        remote = Vector(start, end - start)
        try:
            syscall(
                "process_vm_readv",
                pid,
                ctypes.byref(local),
                1,
                ctypes.byref(remote),
                1,
                0,
            )
        except OSError as error:
            refused = error
            continue
        has_read = True
        yield buffer.raw
    if not has_read and refused is not None:
        raise refused


def set_name(name: str) -> None:
    """Give this process a name that everybody can see."""
    pr_set_name = 15
    LIBC.prctl(pr_set_name, name.encode(), 0, 0, 0)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
