"""What the host can do, as `isoruntime doctor` judges it."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest

from tests.support.server import PROJECT


@functools.cache
def has_strict() -> bool:
    """Return whether `--sandbox strict` can be kept here."""
    argv = [sys.executable, "-m", "isoruntime", "doctor", "--require", "strict"]
    judged = subprocess.run(argv, capture_output=True, check=False, cwd=PROJECT)
    return judged.returncode == 0


def require_strict() -> None:
    """Skip the test where `--sandbox strict` cannot be kept."""
    if not has_strict():
        pytest.skip("this host cannot keep --sandbox strict: see isoruntime doctor")
