"""Threads that a handler has waited for are no reason to replace its worker."""

from __future__ import annotations

from tests.support.server import Serve


def test_threads_that_were_waited_for_keep_their_worker(serve: Serve) -> None:
    server = serve("leaves.handler", "--max-workers", "1")
    pids = {server.invoke("joined_threads").json()["pid"] for _ in range(50)}
    assert len(pids) == 1
