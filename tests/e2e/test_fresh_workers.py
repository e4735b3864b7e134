"""`--fresh`: what one worker leaves, and what an import has done, the next one never meets."""

from __future__ import annotations

import statistics
import textwrap
from pathlib import Path

import pytest

from tests.support import rings
from tests.support.calls import Calls
from tests.support.host import require_strict
from tests.support.server import Serve, Server
from tests.waiting import wait_until

_LEAVES = """
import os, stat
from pathlib import Path

WAYS = {
    "nothing": lambda folder: None,
    "file": lambda folder: (folder / "left").write_text("secret"),
    "folder": lambda folder: (folder / "a" / "b").mkdir(parents=True),
    "mode": lambda folder: folder.chmod(0o777),
}

def handler(event, context):
    folder = Path(os.environ["TMPDIR"])
    mode = stat.S_IMODE(folder.stat().st_mode)
    # Under strict there is more: ways to the code, and to the runtime's, where they lie in /tmp.
    left = {one.name for one in folder.iterdir()} & {"left", "a"}
    found = {"left": sorted(left), "mode": oct(mode)}
    WAYS[event.decode()](folder)
    return found
"""


@pytest.mark.parametrize("profile", ["off", "standard", "strict"])
def test_the_next_one_finds_its_folder_empty(
    serve: Serve, tmp_path: Path, profile: str
) -> None:
    (tmp_path / "leaves.py").write_text(_LEAVES)
    options = ("--fresh", "--max-workers", "2", "--sandbox", profile)
    server = serve("leaves.handler", *options, code_dir=tmp_path)
    mode = "0o1777" if profile == "strict" else "0o700"
    for way in ["nothing", "file", "folder", "mode"] * 3:
        assert server.invoke(way).json() == {"left": [], "mode": mode}, way


_TIDY = """
import faulthandler, os, signal, sys, tempfile

faulthandler.enable(file=sys.__stderr__)
before = tempfile.gettempdir()
os.close(0)
os.environ = dict(os.environ)

def handler(event, context):
    if event == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    print("read", os.read(0, 1))
    return [tempfile.gettempdir() == os.environ["TMPDIR"] != before]
"""


@pytest.mark.parametrize("options", [(), ("--fresh",)], ids=["reused", "fresh"])
def test_what_an_import_did_to_its_process_is_put_right(
    serve: Serve, tmp_path: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "tidy.py").write_text(textwrap.dedent(_TIDY))
    server = serve("tidy.handler", *options, code_dir=tmp_path)
    for _ in range(3):
        reply = server.invoke("")
        assert reply.json() == [True]
    server.wait_for_line("read b''")
    crashed = server.invoke("crash")
    assert crashed.error_type == "ProcessExitedError"
    # Where it was goes to our trace, not where the import wanted it.
    server.wait_for_line("tidy.py")
    assert server.invoke("").json() == [True]


_LARGE = """
OBJECTS = [bytes([number & 0xFF]) * 1000 for number in range(48_000)]

def handler(event, context):
    number = int(event)
    OBJECTS[number] = b"changed"
    return [len(OBJECTS), len(OBJECTS[number]), len(OBJECTS[number + 1])]
"""


def test_a_large_import_is_the_same_for_every_worker(
    serve: Serve, tmp_path: Path
) -> None:
    """Its memory is put into huge pages meanwhile, one after each batch of forks."""
    (tmp_path / "large.py").write_text(_LARGE)
    server = serve("large.handler", "--fresh", code_dir=tmp_path)
    for number in range(150):
        # What the last one changed is as it was.
        assert server.invoke(str(number)).json() == [48_000, 7, 1000]
        assert server.invoke(str(number + 1)).json() == [48_000, 7, 1000]


_COUNTS = """
import os, resource

def links():
    for name in os.listdir("/proc/self/fd"):
        try:
            yield os.readlink("/proc/self/fd/" + name)
        except FileNotFoundError:
            continue

def handler(event, context):
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return {"faults": faults, "ring": any("io_uring" in link for link in links())}
"""


@pytest.fixture
def pages_can_be_held() -> None:
    if reason := rings.missing():
        pytest.skip(reason)


@pytest.mark.parametrize("profile", ["off", "standard"])
@pytest.mark.usefixtures("pages_can_be_held")
def test_workers_are_soon_interrupted_less_and_never_have_the_ring(
    serve: Serve, code_dir: Path, profile: str
) -> None:
    """The zygote finds out which pages they write to, and has forks copy these."""
    (code_dir / "interrupted.py").write_text(_COUNTS)
    options = ("--fresh", "--sandbox", profile)
    server = serve("interrupted.handler", *options, code_dir=code_dir)
    replies = [server.invoke().json() for _ in range(10)]
    zygote = server.zygote.pid
    ring = rings.rings_of(zygote)
    assert len(ring) == 1

    def faults() -> float:
        return float(statistics.median(reply["faults"] for reply in replies[-10:]))

    before = faults()

    def are_fewer() -> bool:
        replies.append(server.invoke().json())
        return faults() < 0.7 * before

    wait_until(are_fewer, 30, f"{before} interruptions a worker, or less of them,")
    assert not any(reply["ring"] for reply in replies)
    assert rings.rings_of(zygote) == ring
    assert rings.held_kb(zygote) > 0


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--sandbox", "off"), id="off"),
        pytest.param(("--sandbox", "standard"), id="standard"),
        pytest.param(("--sandbox", "strict", "--fresh"), id="strict and fresh"),
    ],
)
def test_a_zygote_that_seldom_forks_or_has_others_fork_has_no_ring(
    serve: Serve, code_dir: Path, options: tuple[str, ...]
) -> None:
    if "strict" in options:
        require_strict()
    (code_dir / "interrupted.py").write_text(_COUNTS)
    server = serve("interrupted.handler", *options, code_dir=code_dir)
    assert not server.invoke().json()["ring"]
    assert [rings.rings_of(zygote.pid) for zygote in server.zygotes] == [[]]


def wait_until_pages_are_held(server: Server, event: str) -> None:
    zygote = server.zygote.pid

    def are_held() -> bool:
        assert server.invoke(event).status == 200
        return rings.held_kb(zygote) > 0

    wait_until(are_held, 30, "that the zygote holds pages")


@pytest.mark.parametrize("profile", ["off", "standard"])
@pytest.mark.usefixtures("pages_can_be_held")
def test_a_crash_with_pages_held_is_answered_while_the_neighbour_goes_on(
    serve: Serve, gate: Path, profile: str
) -> None:
    options = ("--fresh", "--sandbox", profile)
    server = serve("ways_to_die.handler", *options)
    wait_until_pages_are_held(server, "hello")
    zygote = server.zygote.pid
    neighbour = Calls(server)
    neighbour.start(1, f"until {gate}")
    server.wait_for_line(f"waiting for {gate}")
    for way in ("signal SIGSEGV", "segfault", "signal SIGKILL", "_exit 3"):
        # Its memory comes from the fork, and goes with it.
        assert server.invoke(way).error_type == "ProcessExitedError"
        assert server.invoke("hello").body == b"still here"
    assert not neighbour.replies
    gate.touch()
    (reply,) = neighbour.finish()
    assert (reply.status, reply.body) == (200, b"done")
    assert rings.held_kb(zygote) > 0
    assert server.zygote.pid == zygote


_CHANGES = """
NUMBERS = [0] * 100_000

def handler(event, context):
    seen = {*NUMBERS}
    NUMBERS[:] = [int(event)] * len(NUMBERS)
    return sorted(seen)
"""


@pytest.mark.usefixtures("pages_can_be_held")
def test_what_is_held_is_the_same_for_every_worker(
    serve: Serve, code_dir: Path
) -> None:
    (code_dir / "changes.py").write_text(_CHANGES)
    server = serve("changes.handler", "--fresh", code_dir=code_dir)
    wait_until_pages_are_held(server, "1")
    for number in range(20):
        assert server.invoke(str(number)).json() == [0]
