"""Namespaces: a cell's own view of processes, files, network and shared memory.

A process can leave its namespaces for new ones only before it does anything else, and
the first process in a namespace of pids is its init, whose end ends all the others. So
a cell is entered in two steps: `separate` in a process that is about to fork, and
`furnish` in the child. Both are done by the keeper of the cell (`zygote.keeper`), never
by a worker.

Where this process may not make namespaces by itself it makes a user namespace first,
in which it may. The maps of its ids are written by somebody outside (`map_ids`).
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterable

from isoruntime.sandbox import _libc, capabilities
from isoruntime.sandbox.untouched import state_of
from isoruntime.typed import Final, NamedTuple

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWCGROUP: Final = 0x02000000
_CLONE_NEWUTS: Final = 0x04000000
_CLONE_NEWIPC: Final = 0x08000000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWPID: Final = 0x20000000
_CLONE_NEWNET: Final = 0x40000000

_MS_RDONLY: Final = 0x1
_MS_NOSUID: Final = 0x2
_MS_NODEV: Final = 0x4
_MS_NOEXEC: Final = 0x8
_MS_REMOUNT: Final = 0x20
_MS_NOATIME: Final = 0x400
_MS_NODIRATIME: Final = 0x800
_MS_BIND: Final = 0x1000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 0x40000
_MS_RELATIME: Final = 0x200000
_MNT_DETACH: Final = 2

#: statvfs(3) says what a mount must keep when a user namespace remounts it.
_KEPT_FLAGS: Final = (
    (os.ST_NOSUID, _MS_NOSUID),
    (os.ST_NODEV, _MS_NODEV),
    (os.ST_NOEXEC, _MS_NOEXEC),
    (os.ST_NOATIME, _MS_NOATIME),
    (os.ST_NODIRATIME, _MS_NODIRATIME),
    (os.ST_RELATIME, _MS_RELATIME),
)

#: Folders that every worker finds empty, and its own.
SCRATCH: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - they are what is made private
#: Folders that are judged file by file, or hold no file of anybody's.
_SEEN: Final = frozenset({"/proc", "/sys", "/dev", "/etc", "/usr"})
_HIDDEN: Final = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
#: What a function has for temporary files on Function Compute, in MB.
_SCRATCH_MB: Final = 512
_SCRATCH_FILES: Final = 65536

_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1


class Furniture(NamedTuple):
    """What a cell is to look like inside."""

    code_dir: str
    #: Paths that are there. What is neither one of them nor below one nor on the way to
    #: one is hidden: sockets that are files can be connected to through every other wall.
    exposed: tuple[str, ...] = ()
    #: MB of files in each scratch folder; they are memory
    scratch_mb: int = _SCRATCH_MB


def needs_user_namespace() -> bool:
    """Return whether this process can make the other namespaces only inside one."""
    return "SYS_ADMIN" not in capabilities.held()


def separate(*, has_network: bool, in_user_namespace: bool) -> None:
    """Leave for new namespaces; the next child of this process is init of the pids.

    Raises:
        OSError: the kernel, a container's profile or a setting of the host forbids it.
    """
    flags = (
        _CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWIPC | _CLONE_NEWUTS | _CLONE_NEWCGROUP
    )
    if not has_network:
        flags |= _CLONE_NEWNET
    if in_user_namespace:
        flags |= _CLONE_NEWUSER
    _libc.unshare(flags)


def map_ids(pid: int) -> None:
    """Have the user namespace that `pid` has just made know the ids we know.

    With CAP_SETUID every id keeps its meaning inside; without, ours alone does.

    Raises:
        OSError: EPERM, the host gives user namespaces no rights.
    """
    held = capabilities.held()
    if {"SETUID", "SETGID"} <= held:
        maps = {"uid_map": _own_map("uid_map"), "gid_map": _own_map("gid_map")}
    else:
        # Without CAP_SETGID the kernel demands this first.
        _write(f"/proc/{pid}/setgroups", "deny")
        uid, gid = os.geteuid(), os.getegid()
        maps = {"uid_map": f"{uid} {uid} 1\n", "gid_map": f"{gid} {gid} 1\n"}
    for name, text in maps.items():
        _write(f"/proc/{pid}/{name}", text)


def _own_map(name: str) -> str:
    """Return the map that means the same inside as outside."""
    with open(f"/proc/self/{name}", encoding="ascii") as file:  # noqa: PTH123 - pathlib is slow to import
        ranges = [line.split() for line in file]
    return "".join(f"{inside} {inside} {count}\n" for inside, _, count in ranges)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


class Inside:
    """The inside of a cell, as its init arranges it."""

    def __init__(self, furniture: Furniture) -> None:
        self._furniture = furniture
        self._scratch = [path for path in SCRATCH if os.path.isdir(path)]  # noqa: PTH112
        self._exposed: list[tuple[str, int]] = []
        self._is_furnished = False
        self._as_made: dict[str, tuple[object, ...]] = {}
        #: why /proc shows the processes of the host's namespace, if it does
        self.proc_reason = ""

    def furnish(self) -> None:
        """Arrange everything that lasts as long as the cell, then the scratch folders.

        Raises:
            OSError: a mount was refused.
        """
        # Nothing that is mounted here may appear outside.
        _libc.mount(None, "/", None, _MS_REC | _MS_PRIVATE)
        try:
            flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
            _libc.mount("proc", "/proc", "proc", flags)
        except OSError as error:
            # Where a container hides parts of /proc the kernel forbids a fresh one.
            self.proc_reason = f"/proc cannot be mounted anew: {error.strerror}"
        code_dir = self._furniture.code_dir
        _libc.mount(code_dir, code_dir, None, _MS_BIND | _MS_REC)
        _make_read_only(code_dir)
        covers = [
            path for path in _top_folders() if path not in self._furniture.exposed
        ]
        # Opened while they can be seen.
        opened = self._open_below([*covers, *self._scratch])
        for cover in covers:
            _libc.mount("tmpfs", cover, "tmpfs", _HIDDEN, "mode=755,size=64k")
        for path in self._scratch:
            os.makedirs(path, exist_ok=True)  # noqa: PTH103 - /var/tmp has just been covered
        for path, fd in opened:
            if _is_below_any(path, self._scratch):
                self._exposed.append((path, fd))
            else:
                _expose(path, fd)
                os.close(fd)
        self.refresh()

    def _open_below(self, folders: list[str]) -> list[tuple[str, int]]:
        """Open what has to be seen below folders, by every name it has."""
        paths = {self._furniture.code_dir, *self._furniture.exposed}
        paths = {path for path in paths if _is_below_any(path, folders)}
        paths |= {os.path.realpath(path) for path in paths}
        found: list[str] = []
        for path in sorted(paths):
            # What is in something that is exposed comes along with it.
            if not _is_below_any(path, [*found, *_SEEN]) and os.path.exists(path):  # noqa: PTH110
                found.append(path)
        return [(path, _open_path(path)) for path in found if path not in folders]

    def refresh(self) -> None:
        """Give the next worker empty scratch folders; what was in them is gone."""
        options = f"mode=1777,size={self._furniture.scratch_mb}m"
        for path in self._scratch:
            if self._is_furnished:
                # At once out of sight, with all that is mounted in it; freed when the
                # last descriptor is closed.
                _libc.unmount(path, _MNT_DETACH)
            _libc.mount(
                "tmpfs",
                path,
                "tmpfs",
                _MS_NOSUID | _MS_NODEV,
                f"{options},nr_inodes={_SCRATCH_FILES}",
            )
        self._is_furnished = True
        for path, fd in self._exposed:
            _expose(path, fd)
        self._as_made = {path: state_of(path) for path in self._made_folders()}

    def _made_folders(self) -> set[str]:
        """Return every folder that `refresh` makes, those on the way included."""
        found = set(self._scratch)
        for path, _ in self._exposed:
            parent = os.path.dirname(path)  # noqa: PTH120 - pathlib is slow to import
            while parent not in found:
                found.add(parent)
                parent = os.path.dirname(parent)  # noqa: PTH120
        return found

    def is_fresh(self) -> bool:
        """Tell whether the scratch folders are still as `refresh` made them.

        Most workers leave no file anywhere. To be asked when none runs in here.
        """
        return all(state_of(path) == made for path, made in self._as_made.items())


def _top_folders() -> list[str]:
    """Return the folders of the root that hold files of somebody's."""
    with os.scandir("/") as entries:
        found = [one.path for one in entries if one.is_dir(follow_symlinks=False)]
    return [path for path in found if path not in _SEEN.union(SCRATCH)]


def _is_below_any(path: str, folders: Iterable[str]) -> bool:
    return any(path.startswith(f"{folder}/") for folder in folders)


def _open_path(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def _expose(path: str, fd: int) -> None:
    if os.path.isdir(f"/proc/self/fd/{fd}"):  # noqa: PTH112
        os.makedirs(path, exist_ok=True)  # noqa: PTH103
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))
    _libc.mount(f"/proc/self/fd/{fd}", path, None, _MS_BIND | _MS_REC)


def _make_read_only(path: str) -> None:
    kept = os.statvfs(path).f_flag
    flags = sum(mount for file, mount in _KEPT_FLAGS if kept & file)
    _libc.mount(None, path, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | flags)


def bring_up_loopback() -> None:
    """Let the processes of a new network namespace talk to each other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("h", answer, 16)
        request = struct.pack("16sh22x", b"lo", flags | _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)
