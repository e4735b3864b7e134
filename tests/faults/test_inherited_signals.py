"""What the shell has the runtime ignore is not ignored in handlers."""

from __future__ import annotations

import signal
import sys

import pytest

from tests.support.server import Serve

#: Ignores a signal and becomes the command that follows.
IGNORING = (
    sys.executable,
    "-c",
    "import os, signal, sys; signal.signal(int(sys.argv[1]), signal.SIG_IGN);"
    " os.execv(sys.argv[2], sys.argv[2:])",
)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ignored_by_the_shell_ends_a_handler(
    serve: Serve, number: signal.Signals
) -> None:
    command = (*IGNORING, str(int(number)), sys.executable, "-m", "isoruntime", "serve")
    server = serve("ends.handler", command=command)
    reply = server.invoke(f"signal {number:d}")
    assert reply.error_type == "ProcessExitedError"
    assert reply.json()["details"]["signal"] == number.name
    assert server.invoke("hello").body == b"still here"
