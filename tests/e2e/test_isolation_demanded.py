"""Isolation that is asked for is given, or nothing is started."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("words", "named"),
    [
        pytest.param(["--sandbox", "strict"], ["--sandbox strict"], id="strict"),
        pytest.param(["--network", "none"], ["--network none"], id="no network"),
        pytest.param(
            ["--sandbox", "strict", "--network", "none"],
            ["--sandbox strict", "--network none"],
            id="both, and both are listed",
        ),
    ],
)
def test_nothing_starts_with_less_isolation_than_was_asked_for(
    words: list[str], named: list[str]
) -> None:
    command = [sys.executable, "-m", "isoruntime", "serve", "--port", "0", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [name for name in named if any(name in line for line in lines)] == named
    assert len(lines) == len(named)
