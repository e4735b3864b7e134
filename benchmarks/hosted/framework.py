"""The handler as functions-framework takes it."""

from __future__ import annotations

from typing import Any

from flask import Response  # type: ignore[import-not-found]
from hosting import load, respond  # type: ignore[import-not-found]

handler = load()


def main(request: Any) -> Response:
    """Call the handler as the runtime does."""
    answer = respond(handler, request.environ, request.get_data())
    return Response(answer.body, answer.status, answer.headers)
