"""A function in folders that are no packages."""

from typing import Any


def handler(event: bytes, context: Any) -> str:
    return f"from {__name__}"
