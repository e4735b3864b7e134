"""Completion: what a shell is offered, asked as the shells ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isoruntime.cli.completion import SHELLS
from isoruntime.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
#: What argcomplete's own shell code leads to; the words are written to descriptor 8.
ASK = """\
exec 8>&1 9>&2 1>/dev/null
exec "$1" -c 'import sys; from isoruntime.cli.main import main; sys.exit(main())'
"""


def offered(line: str, folder: Path) -> list[str]:
    """Return what a shell is told at the end of a line."""
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", sys.executable],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return [word.strip() for word in done.stdout.splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "index.py").write_text("def handler(e, c): ...\ndef _own(): ...\n")
    (tmp_path / "jobs.py").write_text("async def nightly(e, c): ...\n")
    (tmp_path / "broken.py").write_text("def handler(:\n")
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "order.json").write_text("{}")
    return tmp_path


def test_every_command_is_offered(folder: Path) -> None:
    assert set(COMMANDS) <= set(offered("isoruntime ", folder))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("isoruntime invoke i", ["index.handler"]),
        ("isoruntime serve jo", ["jobs.nightly"]),
        ("isoruntime serve --max-inv", ["--max-invocations"]),
        ("isoruntime invoke --rep", ["--repeat"]),
        ("isoruntime invoke --sandbox st", ["standard", "strict"]),
        ("isoruntime invoke -e @", ["@events/order.json"]),
        ("isoruntime event o", ["oss", "order"]),
        ("isoruntime completion f", ["fish"]),
        ("isoruntime package --py", ["--python"]),
        ("isoruntime package --python 3.10", ["3.10"]),
        ("isoruntime package --no", ["--no-vendor", "--no-bytecode"]),
        ("isoruntime check --str", ["--strict"]),
        ("isoruntime init ev", ["events/"]),
    ],
)
def test_what_comes_next_is_offered(folder: Path, line: str, words: list[str]) -> None:
    assert offered(line, folder) == words


def test_handlers_are_looked_for_where_the_code_is(folder: Path) -> None:
    elsewhere = folder / "events"
    line = f"isoruntime invoke --code-dir {folder} in"
    assert offered(line, elsewhere) == ["index.handler"]


def isoruntime(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isoruntime", *words],
        env={"PATH": os.environ["PATH"]},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_the_code_for_each_shell_is_printed(shell: str) -> None:
    done = isoruntime("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_ARGCOMPLETE" in done.stdout
    assert SHELLS[shell] in isoruntime("completion", "--help").stdout


def test_the_code_for_bash_is_bash() -> None:
    code = isoruntime("completion", "bash").stdout
    subprocess.run(["bash", "-n"], input=code, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "completion takes the name of a shell: give one of bash, zsh, fish"),
        (("fsh",), "'fsh' is no shell known here: did you mean fish?"),
    ],
)
def test_another_shell_is_refused(words: tuple[str, ...], problem: str) -> None:
    done = isoruntime("completion", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert problem in done.stderr
