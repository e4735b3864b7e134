"""Ports of a worker's own: choosing one that no other worker has, and finding one."""

from __future__ import annotations

import os
import socket

from isoruntime.typed import Final

#: Below those the kernel takes for connections (32768 and up by default), so that none
#: of them is on the port when the server comes to it.
_FIRST: Final = 20000
_COUNT: Final = 12000
_TRIES: Final = 200
_LISTEN: Final = b"0A"
_MAX_PROCESSES: Final = 512


class PortsTaken(Exception):
    """No port was free."""


class NoNetwork(Exception):
    """This process may have no sockets of a network."""


def private_port() -> tuple[int, socket.socket]:
    """Return a free port, and what keeps it from other workers while it is open.

    The lock is a name, not the port: a server that insists on being the only one there
    could not listen otherwise. Names of this kind belong to a network namespace, as ports
    do.

    Raises:
        NoNetwork: there is none for this process.
        PortsTaken: none was free.
    """
    for _ in range(_TRIES):
        port = _FIRST + int.from_bytes(os.urandom(4), "big") % _COUNT
        lock = socket.socket(socket.AF_UNIX)
        try:
            lock.bind(f"\0isoruntime-port-{port}")
            if _is_free(port):
                return port, lock
        except OSError:
            pass
        except NoNetwork:
            lock.close()
            raise
        lock.close()
    raise PortsTaken(
        f"None of {_TRIES} ports tried from {_FIRST} to {_FIRST + _COUNT} is free"
    )


def _is_free(port: int) -> bool:
    try:
        probe = socket.socket(socket.AF_INET)
    except OSError as error:
        raise NoNetwork(str(error)) from error
    with probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def listening_ports(pid: int) -> set[int]:
    """Return the TCP ports that a process or a descendant of it listens on."""
    by_inode = _ports_by_inode()
    if not by_inode:
        return set()
    found = set()
    for one in _tree_of(pid):
        found |= {by_inode[inode] for inode in _sockets_of(one) if inode in by_inode}
    return found


def _ports_by_inode() -> dict[str, int]:
    found = {}
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/self/net/{table}", "rb") as file:  # noqa: PTH123 - pathlib is slow to import
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN:
                port = int(fields[1].rpartition(b":")[2], 16)
                found[fields[9].decode()] = port
    return found


def _tree_of(pid: int) -> list[int]:
    tree = [pid]
    for one in tree:
        try:
            with open(f"/proc/{one}/task/{one}/children", "rb") as file:  # noqa: PTH123 - see above
                tree += map(int, file.read().split())
        except OSError:
            continue
        if len(tree) > _MAX_PROCESSES:
            break
    return tree


def _sockets_of(pid: int) -> list[str]:
    found = []
    try:
        names = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 - see above
    except OSError:
        return []
    for name in names:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")  # noqa: PTH115 - see above
        except OSError:
            continue
        if target.startswith("socket:["):
            found.append(target[8:-1])
    return found
