"""A Starlette application that answers with what stands under `key`."""

from __future__ import annotations

import json

from starlette.applications import Starlette  # type: ignore[import-not-found]
from starlette.requests import Request  # type: ignore[import-not-found]
from starlette.responses import PlainTextResponse  # type: ignore[import-not-found]
from starlette.routing import Route  # type: ignore[import-not-found]


async def invoke(request: Request) -> PlainTextResponse:
    """Answer an event."""
    return PlainTextResponse(str(json.loads(await request.body())["key"]))


app = Starlette(routes=[Route("/invoke", invoke, methods=["POST"])])
