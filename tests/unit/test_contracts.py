"""The import contracts of pyproject.toml can fail: each is broken once on purpose."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")

LAYERS = "A layer imports only what lies below it"
FRONT_SIDE = "The front side never imports what runs handlers"
ONE_THREAD = "What forks or runs handlers has one thread and the standard library"
PURE = "Judgement is pure: no file, clock, process or socket"
TYPING = "Only type checkers import typing"
PICKLES = "Nobody unpickles"
ALL = {LAYERS, FRONT_SIDE, ONE_THREAD, PURE, TYPING, PICKLES}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy the package and its contracts, free to be spoilt."""
    shutil.copytree(
        ROOT / "isoruntime",
        tmp_path / "isoruntime",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken_contracts(tree: Path) -> set[str]:
    """Return the names of the contracts that do not hold in `tree`."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(LINT_IMPORTS), "--no-cache"],
        cwd=tree,
        env=environment | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    verdicts = dict(re.findall(r"^(.+) (KEPT|BROKEN)\b", done.stdout, re.MULTILINE))
    # A linter that stopped before it judged must not pass for one that found nothing.
    assert set(verdicts) == ALL, done.stdout + done.stderr
    broken = {name for name, verdict in verdicts.items() if verdict == "BROKEN"}
    assert (done.returncode != 0) == bool(broken)
    return broken


def test_every_contract_holds_in_the_package_as_it_is(copy: Path) -> None:
    assert broken_contracts(copy) == set()


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        pytest.param(
            "errors.py",
            "import isoruntime.pool",
            LAYERS,
            id="an import of a higher layer",
        ),
        pytest.param(
            "pool/states.py",
            "def late():\n    from isoruntime.worker import main",
            FRONT_SIDE,
            id="a worker module imported late by the pool",
        ),
        pytest.param(
            "zygote/client.py",
            "from isoruntime.zygote import server",
            FRONT_SIDE,
            id="the zygote's server imported by its client",
        ),
        pytest.param(
            "worker/main.py", "import threading", ONE_THREAD, id="a thread in a worker"
        ),
        pytest.param(
            "wire/frames.py",
            "import psutil",
            ONE_THREAD,
            id="psutil reaching a worker through the wire",
        ),
        pytest.param("wire/frames.py", "import os", PURE, id="a codec that does I/O"),
        pytest.param(
            "cli/init.py", "from typing import Any", TYPING, id="typing at run time"
        ),
        pytest.param(
            "pool/states.py", "import socket", PURE, id="a state table that does I/O"
        ),
        pytest.param(
            "errors.py", "from pickle import loads", PICKLES, id="an unpickled reply"
        ),
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    copy: Path, module: str, line: str, contract: str
) -> None:
    with (copy / "isoruntime" / module).open("a") as source:
        source.write(f"\n{line}\n")
    assert contract in broken_contracts(copy)
