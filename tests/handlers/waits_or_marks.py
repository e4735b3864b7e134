"""Wait as `waits` does, or leave marks as `marks` does."""

from __future__ import annotations

from typing import Any

import marks  # type: ignore[import-not-found]  # from the code directory
import waits  # type: ignore[import-not-found]  # from the code directory


def handler(event: bytes, context: Any) -> str:
    which = marks if b"|" in event else waits
    return str(which.handler(event, context))
