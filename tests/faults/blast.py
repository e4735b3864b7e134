"""Many keep-alive connections driven by one thread, as fast as the answers come.

A client with a thread for each connection would spend the machine's time on itself.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter, deque
from types import TracebackType


class Blast:
    """Sends numbered echo invocations until every one is answered with 200.

    A refused one is sent again. What is counted: `refused`; and `answers`, how
    often each number came back, which has to be once.
    """

    def __init__(self, port: int, connections: int, total: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._pending = deque(range(total))
        self._sent: dict[socket.socket, int] = {}
        self._read: dict[socket.socket, bytearray] = {}
        self._sockets = [
            socket.create_connection(("127.0.0.1", port), timeout=30)
            for _ in range(connections)
        ]
        self.refused = 0
        self.strange: list[bytes] = []
        self.answers: Counter[int] = Counter()

    def __enter__(self) -> Blast:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for connection in self._sockets:
            connection.close()
        self._selector.close()

    def run(self, within_s: float) -> None:
        """Send all, and read until nothing is owed; stop at what is no 200 and no 429."""
        until = time.monotonic() + within_s
        for connection in self._sockets:
            self._selector.register(connection, selectors.EVENT_READ)
            self._read[connection] = bytearray()
            self._send_next(connection)
        while self._sent and not self.strange:
            left_s = until - time.monotonic()
            assert left_s > 0, f"{len(self._sent)} answers are owed after {within_s} s"
            for key, _ in self._selector.select(left_s):
                self._receive(key.fileobj)  # type: ignore[arg-type]

    def _send_next(self, connection: socket.socket) -> None:
        if not self._pending:
            return
        number = self._sent[connection] = self._pending.popleft()
        event = self._event(number)
        connection.sendall(
            b"POST /invoke HTTP/1.1\r\nHost: x\r\nx-fc-request-id: r%d\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (number, len(event), event)
        )

    def _event(self, number: int) -> bytes:
        return b"event %d;" % number * (1 + number % 7)

    def _receive(self, connection: socket.socket) -> None:
        data = self._read[connection]
        received = connection.recv(65536)
        data += received
        head, found, body = bytes(data).partition(b"\r\n\r\n")
        if not received:
            self.strange.append(b"closed after " + head)
            return
        if not found:
            return
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields[b"Content-Length"])
        if len(body) < length:
            return
        data.clear()
        self._judge(self._sent.pop(connection), head, fields, body)
        self._send_next(connection)

    def _judge(
        self, number: int, head: bytes, fields: dict[bytes, bytes], body: bytes
    ) -> None:
        status = int(head.split()[1])
        is_own = fields[b"x-fc-request-id"] == b"r%d" % number
        if status == 429 and is_own and fields[b"Retry-After"]:
            self.refused += 1
            self._pending.append(number)
        elif status == 200 and is_own and body == self._event(number):
            self.answers[number] += 1
        else:
            self.strange.append(head + b"\r\n\r\n" + body)
