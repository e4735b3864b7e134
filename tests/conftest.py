"""Fixtures for tests that run the real thing."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.support import server as servers
from tests.support.server import Serve, Server
from tests.waiting import wait_until

#: The parts of the suite that start processes.
_WITH_PROCESSES = {"contract", "e2e", "faults", "sandbox"}

# In the background of a script it is ignored, which all that is started would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaks a process or a descriptor, its own or a server's.

    What a server of a wider scope runs belongs to it, and is judged when it stops;
    but below its workers there must be nothing after every single test.
    """
    if not _WITH_PROCESSES & set(request.path.parts):
        yield
        return
    me = psutil.Process()
    _close_connections()
    descriptors_before = me.num_fds()
    yield
    _close_connections()
    for server in servers.running:
        wait_until(lambda: not _living(server), 5, f"no strays: {_living(server)}")  # noqa: B023
    known = {server.front_end.pid for server in servers.running}
    mine = [child for child in me.children() if child.pid not in known]
    assert mine == []
    assert me.num_fds() == descriptors_before


def _living(server: Server) -> list[psutil.Process]:
    # Up to a number a worker may have dead children that its handler knows nothing of.
    return [one for one in server.strays() if servers.lives(one)]


def _close_connections() -> None:
    for server in servers.running:
        server.close_connections()


@pytest.fixture
def serve(nothing_left_behind: None) -> Iterator[Serve]:
    """Start servers that end with the test: `serve("index.handler", "--fresh")`."""
    with ExitStack() as stack:

        def start(*args: str, **options: object) -> Server:
            return stack.enter_context(Server(*args, **options))  # type: ignore[arg-type]

        yield start


@pytest.fixture
def small_disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Return a file system of 200 KB, or of the size that the test is marked with.

    It is nowhere below /tmp, where the runtime would not have workers' folders.
    """
    marker = request.node.get_closest_marker("disk")
    place = servers.temp_folder()
    size = marker.args[0] if marker else "200k"
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        if os.geteuid() or subprocess.run(mount, check=False).returncode:
            pytest.skip("only root may mount a small file system")
        yield place
        subprocess.run(["umount", "-l", str(place)], check=True)
    finally:
        place.rmdir()


@pytest.fixture
def code_dir(tmp_path: Path) -> Path:
    """Return an empty code directory, for handlers a test writes itself."""
    made = tmp_path / "code"
    made.mkdir()
    return made


@pytest.fixture
def gate(serve: Serve, tmp_path: Path) -> Iterator[Path]:
    """Return the path of a file that does not exist; `waits` handlers wait for it.

    It is there before the servers stop, so that a failing test need not wait for them.
    """
    path = tmp_path / "gate"
    yield path
    path.touch()
