"""Waiting for a condition instead of sleeping for a guess."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], object], within: float = 10, what: str = "the condition"
) -> None:
    """Return as soon as `condition` holds; fail if it does not within seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in {within} s"
        time.sleep(0.002)
