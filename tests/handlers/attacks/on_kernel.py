"""Attacks on the kernel's surface: interfaces no function needs, and exploits do.

Each asks for the real thing and gives it back at once.
"""

# Attacks are system calls, as they are.
# ruff: noqa: B023, D401, PTH115

from __future__ import annotations

import ctypes
import fcntl
import os
import pty
import socket
import struct
from collections.abc import Callable
from typing import Any

from means import LIBC, Scene, in_a_child, syscall

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER = 0x20000, 0x4000000, 0x8000000, 0x10000000
_NEWPID, _NEWNET, _NEWCGROUP = 0x20000000, 0x40000000, 0x2000000
_SIGCHLD = 17
_TIOCSCTTY, _TIOCSTI = 0x540E, 0x5412
_ADDR_NO_RANDOMIZE = 0x40000
_AF_PACKET, _AF_VSOCK, _AF_ALG = 17, 40, 38


def _opened(scene: Scene, what: str, opening: Callable[[], int]) -> bool:
    fd = scene.attempt(what, opening)
    if fd is not None:
        os.close(fd)
    return fd is not None


def _socket(scene: Scene, what: str, *kind: int) -> bool:
    made = scene.attempt(what, lambda: socket.socket(*kind))
    if made is not None:
        made.close()
    return made is not None


def _namespace(flag: int, name: str) -> str:
    def leave() -> str:
        before = os.readlink(f"/proc/self/ns/{name}")
        syscall("unshare", flag)
        return "" if os.readlink(f"/proc/self/ns/{name}") == before else "left"

    return in_a_child(leave).decode()


def user_namespace(scene: Scene) -> bool:
    return _namespace(_NEWUSER, "user") == "left"


def user_namespace_by_clone(scene: Scene) -> bool:
    pid = scene.attempt(
        "clone", lambda: syscall("clone", _NEWUSER | _SIGCHLD, 0, 0, 0, 0)
    )
    if pid == 0:
        os._exit(0)
    if pid:
        os.waitpid(pid, 0)
    return bool(pid)


def user_namespace_by_clone3(scene: Scene) -> bool:
    # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, …
    arguments = ctypes.create_string_buffer(
        struct.pack("=8Q", _NEWUSER, 0, 0, 0, _SIGCHLD, 0, 0, 0)
    )
    pid = scene.attempt("clone3", lambda: syscall("clone3", arguments, 64))
    if pid == 0:
        os._exit(0)
    if pid:
        os.waitpid(pid, 0)
    return bool(pid)


def other_namespaces(scene: Scene) -> str:
    kinds = (
        (_NEWNS, "mnt"),
        (_NEWUTS, "uts"),
        (_NEWIPC, "ipc"),
        (_NEWNET, "net"),
        (_NEWCGROUP, "cgroup"),
    )
    return " ".join(name for flag, name in kinds if _namespace(flag, name) == "left")


def join_namespaces(scene: Scene) -> bool:
    """Enter the namespaces of whoever can be seen."""

    def enter() -> str:
        for pid in (scene.front, scene.zygote, 1):
            for name in ("mnt", "pid", "net", "user"):
                try:
                    fd = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY)
                    syscall("setns", fd, 0)
                except OSError:
                    continue
                return "entered"
        return ""

    return in_a_child(enter) == b"entered"


def mounting(scene: Scene) -> str:
    """Lay something of ours over the system's files; in the namespace that is."""

    def cover() -> str:
        done = LIBC.mount(b"none", b"/mnt", b"tmpfs", ctypes.c_ulong(0), None)
        if done == 0:
            LIBC.umount2(b"/mnt", 2)
        return "mounted" if done == 0 else ""

    ways = [in_a_child(cover).decode()]
    # The newer calls for the same.
    if _opened(scene, "fsopen", lambda: syscall("fsopen", b"tmpfs", 1)):
        ways.append("fsopen")
    return " ".join(way for way in ways if way)


def change_root(scene: Scene) -> bool:
    """Be elsewhere: what climbs out of a root is another change of root."""

    def change() -> str:
        syscall("chroot", b"/usr")
        return "changed"

    return in_a_child(change) == b"changed"


def io_uring(scene: Scene) -> bool:
    parameters = ctypes.create_string_buffer(120)
    return _opened(scene, "setup", lambda: syscall("io_uring_setup", 1, parameters))


def user_faults(scene: Scene) -> bool:
    """Pages whose absence we decide on: every second exploit of the kernel uses them."""
    for flags in (0, 1):
        if _opened(scene, "call", lambda: syscall("userfaultfd", flags)):
            return True
    return False


def bpf(scene: Scene) -> bool:
    # BPF_MAP_CREATE of an array: key 4, value 4, one entry.
    attributes = ctypes.create_string_buffer(struct.pack("=5I", 2, 4, 4, 1, 0), 128)
    return _opened(scene, "map", lambda: syscall("bpf", 0, attributes, 128))


def key_service(scene: Scene) -> bool:
    get_id, of_session, process = 0, -3, -2
    for which in (of_session, process):
        if scene.attempt("keyctl", lambda: syscall("keyctl", get_id, which, 1)):
            return True
    return False


def perf_events(scene: Scene) -> bool:
    # A software event of this process, user space only.
    attributes = ctypes.create_string_buffer(128)
    struct.pack_into("=IIQ", attributes, 0, 1, 128, 0)
    struct.pack_into("=Q", attributes, 40, 1 | 1 << 5 | 1 << 6)
    return _opened(
        scene, "open", lambda: syscall("perf_event_open", attributes, 0, -1, -1, 0)
    )


def trace_a_child(scene: Scene) -> bool:
    traceme = 0
    return in_a_child(lambda: f"ok{syscall('ptrace', traceme, 0, 0, 0)}") == b"ok0"


def compare_kernel_objects(scene: Scene) -> bool:
    me, files = os.getpid(), 2
    return (
        scene.attempt("kcmp", lambda: syscall("kcmp", me, me, files, 0, 0)) is not None
    )


def open_by_handle(scene: Scene) -> bool:
    """Open files by number, past every folder that is closed to us."""

    def open_root() -> int:
        # struct file_handle: 128 bytes of room; the name is that of the root.
        handle = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0), 136)
        mount_id = ctypes.c_int()
        at_cwd = -100
        syscall("name_to_handle_at", at_cwd, b"/", handle, ctypes.byref(mount_id), 0)
        base = os.open("/", os.O_RDONLY)
        try:
            return syscall("open_by_handle_at", base, handle, 0)
        finally:
            os.close(base)

    return _opened(scene, "handle", open_root)


def secret_memory(scene: Scene) -> bool:
    return _opened(scene, "memfd_secret", lambda: syscall("memfd_secret", 0))


def virtual_sockets(scene: Scene) -> bool:
    """A way to the host of a virtual machine that no firewall sees."""
    return _socket(scene, "vsock", _AF_VSOCK, socket.SOCK_STREAM)


def netlink(scene: Scene) -> bool:
    """All but the list of interfaces: sockets of others, filters, audit, and the like."""
    sock_diag, audit, netfilter, kobject_uevent, generic = 4, 9, 12, 15, 16
    protocols = (sock_diag, audit, netfilter, kobject_uevent, generic)
    return any(
        [
            _socket(scene, f"{one}", socket.AF_NETLINK, socket.SOCK_RAW, one)
            for one in protocols
        ]
    )


def raw_sockets(scene: Scene) -> bool:
    return _socket(scene, "raw", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


def packet_sockets(scene: Scene) -> bool:
    return _socket(scene, "packet", _AF_PACKET, socket.SOCK_RAW, 0)


def crypto_sockets(scene: Scene) -> bool:
    return _socket(scene, "alg", _AF_ALG, socket.SOCK_SEQPACKET, 0)


def old_system_calls(scene: Scene) -> bool:
    """The same calls under the numbers of another convention."""
    if os.uname().machine != "x86_64":
        raise ValueError("x86_64 has another convention, and nobody else")
    x32, getpid = 0x40000000, 39
    unshare = 272

    def ask() -> str:
        if LIBC.syscall(ctypes.c_long(x32 | getpid)) == os.getpid():
            return "answered"
        result = LIBC.syscall(ctypes.c_long(x32 | unshare), ctypes.c_long(_NEWUSER))
        return "answered" if result == 0 else ""

    return in_a_child(ask) == b"answered"


def type_for_others(scene: Scene) -> bool:
    """Type into the terminal that the operator looks at."""

    def push() -> str:
        _, slave = pty.openpty()
        os.setsid()
        fcntl.ioctl(slave, _TIOCSCTTY, 0)  # ours, so that typing is allowed at all
        fcntl.ioctl(slave, _TIOCSTI, b"x")
        return "typed"

    return in_a_child(push) == b"typed"


def host_name(scene: Scene) -> bool:
    was = socket.gethostname()
    return scene.attempt("name", lambda: socket.sethostname(was) or True) is True  # type: ignore[func-returns-value]


def fixed_addresses(scene: Scene) -> bool:
    """Have programs run where an exploit expects them: for ours, that is their affair."""
    return LIBC.personality(ctypes.c_ulong(_ADDR_NO_RANDOMIZE)) != -1


ATTACKS: dict[str, Any] = {
    attack.__name__: attack
    for attack in (
        user_namespace,
        user_namespace_by_clone,
        user_namespace_by_clone3,
        other_namespaces,
        join_namespaces,
        mounting,
        change_root,
        io_uring,
        user_faults,
        bpf,
        key_service,
        perf_events,
        trace_a_child,
        compare_kernel_objects,
        open_by_handle,
        secret_memory,
        virtual_sockets,
        netlink,
        raw_sockets,
        packet_sockets,
        crypto_sockets,
        old_system_calls,
        type_for_others,
        host_name,
    )
}
