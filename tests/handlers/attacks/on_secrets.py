"""Attacks on what others know: the front end's settings, a neighbour's event and files."""

# Attacks are system calls, as they are.
# ruff: noqa: B023, D401, PTH115, PTH208

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import tempfile
from typing import Any

import neighbour
from means import (
    LIBC,
    Scene,
    files_below,
    folders_above,
    memory_of,
    read_file,
    remote_memory_of,
    syscall,
)

_KEYRING_OF_USER, _SEARCH, _READ = -4, 10, 11


def _read(scene: Scene, path: str) -> None:
    data = scene.attempt(path, lambda: read_file(path))
    scene.collect(data or b"")


def environ_front(scene: Scene) -> None:
    _read(scene, f"/proc/{scene.front}/environ")
    _read(scene, f"/proc/{scene.front}/task/{scene.front}/environ")


def environ_of_everybody(scene: Scene) -> None:
    for pid in scene.everybody():
        _read(scene, f"/proc/{pid}/environ")


def environ_by_a_child(scene: Scene) -> None:
    """A program is dumpable again, and sees what programs see."""
    paths = [f"/proc/{pid}/environ" for pid in (scene.front, scene.zygote)]
    done = subprocess.run(
        ["cat", *paths], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    scene.collect(done.stdout)


def cmdline_of_everybody(scene: Scene) -> None:
    for pid in scene.everybody():
        _read(scene, f"/proc/{pid}/cmdline")


def maps_front(scene: Scene) -> str:
    for name in ("maps", "smaps", "auxv", "stack", "syscall"):
        path = f"/proc/{scene.front}/{name}"
        scene.attempt(name, lambda: _something(path))
    return ", ".join(scene.worked)


def _something(path: str) -> bytes:
    data = read_file(path)
    if not data.strip(b"\0\n"):
        raise OSError(f"nothing in {path}")
    return data


def _scan(scene: Scene, pid: int) -> None:
    def look() -> None:
        for _, data in memory_of(pid):
            scene.collect(data)

    if pid > 1:
        scene.attempt(f"mem {pid}", look)


def mem_front(scene: Scene) -> None:
    _scan(scene, scene.front)


def mem_zygote(scene: Scene) -> str:
    _scan(scene, scene.zygote)
    return ", ".join(scene.worked)


def mem_sibling(scene: Scene) -> None:
    _scan(scene, scene.neighbour)


def mem_by_a_child(scene: Scene) -> None:
    """A program reads what it can of its user's processes."""
    paths = [f"/proc/{pid}/mem" for pid in (scene.front, scene.neighbour)]
    code = (
        "import sys\n"
        "for path in sys.argv[1:]:\n"
        "  try:\n"
        "    areas = open(path[:-3] + 'maps').read().splitlines()\n"
        "    memory = open(path, 'rb', 0)\n"
        "  except OSError as error:\n"
        "    continue\n"
        "  for area in areas:\n"
        "    words = area.split()\n"
        "    start, end = (int(one, 16) for one in words[0].split('-'))\n"
        "    if words[1][:2] != 'rw': continue\n"
        "    try:\n"
        "      memory.seek(start)\n"
        "      data = memory.read(end - start)\n"
        "    except (OSError, ValueError): continue\n"
        "    at = data.find(b'CANARY-')\n"
        "    while at >= 0:\n"
        "      sys.stdout.buffer.write(data[at:at + 64] + b'\\n')\n"
        "      at = data.find(b'CANARY-', at + 1)\n"
    )
    import sys

    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *paths],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    scene.collect(done.stdout)


def vmread_front(scene: Scene) -> None:
    _vmread(scene, scene.front)


def vmread_sibling(scene: Scene) -> None:
    _vmread(scene, scene.neighbour)


def _vmread(scene: Scene, pid: int) -> None:
    def look() -> None:
        for data in remote_memory_of(pid):
            scene.collect(data)

    if pid > 1:
        scene.attempt("process_vm_readv", look)


def own_memory(scene: Scene) -> int:
    """What has come to this process without anybody's knowing."""
    for _, data in memory_of("self"):
        scene.collect(data)
    return len(scene.canaries)


def fd_front_list(scene: Scene) -> list[str]:
    folder = f"/proc/{scene.front}/fd"
    names = scene.attempt("list", lambda: os.listdir(folder)) or []
    links = []
    for name in names:
        link = scene.attempt(name, lambda: os.readlink(f"{folder}/{name}"))
        links += [link] if link else []
    return links


def cwd_and_root_of_everybody(scene: Scene) -> list[str]:
    """Another process's root and working directory are doors."""
    found = []
    for pid in (scene.front, scene.zygote, scene.neighbour):
        for name in ("cwd", "root", "exe"):
            path = f"/proc/{pid}/{name}"
            if pid > 1 and scene.attempt(path, lambda: os.readlink(path)):
                found.append(name)
    return found


def pidfd_getfd_sibling(scene: Scene) -> int:
    """Take a neighbour's reply pipe and answer in its place."""
    return _forge(scene, scene.neighbour, "pidfd")


def pidfd_getfd_zygote(scene: Scene) -> int:
    """Take the zygote's socket and tell the front end lies."""
    return _forge(scene, scene.zygote, "pidfd")


def fd_sibling_write(scene: Scene) -> int:
    return _forge(scene, scene.neighbour, "proc")


def _forge(scene: Scene, pid: int, way: str) -> int:
    written = 0
    for number in [*range(3, 12), *range(200, 212)]:
        fd = scene.attempt(
            f"fd {number}",
            lambda: _take(pid, number) if way == "pidfd" else _reopen(pid, number),
        )
        if fd is None:
            continue
        written += bool(scene.attempt("write", lambda: os.write(fd, b"\0forged!" * 8)))
        os.close(fd)
    return written


def _take(pid: int, number: int) -> int:
    pidfd = os.pidfd_open(pid)
    try:
        return syscall("pidfd_getfd", pidfd, number, 0)
    finally:
        os.close(pidfd)


def _reopen(pid: int, number: int) -> int:
    return os.open(f"/proc/{pid}/fd/{number}", os.O_WRONLY | os.O_NONBLOCK)


def read_sibling_tmp(scene: Scene) -> None:
    own = tempfile.gettempdir()
    for above in folders_above(own):
        for path in files_below(above):
            if not path.startswith(own + "/"):
                _read(scene, path)
    # By name too, where the folder itself cannot be listed.
    _read(scene, scene.event["folder of the neighbour"] + "/" + scene.event["file"])


def tmp_leftover(scene: Scene) -> None:
    _read(scene, f"/tmp/{scene.event['file']}")


def shm_leftover(scene: Scene) -> None:
    _read(scene, f"/dev/shm/{scene.event['file']}")


def tmp_of_others_by_root(scene: Scene) -> None:
    """The same files by way of another process's root."""
    for pid in (scene.front, scene.zygote, scene.neighbour):
        for folder in ("tmp", "dev/shm"):
            if pid > 1:
                _read(scene, f"/proc/{pid}/root/{folder}/{scene.event['file']}")


def sysv_shm(scene: Scene) -> None:
    number = LIBC.shmget(neighbour.SHM_KEY, 4096, 0)
    if number < 0:
        scene.failed.append("no such segment for us")
        return
    LIBC.shmat.restype = ctypes.c_void_p
    address = LIBC.shmat(number, None, 0o10000)
    if address not in (None, ctypes.c_void_p(-1).value):
        scene.collect(ctypes.string_at(address, 256))
        LIBC.shmdt(ctypes.c_void_p(address))


def keyring(scene: Scene) -> None:
    def look() -> None:
        name = scene.event["file"].encode()
        key = syscall("keyctl", _SEARCH, _KEYRING_OF_USER, b"user", name, 0)
        buffer = ctypes.create_string_buffer(256)
        syscall("keyctl", _READ, key, buffer, 256)
        scene.collect(buffer.raw)

    scene.attempt("keyctl", look)


def posix_mq(scene: Scene) -> None:
    library = ctypes.CDLL("librt.so.1", use_errno=True)
    queue = library.mq_open(b"/isoruntime-test", os.O_RDWR | os.O_NONBLOCK)
    if queue < 0:
        scene.failed.append("no such queue for us")
        return
    buffer = ctypes.create_string_buffer(1 << 16)
    library.mq_receive(queue, buffer, 1 << 16, None)
    scene.collect(buffer.raw)
    os.close(queue)


def connect_unix_abstract(scene: Scene) -> None:
    for name in scene.event["abstract"]:
        scene.attempt("connect", lambda: _visit("\0" + name))


def connect_unix_path(scene: Scene) -> None:
    folder = scene.event["folder of the neighbour"]
    for path in [*scene.event["paths"], f"{folder}/isoruntime-test.sock"]:
        scene.attempt("connect", lambda: _visit(path))


def _visit(address: str) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(1)
        made.connect(address)


ATTACKS: dict[str, Any] = {
    attack.__name__: attack
    for attack in (
        environ_front,
        environ_of_everybody,
        environ_by_a_child,
        cmdline_of_everybody,
        maps_front,
        mem_front,
        mem_zygote,
        mem_sibling,
        mem_by_a_child,
        vmread_front,
        vmread_sibling,
        own_memory,
        fd_front_list,
        cwd_and_root_of_everybody,
        pidfd_getfd_sibling,
        pidfd_getfd_zygote,
        fd_sibling_write,
        read_sibling_tmp,
        tmp_leftover,
        shm_leftover,
        tmp_of_others_by_root,
        sysv_shm,
        keyring,
        posix_mq,
        connect_unix_abstract,
        connect_unix_path,
    )
}
