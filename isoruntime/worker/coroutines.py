"""Awaiting what `async def` handlers return, on one event loop per worker.

asyncio is imported when the first coroutine comes along, in the worker that needs
it; the zygote has it only if the handler's own imports brought it.
"""

from __future__ import annotations

import time

from isoruntime.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

_loop: asyncio.AbstractEventLoop | None = None


class DeadlinePassed(Exception):
    """The coroutine was cancelled because its time was over, and has ended."""


async def _sample() -> None:
    """Do nothing: made to learn the type of a coroutine."""


_coroutine = _sample()
_Coroutine = type(_coroutine)
_coroutine.close()


def is_coroutine(value: object) -> bool:
    """Return whether a handler's return value is still to be awaited."""
    return type(value) is _Coroutine


def event_loop() -> asyncio.AbstractEventLoop:
    """Return the worker's loop.

    It outlives the invocation, since connections a handler keeps belong to the loop
    they were opened on.
    """
    global _loop  # noqa: PLW0603 - one loop per process, by design
    if _loop is None or _loop.is_closed():
        import asyncio

        _loop = asyncio.new_event_loop()
        asyncio.set_event_loop(_loop)
    return _loop


def wait_for(
    coroutine: Coroutine[Any, Any, object],
    deadline: float | None,
    on_cancel: Callable[[], object],
) -> object:
    """Run a coroutine to its end; return or raise what it does.

    At the deadline it is cancelled, `on_cancel` being called first, so that it can
    let go of what it holds. Who does not end then is ended from outside.

    Raises:
        DeadlinePassed: it was cancelled, and has ended.
    """
    loop = event_loop()
    task = loop.create_task(coroutine)
    was_cancelled = False

    def cancel() -> None:
        nonlocal was_cancelled
        was_cancelled = True
        on_cancel()
        task.cancel()

    timer = None
    if deadline is not None:
        timer = loop.call_later(max(0.0, deadline - time.monotonic()), cancel)
    try:
        value = loop.run_until_complete(task)
    except BaseException:
        if was_cancelled and task.done():
            # Whatever came of the cleaning up.
            raise DeadlinePassed from None
        raise
    finally:
        if timer is not None:
            timer.cancel()
    if was_cancelled:
        raise DeadlinePassed
    return value
