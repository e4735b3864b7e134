"""`async def` handlers."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

_tasks: set[asyncio.Task[None]] = set()


async def handler(event: bytes, context: Any) -> dict[str, str]:
    await asyncio.sleep(0)
    return {"awaited": event.decode()}


async def told(event: bytes, context: Any) -> Any:
    """Do as the event says."""
    name, _, rest = event.decode().partition(" ")
    return await globals()[f"do_{name}"](rest)


async def do_where(rest: str) -> str:
    """Name the process and the loop."""
    return f"{os.getpid()} {id(asyncio.get_running_loop())}"


async def do_wait(rest: str) -> str:
    """Wait for a file."""
    print("waiting", flush=True)
    while not Path(rest).exists():
        await asyncio.sleep(0.01)
    return "waited"


async def do_clean(rest: str) -> None:
    """Clean up when cancelled."""
    try:
        await asyncio.sleep(60)
    finally:
        print("cleaned up", flush=True)


async def do_take_time(rest: str) -> None:
    """Take a little over what there is for cleaning up."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(5)
        print("cleaned up at last", flush=True)


async def do_go_on(rest: str) -> None:
    """Take no notice of being cancelled."""
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("not now", flush=True)


async def do_return(rest: str) -> str:
    """Answer when cancelled, too late."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "an answer nobody waits for"
    return ""


async def do_block(rest: str) -> None:
    """Give the loop no chance to cancel anything."""
    time.sleep(60)


async def do_raise(rest: str) -> None:
    """Raise what would cancel, by itself."""
    raise asyncio.CancelledError


async def do_leave(rest: str) -> str:
    """Leave a task behind, which goes on with the next invocation."""

    async def later() -> None:
        await asyncio.sleep(0.01)
        print("the task went on", flush=True)

    task = asyncio.ensure_future(later())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return "left"


async def do_exit(rest: str) -> None:
    """End the process."""
    os._exit(int(rest))


async def do_yield(rest: str) -> Any:
    """Return what is no answer."""

    async def pieces() -> Any:
        yield b"a"

    return pieces()
