"""The README's tour, typed into a shell on a terminal: it prints what the README says.

Adding a command to the tour is adding a block to the README. Only what differs from run
to run is left out of the comparison: ids, times, amounts of memory.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.support.command import a_free_port, environment, on_a_terminal
from tests.support.server import PROJECT, lives, marked, temp_folder
from tests.waiting import wait_until

README = PROJECT / "README.md"
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
)
#: Is masked as an amount, but is a promise.
_LIMIT = "Memory Size: 512 MB"


class Step(NamedTuple):
    """One command, and what it prints."""

    command: str
    shown: str


def steps() -> Iterator[Step]:
    """Yield every command of the tour."""
    tour = _TOUR.search(README.read_text())
    assert tour, "the README has no tour"
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


def typed(commands: list[str], temp: Path, mark: str) -> list[str]:
    """Run commands in one shell on a terminal; return what each of them prints."""
    script = "\n".join(f"{command}\necho '{_BETWEEN}'" for command in commands)
    env = environment(mark, temp, {"NO_COLOR": "1"})
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    shown = on_a_terminal("bash", "-c", script, cwd=PROJECT, env=env)
    return shown.replace("\r\n", "\n").split(_BETWEEN)[:-1]


def test_the_tour_shows_what_is_needed_first() -> None:
    commands = " ".join(step.command for step in steps())
    for shown in ("invoke", "-e", "crash.handler", "$?", "event", "curl", "serve"):
        assert shown in commands


def test_masks_leave_what_is_promised() -> None:
    assert masked("exit code 3") == ["exit code 3"]
    assert masked("Memory Size: 512 MB") != masked("Memory Size: 128 MB")
    assert masked("Duration: 1.00 ms") == masked("Duration: 27.31 ms")
    assert masked('"exitCode": 7') != masked('"exitCode": 3')


@pytest.mark.skipif(not shutil.which("curl"), reason="the tour needs curl")
def test_the_tour_prints_what_the_readme_says() -> None:
    tour = list(steps())
    port = str(a_free_port())
    mark = f"tour-{os.getpid()}-{time.monotonic_ns()}"
    temp = temp_folder()
    temp.chmod(0o1777)
    try:
        commands = [step.command.replace("9000", port) for step in tour]
        shown = typed(commands, temp, mark)
        assert len(shown) == len(tour)
        for step, printed in zip(tour, shown, strict=True):
            assert masked(printed) == masked(step.shown), step.command
        wait_until(lambda: not left(mark), 5, f"an end of {left(mark)}")
        assert list(temp.iterdir()) == []
    finally:
        for process in left(mark):
            process.kill()
        shutil.rmtree(temp, ignore_errors=True)


def left(mark: str) -> list[psutil.Process]:
    """Return what lives of the tour's processes."""
    return [process for process in marked(mark) if lives(process)]
