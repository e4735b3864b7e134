"""`--sandbox strict`: cells that fail, and cells that nobody needs any more."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from isoruntime.zygote.cells import IDLE_S
from tests.support.calls import Calls
from tests.support.host import require_strict
from tests.support.server import Serve, Server
from tests.waiting import wait_until

_BURST = 6
_WAITS = """
import time
from pathlib import Path

GATE = Path(__file__).parent / "gate"

def handler(event, context):
    while event == b"wait" and not GATE.exists():
        time.sleep(0.01)
    return event
"""


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> Server:
    """Return a server that has had a burst of calls, and has cells left of it."""
    require_strict()
    (tmp_path / "waits.py").write_text(_WAITS)
    options = ("--sandbox", "strict", "--fresh", "--max-workers", str(_BURST))
    server = serve("waits.handler", *options, code_dir=tmp_path)
    calls = Calls(server)
    calls.start(_BURST, "wait")
    wait_until(lambda: in_use(server) == _BURST, 20, f"{_BURST} workers at once")
    (tmp_path / "gate").touch()
    assert calls.statuses() == [200] * _BURST
    wait_until(lambda: in_use(server) <= 2, 20, "hardly more than a spare worker left")
    return server


def keepers(server: Server) -> list[psutil.Process]:
    return server.zygote.children()


def in_use(server: Server) -> int:
    return sum(map(is_in_use, keepers(server)))


def is_in_use(keeper: psutil.Process) -> bool:
    try:
        return bool(keeper.children())
    except psutil.NoSuchProcess:
        # Whoever starts a keeper ends when that is done.
        return False


def test_a_keeper_that_dies_before_its_next_fork_costs_nobody_anything(
    server: Server,
) -> None:
    zygote = server.zygote
    free = [keeper for keeper in keepers(server) if not is_in_use(keeper)]
    assert len(free) >= _BURST - 2
    calls = Calls(server)
    # So that it is ordered to have the free ones fork when they are dead already.
    zygote.suspend()
    calls.start(in_use(server), "hello")
    assert {*calls.statuses()} == {200}
    for keeper in free:
        keeper.kill()
    zygote.resume()
    assert server.invoke("again").body == b"again"
    assert server.zygote == zygote
    assert not {*free} & {*keepers(server)}

    def is_calm() -> bool:
        return float(zygote.cpu_percent(interval=0.5)) < 20

    wait_until(is_calm, 10, "that the zygote has nothing to do")


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_cells_that_nobody_needs_are_given_up_after_a_while(server: Server) -> None:
    assert len(keepers(server)) >= _BURST
    descriptors = server.zygote.num_fds()
    wait_until(
        lambda: len(keepers(server)) <= 2, 2 * IDLE_S + 10, "only cells in use left"
    )
    assert server.zygote.num_fds() < descriptors
    # The next burst has new ones.
    calls = Calls(server)
    calls.start(_BURST, "hello")
    assert calls.statuses() == [200] * _BURST
