"""Invocations in flight, for as long as a test wants."""

from __future__ import annotations

import http.client
import threading

from tests.support.server import Reply, Server


class Calls:
    """Invocations on threads and connections of their own.

    A call whose connection breaks counts as answered with status 0, so that a test
    fails on what it asserts and not on a thread.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._threads: list[threading.Thread] = []
        #: The answers so far, in the order they came.
        self.replies: list[Reply] = []

    def start(self, count: int, event: str) -> None:
        """Send `count` events at once."""
        for _ in range(count):
            thread = threading.Thread(target=self._call, args=(event,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _call(self, event: str) -> None:
        try:
            reply = self._server.once("POST", "/invoke", event.encode())
        except (OSError, http.client.HTTPException):
            reply = Reply(0, http.client.HTTPMessage(), b"")
        self.replies.append(reply)

    def finish(self) -> list[Reply]:
        """Wait for every answer and return them in the order they came."""
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "an invocation was never answered"
        return self.replies

    def statuses(self) -> list[int]:
        """Wait for every answer and return their statuses, sorted."""
        return sorted(reply.status for reply in self.finish())
