"""What /health says of a broken function during a further attempt."""

from __future__ import annotations

from pathlib import Path

from tests.faults.looping import health
from tests.support.server import Serve
from tests.waiting import wait_until


def test_a_broken_function_is_not_well_for_being_tried_again(
    serve: Serve, code_dir: Path
) -> None:
    (code_dir / "index.py").write_text("import time\ntime.sleep(600)\n")
    server = serve("index.handler", "--init-timeout", "1", code_dir=code_dir)
    assert health(server).json()["status"] == "starting"
    wait_until(lambda: health(server).status == 503, 5, "bad health")
    tries = b"trying again"
    seen = set()
    # The second attempt begins after 1 s and hangs for another one.
    while server.stderr.read().count(tries) < 2:
        seen.add(health(server).status)
    assert seen == {503}
