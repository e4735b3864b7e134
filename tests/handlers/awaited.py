"""An `async def` handler."""

from __future__ import annotations

import asyncio
from typing import Any


async def handler(event: bytes, context: Any) -> dict[str, str]:
    await asyncio.sleep(0)
    return {"awaited": event.decode()}
