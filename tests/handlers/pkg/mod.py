"""A handler in a package."""

from __future__ import annotations

from typing import Any


def handler(event: bytes, context: Any) -> str:
    return f"from {__name__}"
