"""Wait as long as the event says, or return it."""

from __future__ import annotations

import time
from typing import Any


def handler(event: bytes, context: Any) -> bytes:
    way, _, detail = event[:20].partition(b" ")
    if way == b"sleep":
        time.sleep(float(detail))
    return event
