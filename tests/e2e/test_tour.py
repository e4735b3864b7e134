"""Tours of the documents, typed into a shell on a terminal: they print what is said there.

Adding a command to a tour is adding a block to its document. Only what differs from run
to run is left out of the comparison: ids, times, amounts, versions.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.support import wheels
from tests.support.command import a_free_port, environment, on_a_terminal
from tests.support.server import PROJECT, lives, marked, temp_folder
from tests.waiting import wait_until

README = PROJECT / "README.md"
DEPLOY = PROJECT / "docs" / "deploy-fc.md"
_TOUR = re.compile(r"<!-- tour: .*?-->\n(.*)<!-- end of the tour -->", re.DOTALL)
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: Printed between two commands; nothing else prints it.
_BETWEEN = "~ next ~"
_VARIABLE = (
    (re.compile(r"\b1-[0-9a-f]{8}-[0-9a-f]{24}\b"), "<id>"),
    (re.compile(r"\b[\d.]+ ?(ms|MB)\b"), r"<some> \1"),
    (re.compile(r'("(?:durationMs|maxMemoryMB)": )[\d.]+'), r"\1<some>"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z \S+ \["), "<time> <id> ["),
    (re.compile(r"\b0x[0-9a-f]+\b"), "<address>"),
    # Which depends on the Python that the tests are run with.
    (re.compile(r"bytecode   for.*|note       no bytecode.*"), "<bytecode, or none>"),
    (re.compile(r"\b\d+ files\b"), "<some> files"),
    (re.compile(r"\b\d+\.\d+\.\d+\b"), "<version>"),
)
#: What a terminal has wiped: the sign of life of what took longer than a second.
_WIPED = re.compile(r"[^\n]*\r\x1b\[K")
#: Is masked as an amount, but is a promise.
_LIMIT = "Memory Size: 512 MB"


class Step(NamedTuple):
    """One command, and what it prints."""

    command: str
    shown: str


def steps(document: Path) -> Iterator[Step]:
    """Yield every command of a tour."""
    tour = _TOUR.search(document.read_text())
    assert tour, f"{document} has no tour"
    for block in _BLOCK.findall(tour[1]):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield Step(command, shown)


def masked(text: str) -> list[str]:
    """Return the lines of a text without what differs from run to run."""
    text = text.replace(_LIMIT, _LIMIT.replace(" ", "_"))
    for variable, name in _VARIABLE:
        text = variable.sub(name, text)
    return [line.rstrip() for line in text.strip().splitlines()]


def typed(
    commands: list[str], cwd: Path, temp: Path, mark: str, more: Mapping[str, str]
) -> list[str]:
    """Run commands in one shell on a terminal; return what each of them prints."""
    script = "\n".join(f"{command}\necho '{_BETWEEN}'" for command in commands)
    env = environment(mark, temp, {"NO_COLOR": "1", **more})
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    shown = on_a_terminal("bash", "-c", script, cwd=cwd, env=env)
    return seen(shown).split(_BETWEEN)[:-1]


def seen(shown: str) -> str:
    """Return what stays on a terminal of what was written to it."""
    return _WIPED.sub("", shown.replace("\r\n", "\n"))


def test_the_tours_show_what_is_needed_first() -> None:
    commands = " ".join(step.command for step in steps(README))
    for shown in ("invoke", "-e", "crash.handler", "$?", "event", "curl", "serve"):
        assert shown in commands
    commands = " ".join(step.command for step in steps(DEPLOY))
    for shown in ("init", "invoke", "check", "package", "bootstrap", "curl"):
        assert shown in commands


def test_masks_leave_what_is_promised() -> None:
    assert masked("exit code 3") == ["exit code 3"]
    assert masked("Memory Size: 512 MB") != masked("Memory Size: 128 MB")
    assert masked("Duration: 1.00 ms") == masked("Duration: 27.31 ms")
    assert masked('"exitCode": 7') != masked('"exitCode": 3')


def test_signs_of_life_are_wiped_and_what_stays_is_compared() -> None:
    wipe = "\r\x1b[K"
    assert seen(f"first\r\n{wipe}busy (1 s){wipe}done\r\n") == "first\ndone\n"
    assert seen(f"{wipe}busy (1 s)done\r\n") == "busy (1 s)done\n"


needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="the tours need curl")


@needs_curl
def test_the_tour_prints_what_the_readme_says() -> None:
    take(README, PROJECT)


@needs_curl
@pytest.mark.skipif(not shutil.which("unzip"), reason="the tour needs unzip")
def test_the_way_to_a_function_prints_what_the_document_says(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in ("waitress", "psutil"):
        wheels.repacked(name, folder)
    # What the index has, of which the tests ask nothing. The interpreter is the one that
    # such a psutil is for, in its place.
    more = {
        **{"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": "/"},
        "ISORUNTIME_PYTHON": sys.executable,
    }
    take(DEPLOY, tmp_path, more)


def take(document: Path, cwd: Path, more: Mapping[str, str] | None = None) -> None:
    """Type a tour's commands and compare what is printed."""
    tour = list(steps(document))
    port = str(a_free_port())
    mark = f"tour-{os.getpid()}-{time.monotonic_ns()}"
    temp = temp_folder()
    temp.chmod(0o1777)
    try:
        commands = [step.command.replace("9000", port) for step in tour]
        shown = typed(commands, cwd, temp, mark, more or {})
        assert len(shown) == len(tour)
        for step, printed in zip(tour, shown, strict=True):
            as_shown = printed.replace(port, "9000").replace(str(cwd), "/srv/functions")
            assert masked(as_shown) == masked(step.shown), step.command
        wait_until(lambda: not left(mark), 5, f"an end of {left(mark)}")
        assert list(temp.iterdir()) == []
    finally:
        for process in left(mark):
            process.kill()
        shutil.rmtree(temp, ignore_errors=True)


def left(mark: str) -> list[psutil.Process]:
    """Return what lives of the tour's processes."""
    return [process for process in marked(mark) if lives(process)]
