"""The admin port of a running server, as an operator asks it."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping

from tests.support.server import Reply, Server, exchange
from tests.waiting import wait_until

_LISTENING = re.compile(rb"the admin port is http://[^\s/]*:(\d+)")


class Admin:
    """Asks the admin port, on a connection of its own each time."""

    def __init__(self, server: Server) -> None:
        wait_until(
            lambda: _LISTENING.search(server.stderr.read()), 10, "the admin port"
        )
        found = _LISTENING.search(server.stderr.read())
        assert found is not None
        self.port = int(found[1])

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> Reply:
        """Ask for a path."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            return exchange(connection, method, path, None, headers)
        finally:
            connection.close()
