"""A drain that is over ends what runs, also what no worker has begun yet."""

from __future__ import annotations

import os
import signal

from tests.support.calls import Calls
from tests.support.server import Serve
from tests.waiting import wait_until


def test_an_invocation_nobody_has_taken_is_not_begun_after_the_drain(
    serve: Serve,
) -> None:
    """A worker that stands still never takes what it is given."""
    server = serve("waits.handler", "--max-workers", "1", "--drain", "0.3")
    pid = int(server.invoke("pid").body)
    os.kill(pid, signal.SIGSTOP)
    calls = Calls(server)
    calls.start(1, "until /nowhere")
    wait_until(lambda: server.stdout.count(b"Invoke Start") == 2, 5, "the lease")
    server.signal(signal.SIGTERM)
    assert server.wait(4) == 0
    (reply,) = calls.finish()
    assert reply.status in (404, 503)
    assert reply.error_type in ("ProcessExitedError", "Draining")
    assert server.stdout.count(b"waiting for") == 0
