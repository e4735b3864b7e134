"""Events and credentials are in the memory of those who need them, and of nobody else.

The test looks from outside, as root, past all walls: what is not in a process cannot be
taken from it by any attack.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.handlers.attacks.means import memory_of
from tests.support.server import HANDLERS, Reply, Serve, Server
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(
    os.getuid() != 0, reason="nobody but root can look into other processes"
)


def knows(process: psutil.Process, secret: str) -> bool:
    """Tell whether a process has a text in its memory."""
    try:
        return any(secret.encode() in data for _, data in memory_of(process.pid))
    except FileNotFoundError:
        # It has ended since it was listed.
        return False


def invoke(server: Server, secret: str, gate: Path) -> Reply:
    event = {
        "do": "hold",
        "id": secret,
        "mark": secret,
        "secret": f"event-{secret}",
        "gate": str(gate),
    }
    return server.invoke(json.dumps(event), {"x-fc-access-key-secret": f"key-{secret}"})


def test_no_process_but_those_concerned_knows_an_event_or_its_credentials(
    serve: Serve, profile: str, code_dir: Path
) -> None:
    # Beside the code, where it can be seen from within a cell too.
    shutil.copytree(HANDLERS / "attacks", code_dir, dirs_exist_ok=True)
    gate = code_dir / "gate"
    options = ("--sandbox", profile, "--min-workers", "3")
    server = serve("index.handler", *options, code_dir=code_dir)
    secret = secrets.token_hex(8)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(invoke, server, secret, gate)
        server.wait_for_line(f"holding {secret}")
        wait_until(lambda: len(server.pids) == 3, 10, "the other workers")
        below = server.front_end.children(recursive=True)
        informed = [one for one in below if one.name() == "neighbour"]
        others = [one for one in below if one not in informed]
        try:
            for kind in ("event", "key"):
                assert [knows(one, f"{kind}-{secret}") for one in informed] == [True]
                # The zygote, its keepers, and at least two other workers.
                assert len(others) >= 3
                assert [one for one in others if knows(one, f"{kind}-{secret}")] == []
        finally:
            gate.touch()
        assert held.result(10).status == 200
    # Nor do those learn of it that are forked afterwards.
    assert not any(knows(one, f"key-{secret}") for one in server.zygotes)
