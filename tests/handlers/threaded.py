"""Leave a thread running at import, as many client libraries do."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

beats: list[float] = []


def _beat() -> None:
    while True:
        beats.append(time.monotonic())
        time.sleep(0.01)


threading.Thread(target=_beat, daemon=True).start()


def handler(event: bytes, context: Any) -> dict[str, int]:
    seen = len(beats)
    while len(beats) == seen:
        time.sleep(0.01)
    return {"pid": os.getpid(), "threads": threading.active_count()}
