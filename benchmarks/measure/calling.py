"""One call at a time, and many at once, from this process."""

from __future__ import annotations

import http.client
import selectors
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.measure.invocation import HEADERS, SMALL, Request
from benchmarks.measure.servers import ServerFailed

_PATIENCE_S: Final = 60.0
_CHUNK: Final = 1 << 20
#: Answers have shorter headers than this.
_HEAD: Final = 8192


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=_PATIENCE_S
        )

    def call(
        self, body: bytes, headers: Mapping[str, str] = HEADERS
    ) -> tuple[int, bytes, float]:
        """Return status and body of the answer, and the seconds it took."""
        began = time.perf_counter()
        self._connection.request("POST", "/invoke", body, dict(headers))
        answer = self._connection.getresponse()
        read = answer.read()
        return answer.status, read, time.perf_counter() - began

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def check(port: int, request: Request = SMALL) -> None:
    """Make sure that the server gives the right answer.

    Raises:
        ServerFailed: it gives another one, or none.
    """
    client = Client(port)
    try:
        status, body, _ = client.call(request.body, request.headers)
    except (OSError, http.client.HTTPException) as error:
        raise ServerFailed(f"gave no answer: {error!r}") from error
    finally:
        client.close()
    if (status, body) != (http.client.OK, request.answer):
        raise ServerFailed(f"answered {status} {body[:200]!r}")


def wire(request: Request = SMALL) -> bytes:
    """Return a whole request, as it stands on the wire."""
    lines = [
        "POST /invoke HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Length: {len(request.body)}",
        *(f"{name}: {value}" for name, value in request.headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + request.body


def at_once(port: int, request: Request, count: int) -> list[float]:
    """Make so many calls at the same time; return the seconds each took.

    All connections are open before the first call is sent; time runs from then on.

    Raises:
        ServerFailed: a call failed, or took longer than anybody waits.
    """
    connections = [
        socket.create_connection(("127.0.0.1", port), _PATIENCE_S) for _ in range(count)
    ]
    try:
        return _exchange_all(connections, wire(request), request.answer)
    finally:
        for connection in connections:
            connection.close()


def _exchange_all(
    connections: Sequence[socket.socket], request: bytes, answer: bytes
) -> list[float]:
    began = time.perf_counter()
    unsent = {connection: memoryview(request) for connection in connections}
    heard = {connection: bytearray() for connection in connections}
    taken: list[float] = []
    both = selectors.EVENT_READ | selectors.EVENT_WRITE
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            connection.setblocking(False)
            selector.register(connection, both, connection)
        while selector.get_map():
            events = selector.select(_PATIENCE_S)
            if not events:
                raise ServerFailed(f"{len(selector.get_map())} calls have no answer")
            for key, mask in events:
                connection = key.data
                if mask & selectors.EVENT_WRITE:
                    rest = unsent[connection]
                    unsent[connection] = rest = rest[connection.send(rest[:_CHUNK]) :]
                    if not rest:
                        selector.modify(connection, selectors.EVENT_READ, connection)
                if mask & selectors.EVENT_READ and _is_answered(
                    connection, heard[connection], answer
                ):
                    taken.append(time.perf_counter() - began)
                    selector.unregister(connection)
    return taken


def _is_answered(connection: socket.socket, heard: bytearray, answer: bytes) -> bool:
    """Read on; return whether the whole answer is there, and the right one."""
    part = connection.recv(_CHUNK)
    heard += part
    if not part or not b"HTTP/1.1 200".startswith(bytes(heard[:12])):
        raise ServerFailed(f"a call failed: {bytes(heard[:300])!r}")
    body = heard.find(b"\r\n\r\n", 0, _HEAD) + 4
    if body < 4 or len(heard) < body + len(answer):
        return False
    if not heard.endswith(answer):
        raise ServerFailed(f"a call got a wrong answer: {bytes(heard[:300])!r}")
    return True
