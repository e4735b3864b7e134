"""Memory that grows with every call is nobody's lost answer."""

from __future__ import annotations

from tests.support.server import Serve


def test_a_worker_that_leaks_is_replaced_between_two_calls(serve: Serve) -> None:
    server = serve("leaks.handler", "--memory", "128")
    replies = [server.invoke("more") for _ in range(40)]
    assert [reply.status for reply in replies] == [200] * 40
    seen = [reply.body.split() for reply in replies]
    workers = {pid for pid, _ in seen}
    # Forty calls leave 320 MB behind, of which 115 fit into one worker.
    assert 3 <= len(workers) <= 8
    assert max(int(calls) for _, calls in seen) >= 8, "replaced long before it is full"


def test_without_a_limit_a_worker_is_kept_whatever_it_holds(serve: Serve) -> None:
    server = serve("leaks.handler", "--memory", "0")
    seen = [server.invoke("more").body.split() for _ in range(30)]
    assert {pid for pid, _ in seen} == {seen[0][0]}
