"""A handler whose import takes 300 ms of work."""

from __future__ import annotations

import time

from functions import small  # type: ignore[import-not-found]

__all__ = ["small"]

_UNTIL = time.perf_counter() + 0.3
while time.perf_counter() < _UNTIL:
    pass
