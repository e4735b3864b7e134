"""Landlock: which files a process and its children reach, whom they signal.

A ruleset is prepared as a descriptor, and any number of processes may put themselves
under it later. It names what is allowed; all else is denied, and no domain a process
enters later gives anything back. Rules are united: what lies below two granted folders
has the rights of both, and nothing can be taken out of a granted folder again.

Not covered by any version known here: the mode, owner and times of files, `stat`,
connecting to a socket that is a file, UDP, MPTCP.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from isoruntime.sandbox import _libc
from isoruntime.typed import Final, NamedTuple

# linux/landlock.h, in the order in which the kernel learned them.
_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_REMOVE_DIR: Final = 1 << 4
_REMOVE_FILE: Final = 1 << 5
_MAKE_CHAR: Final = 1 << 6
_MAKE_DIR: Final = 1 << 7
_MAKE_REG: Final = 1 << 8
_MAKE_SOCK: Final = 1 << 9
_MAKE_FIFO: Final = 1 << 10
_MAKE_BLOCK: Final = 1 << 11
_MAKE_SYM: Final = 1 << 12
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14
_IOCTL_DEV: Final = 1 << 15

_BIND_TCP: Final = 1 << 0
_CONNECT_TCP: Final = 1 << 1

_SCOPE_ABSTRACT_UNIX_SOCKET: Final = 1 << 0
_SCOPE_SIGNAL: Final = 1 << 1

#: What each version added for files.
_ADDED: Final = (
    (1, (1 << 13) - 1),
    (2, _REFER),
    (3, _TRUNCATE),
    (5, _IOCTL_DEV),
)
_NETWORK_SINCE: Final = 4
_SCOPES_SINCE: Final = 6

_READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
#: Everything but device nodes, which no function has a use for.
_WRITE: Final = ((1 << 16) - 1) & ~(_MAKE_CHAR | _MAKE_BLOCK)
#: The only rights the kernel takes for something that is no folder.
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_RULE_PATH_BENEATH: Final = 1
#: `struct landlock_path_beneath_attr`, which is packed.
_PATH_BENEATH: Final = struct.Struct("=Qi")

_REASONS: Final = {
    errno.ENOSYS: "the kernel has no Landlock",
    errno.EOPNOTSUPP: "Landlock is switched off at boot (lsm=)",
    errno.EPERM: "a system call filter around us forbids Landlock",
}


class Grants(NamedTuple):
    """What stays allowed: files and folders, the latter with all that is below."""

    #: to be read, listed and executed
    read: tuple[str, ...]
    #: the same, and to be changed in every way
    write: tuple[str, ...]
    #: folders of which the names below may be listed, and no more
    listed: tuple[str, ...] = ()
    #: folders of which the empty folders below may be removed, and no more
    pruned: tuple[str, ...] = ()


def version() -> int:
    """Return which version of Landlock the kernel speaks; 0 for none, see `reason`."""
    try:
        return _libc.landlock_version()
    except OSError:
        return 0


def reason() -> str:
    """Return in a sentence why there is no Landlock, or nothing if there is."""
    try:
        _libc.landlock_version()
    except OSError as error:
        return _REASONS.get(error.errno or 0, f"Landlock cannot be used: {error}")
    return ""


def has_scopes() -> bool:
    """Tell whether domains also keep signals and abstract sockets to themselves."""
    return version() >= _SCOPES_SINCE


def has_network() -> bool:
    """Tell whether TCP can be denied."""
    return version() >= _NETWORK_SINCE


def prepare(grants: Grants, *, network: bool) -> int:
    """Return the descriptor of a ruleset, to be closed by the caller.

    A granted path that does not exist, or cannot be looked at, is left out. Without
    `network` every TCP connection is denied, where the kernel can.

    Raises:
        OSError: there is no Landlock, or no descriptor to spare.
    """
    spoken = _libc.landlock_version()
    fd = _libc.landlock_create_ruleset(_attributes(spoken, network))
    try:
        _add(fd, grants, _rights_known(spoken))
    except BaseException:
        os.close(fd)
        raise
    return fd


def restrict(fd: int) -> None:
    """Put this process, and all it starts from now on, under a prepared ruleset.

    Raises:
        OSError: EPERM, without no_new_privs; E2BIG, under 16 rulesets already.
    """
    _libc.landlock_restrict_self(fd)


def _rights_known(spoken: int) -> int:
    known = 0
    for since, rights in _ADDED:
        if spoken >= since:
            known |= rights
    return known


def _attributes(spoken: int, network: bool) -> bytes:
    # Only as long as the kernel knows it: it refuses a longer one.
    attributes = struct.pack("=Q", _rights_known(spoken))
    if spoken >= _NETWORK_SINCE:
        attributes += struct.pack("=Q", 0 if network else _BIND_TCP | _CONNECT_TCP)
    if spoken >= _SCOPES_SINCE:
        attributes += struct.pack("=Q", _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL)
    return attributes


def _add(fd: int, grants: Grants, known: int) -> None:
    for paths, rights in (
        (grants.read, _READ),
        (grants.write, _WRITE),
        (grants.listed, _READ_DIR),
        (grants.pruned, _REMOVE_DIR),
    ):
        for path in paths:
            _add_one(fd, path, rights & known)


def _add_one(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            # Left out for want of a descriptor, it would be missed without a word.
            raise
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_FILES
        if rights:
            rule = _PATH_BENEATH.pack(rights, fd)
            _libc.landlock_add_rule(ruleset, _RULE_PATH_BENEATH, rule)
    except OSError as error:
        # A pipe, say, behind /dev/stdout: no rule can name it, and it needs none.
        if error.errno != errno.EBADFD:
            raise
    finally:
        os.close(fd)
