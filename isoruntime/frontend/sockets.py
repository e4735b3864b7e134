"""Listening sockets, made before anything that takes time to import."""

from __future__ import annotations

import socket

from isoruntime.errors import CannotListen


def listen(host: str, port: int, backlog: int = 1024) -> list[socket.socket]:
    """Return listening sockets for every address that `host` stands for.

    Raises:
        CannotListen: the address is in use, not ours, or there is no such name.
    """
    sockets: list[socket.socket] = []
    try:
        infos = socket.getaddrinfo(
            # As bytes, where it can be: for text Python imports its tables of names in
            # other scripts, which is a fiftieth of a cold start.
            (host.encode() if host.isascii() else host) or None,
            port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
        for family, kind, proto, _, wanted in dict.fromkeys(infos):
            address = wanted
            sock = socket.socket(family, kind, proto)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if port == 0 and len(sockets) > 1:
                # Any port, but the same one for all addresses.
                address = (wanted[0], sockets[0].getsockname()[1], *wanted[2:])
            sock.bind(address)
            sock.listen(backlog)
            sock.setblocking(False)
    except OSError as error:
        for sock in sockets:
            sock.close()
        text = f"cannot listen on {host}:{port}: {error.strerror}"
        raise CannotListen(text) from None
    return sockets
