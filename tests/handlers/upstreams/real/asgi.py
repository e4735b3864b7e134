"""An ASGI application, for uvicorn; its answers have no length."""

import asyncio
import os
import time
from pathlib import Path


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    event, has_more = bytearray(), True
    while has_more:
        message = await receive()
        event += message.get("body", b"")
        has_more = message.get("more_body", False)
    request_id = dict(scope["headers"])[b"x-fc-request-id"].decode()
    # In one piece, as other lines may come between pieces.
    print(f"{request_id} got {len(event)}")
    await act(event)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    half = len(event) // 2
    for body, is_last in ((event[:half], False), (event[half:], True)):
        part = {"body": bytes(body), "more_body": not is_last}
        await send({"type": "http.response.body", **part})


async def act(event):
    word, _, rest = event[:4096].decode("latin-1").partition(" ")
    if word == "crash":
        os._exit(3)
    elif word == "hang":
        await asyncio.create_subprocess_exec("sleep", "61")
        # The loop hears of nothing while this lasts, nor of a polite signal.
        time.sleep(60)
    elif word == "wait":
        while not Path(rest).exists():
            await asyncio.sleep(0.01)


async def live(receive, send):
    for name in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{name}.complete"})
