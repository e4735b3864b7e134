"""`--fresh`: what one worker leaves, and what an import has done, the next one never meets."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.support.server import Serve

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
