"""Return the event."""

from __future__ import annotations

from typing import Any


def handler(event: bytes, context: Any) -> bytes:
    return event
