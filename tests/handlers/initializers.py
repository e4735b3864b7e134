"""Count how often the initializer ran in this process."""

from __future__ import annotations

import os
from typing import Any

initialized: list[str] = []


def initializer(context: Any) -> str:
    print("initializing")
    initialized.append(context.request_id)
    return "ignored"


def failing(context: Any) -> None:
    print("about to fail")
    raise ValueError("not today")


def dying(context: Any) -> None:
    os._exit(3)


def hanging(context: Any) -> None:
    import time

    time.sleep(600)


def handler(event: bytes, context: Any) -> dict[str, int]:
    if event == b"die":
        os._exit(1)
    return {"initialized": len(initialized), "pid": os.getpid()}
