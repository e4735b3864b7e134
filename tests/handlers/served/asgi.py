"""An ASGI application with a path for each thing that can happen."""

import asyncio
import os
import threading
from pathlib import Path

started = []


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    await PATHS.get(scope["path"], tell)(scope, receive, send)


async def live(receive, send):
    while True:
        message = await receive()
        print(message["type"], flush=True)
        started.append(message["type"])
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def start(send, status=200, headers=()):
    await send(
        {"type": "http.response.start", "status": status, "headers": list(headers)}
    )


async def body(send, data=b"", more=False):
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def tell(scope, receive, send):
    message = await receive()
    context = scope["extensions"]["fc"]["context"]
    told = (
        scope["method"],
        scope["path"],
        scope["raw_path"],
        scope["query_string"],
        scope["root_path"],
        dict(scope["headers"]).get(b"x-kept"),
        message["body"],
        context.request_id,
        started,
    )
    await start(send, 201, [(b"content-type", b"text/plain"), (b"x-told", b"yes")])
    await body(send, repr(told).encode())


async def stream(scope, receive, send):
    gate = scope["query_string"].decode()
    await receive()
    await start(send)
    for number in range(3):
        while not Path(f"{gate}{number}").exists():
            await asyncio.sleep(0.01)
        await body(send, b"piece %d\n" % number, True)
    await body(send)


async def watches(scope, receive, send):
    """Send until the client has gone, and say that it was noticed."""
    await receive()
    await start(send)
    gone = asyncio.ensure_future(receive())
    while not gone.done():
        await body(send, b"x" * 1000, True)
        await asyncio.sleep(0.02)
    print(gone.result()["type"], flush=True)


async def afterwards(scope, receive, send):
    """Answer, and then go on working."""
    gate = scope["query_string"].decode()
    await receive()
    await start(send)
    await body(send, b"answered")
    while not Path(gate).exists():
        await asyncio.sleep(0.01)
    print("done afterwards", flush=True)


async def raises(scope, receive, send):
    raise ValueError("at once")


async def raises_after_its_answer(scope, receive, send):
    await start(send, 500)
    await body(send, b"a page of my own")
    raise ValueError("for the log")


async def incomplete(scope, receive, send):
    await start(send)
    await body(send, b"x", True)


async def hangs(scope, receive, send):
    try:
        await asyncio.sleep(60)
    finally:
        print("cleaned up", flush=True)


async def dies(scope, receive, send):
    await start(send)
    await body(send, b"first\n", True)
    await asyncio.sleep(0.2)
    os._exit(3)


async def in_a_thread(scope, receive, send):
    name = await asyncio.get_running_loop().run_in_executor(
        None, lambda: threading.current_thread().name
    )
    await start(send)
    await body(send, f"{os.getpid()} {name}".encode())


PATHS = {
    "/stream": stream,
    "/watches": watches,
    "/afterwards": afterwards,
    "/raises": raises,
    "/raises-after-its-answer": raises_after_its_answer,
    "/incomplete": incomplete,
    "/hangs": hangs,
    "/dies": dies,
    "/in-a-thread": in_a_thread,
}


async def without_lifespan(scope, receive, send):
    assert scope["type"] == "http"
    await tell(scope, receive, send)


async def does_not_start(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
