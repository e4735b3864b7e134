"""Wait until a file exists: an invocation that is in flight for as long as a test wants."""

from __future__ import annotations

import os
import time
from typing import Any


def handler(event: bytes, context: Any) -> str:
    way, _, detail = event.decode().partition(" ")
    if way == "until":
        print(f"waiting for {detail}", flush=True)
        while not os.path.exists(detail):  # noqa: PTH110 - polled often
            time.sleep(0.005)
        return "done"
    if way == "sleep":
        time.sleep(float(detail))
        return "slept"
    if way == "signal":
        os.kill(os.getpid(), int(detail))
    return str(os.getpid())
