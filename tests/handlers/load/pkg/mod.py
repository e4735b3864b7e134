"""A function in a package, with an import relative to it."""

from typing import Any

from .names import GREETING


def handler(event: bytes, context: Any) -> str:
    return f"{GREETING} {__name__}"
