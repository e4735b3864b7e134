"""A function at the root of the code."""

from typing import Any

not_callable = 3


def handler(event: bytes, context: Any) -> str:
    return f"from {__name__}"


def initializer(context: Any) -> None:
    """Do nothing, so that there is something else to be found."""
