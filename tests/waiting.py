"""Waiting for a condition instead of sleeping for a guess."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], object], within_s: float = 5, what: str = "the condition"
) -> None:
    """Return as soon as `condition` holds; fail the test if it never does.

    The limit only decides how long a broken test takes, so it may be generous. `what`
    is for the failure's message.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} was not true within {within_s:g} s"
        time.sleep(0.001)
