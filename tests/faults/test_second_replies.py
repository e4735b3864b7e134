"""A second reply is the fault of whoever sent it, and of no caller that comes after."""

from __future__ import annotations

from pathlib import Path

from tests.faults.looking import STEADY, unharmed_neighbour
from tests.support.server import Serve


def test_a_second_reply_is_at_most_its_own_caller_s_fault(
    serve: Serve, gate: Path
) -> None:
    server = serve("ends.handler", "--timeout", "5", *STEADY)
    with unharmed_neighbour(server, gate):
        for _ in range(5):
            reply = server.invoke("twice 0")
            assert reply.body == b"forged" or reply.error_type == "RuntimeFault"
            assert server.invoke("hello").body == b"still here"


def test_a_late_second_reply_costs_its_worker_and_no_caller(serve: Serve) -> None:
    server = serve("ends.handler", "--max-workers", "1", "--timeout", "5")
    for _ in range(3):
        pid = server.invoke("pid").body
        assert server.invoke("twice 0.05").body == b"forged"
        # Its worker counts as free, so this one is lent it, and is not to blame.
        assert server.invoke("hello").body == b"still here"
        assert server.invoke("pid").body != pid
