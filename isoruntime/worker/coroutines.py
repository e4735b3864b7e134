"""Awaiting what `async def` handlers return, on one event loop per worker.

asyncio is imported when the first coroutine comes along, in the worker that needs
it; the zygote has it only if the handler's own imports brought it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

_loop: asyncio.AbstractEventLoop | None = None


async def _sample() -> None:
    """Do nothing: made to learn the type of a coroutine."""


_coroutine = _sample()
_Coroutine = type(_coroutine)
_coroutine.close()


def is_coroutine(value: object) -> bool:
    """Return whether a handler's return value is still to be awaited."""
    return type(value) is _Coroutine


def wait_for(coroutine: Coroutine[Any, Any, object]) -> object:
    """Run a coroutine to its end; return or raise what it does.

    The loop outlives the invocation, since connections a handler keeps belong to
    the loop they were opened on.
    """
    global _loop  # noqa: PLW0603 - one loop per process, by design
    if _loop is None or _loop.is_closed():
        import asyncio

        _loop = asyncio.new_event_loop()
        asyncio.set_event_loop(_loop)
    return _loop.run_until_complete(coroutine)
