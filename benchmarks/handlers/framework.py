"""The crashing handler as functions-framework takes it."""

from __future__ import annotations

from typing import Any

from crashes import handler  # type: ignore[import-not-found]


def main(request: Any) -> str:
    """Call the handler as the runtime does."""
    return str(handler(request.get_data(), None))
