"""A user of its own for every worker: the strongest wall there is, where we are root.

The kernel then keeps workers from each other's files, processes and memory as it keeps
people apart, counts the processes of each by itself, and kills them all in one call.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from isoruntime.sandbox import capabilities
from isoruntime.typed import Final

#: People have numbers below 30000 (login.defs gives them out from 1000 up), services
#: that systemd makes users for have them above 61183, homes it manages above 60000.
_FIRST: Final = 30000
_LAST: Final = 59999
#: One for each cell of a runtime.
UIDS_PER_RUNTIME: Final = 500
_BLOCKS: Final = (_LAST + 1 - _FIRST) // UIDS_PER_RUNTIME

_MOST_LINKS: Final = 40


def base_uid(front_end_pid: int) -> int:
    """Return the first of the users of one runtime, `UIDS_PER_RUNTIME` of them.

    Runtimes on one host should not share them: their workers could reach each other,
    and would be counted together. In a container every runtime may be process 1, and
    the kernel counts across containers, so the namespace of processes goes in too. Two
    runtimes can still meet by chance.
    """
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - pathlib is slow to import
    except OSError:
        namespace = 0
    # Consecutive numbers stay apart: neighbours started together never meet.
    return _FIRST + (front_end_pid + namespace) % _BLOCKS * UIDS_PER_RUNTIME


def available() -> str:
    """Return why workers cannot have users of their own; nothing if they can."""
    if os.geteuid() != 0:
        return "not started as root"
    held = capabilities.held()
    for name in ("SETUID", "SETGID"):
        if name not in held:
            return f"CAP_{name} is missing"
    if "KILL" not in held:
        return "CAP_KILL is missing: a worker could not be ended"
    if "CHOWN" not in held:
        return "CAP_CHOWN is missing: a worker could not have a folder"
    if not _is_mapped("/proc/self/uid_map") or not _is_mapped("/proc/self/gid_map"):
        return f"the user namespace has no users {_FIRST} to {_LAST}"
    if _read("/proc/self/setgroups").strip() == "deny":
        return "the user namespace does not let groups be given up"
    return ""


def take(uid: int) -> None:
    """Become a user, and the group of the same number, for good.

    Raises:
        OSError: the kernel refuses, or did less than it said. The process may be
            neither the one nor the other user then, and has to end.
    """
    # Groups first: later it would take the power that goes with the user.
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (uid,) * 3 or os.getgroups():
        raise PermissionError(f"could not become user {uid} alone")


def reachable(paths: Iterable[str]) -> str:
    """Return why another user cannot get at all of `paths`; nothing if it can.

    Judged by the mode of every folder on the way, links followed; access lists and what
    a network file system thinks of strangers are not seen.
    """
    entered: set[str] = set()
    for path in paths:
        problem = _reach(os.path.abspath(path), entered)  # noqa: PTH100
        if problem:
            return problem
    return ""


def unreadable_in(folder: str, at_most: int = 200) -> str:
    """Return why not all entries of a folder can be read by another user; or nothing.

    Only the first `at_most` entries are looked at, and none below them. A link that
    leads nowhere is nobody's loss.
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208 - pathlib is slow to import
    except OSError as error:
        return f"{folder}: {error.strerror}"
    for name in names[:at_most]:
        try:
            found = os.stat(f"{folder}/{name}")  # noqa: PTH116
        except OSError:
            continue
        if problem := _lacks(f"{folder}/{name}", found):
            return problem
    return ""


def unwritable(folders: Iterable[str]) -> str:
    """Return the first of these folders that another user could not write; or nothing."""
    for folder in folders:
        try:
            mode = os.stat(folder).st_mode  # noqa: PTH116 - pathlib is slow to import
        except OSError as error:
            return f"{folder}: {error.strerror}"
        if not mode & stat.S_IWOTH:
            return f"{folder} cannot be written by other users"
    return ""


def _reach(path: str, entered: set[str]) -> str:
    """Walk down to `path` one component at a time, and on from where a link leads."""
    done, rest = "/", _components(path)
    links = 0
    while rest:
        name = rest.pop(0)
        if name == "..":
            done = os.path.dirname(done)  # noqa: PTH120
            continue
        if problem := _enter(done, entered):
            return problem
        here = f"{done.rstrip('/')}/{name}"
        target = _target(here)
        if not target:
            done = here
            continue
        links += 1
        if links > _MOST_LINKS:
            return f"{path} leads nowhere: too many links"
        done = "/" if target.startswith("/") else done
        rest = _components(target) + rest
    try:
        return _lacks(done, os.stat(done))  # noqa: PTH116
    except OSError as error:
        return f"{done}: {error.strerror}"


def _components(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _target(path: str) -> str:
    """Return where a link leads; nothing if it is none, or not there."""
    try:
        return os.readlink(path)  # noqa: PTH115 - pathlib is slow to import
    except OSError:
        return ""


def _enter(folder: str, entered: set[str]) -> str:
    if folder in entered:
        return ""
    try:
        mode = os.stat(folder).st_mode  # noqa: PTH116
    except OSError as error:
        return f"{folder}: {error.strerror}"
    if not mode & stat.S_IXOTH:
        return f"{folder} cannot be entered by other users"
    entered.add(folder)
    return ""


def _lacks(path: str, found: os.stat_result) -> str:
    needed = stat.S_IROTH
    if stat.S_ISDIR(found.st_mode):
        needed |= stat.S_IXOTH
    if found.st_mode & needed == needed:
        return ""
    return f"{path} cannot be read by other users"


def _is_mapped(table: str) -> bool:
    """Tell whether a user namespace knows all of the numbers that workers get."""
    for line in _read(table).splitlines():
        first, _, count = map(int, line.split())
        if first <= _FIRST and first + count > _LAST:
            return True
    return False


def _read(path: str) -> str:
    try:
        with open(path) as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return ""
