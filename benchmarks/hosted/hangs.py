"""Hang in the way the event names, and say beforehand which processes do.

The event is `WAY PATH`: process ids are written to PATH, one a line. Nothing lives longer
than half a minute, should nobody end it.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any, Final

_MOST_S: Final = 30


def _note(path: str, pid: int) -> None:
    # One write to a file opened for appending, so that lines are never mixed.
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, b"%d\n" % pid)
    os.close(fd)


def sleep(path: str) -> None:
    """Wait."""
    time.sleep(_MOST_S)


def loop(path: str) -> None:
    """Calculate."""
    until = time.monotonic() + _MOST_S
    while time.monotonic() < until:
        pass


def block(path: str) -> None:
    """Stay in C with the interpreter's lock held."""
    ctypes.PyDLL(None).sleep(_MOST_S)


def program(path: str) -> None:
    """Wait for another program that has a session of its own."""
    child = subprocess.Popen(  # noqa: S603 - a command line of ours
        ["sleep", str(_MOST_S)],  # noqa: S607 - found as a user would
        start_new_session=True,
    )
    _note(path, child.pid)
    child.wait()


def daemon(path: str) -> None:
    """Leave a process that is nobody's child, and hang as well."""
    # Safe because this process is a worker with one thread, and ends with its children.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            _note(path, os.getpid())
            time.sleep(_MOST_S)
        os._exit(0)
    time.sleep(_MOST_S)


WAYS: dict[str, Callable[[str], None]] = {
    way.__name__: way for way in (sleep, loop, block, program, daemon)
}


def handler(event: bytes, context: Any) -> str:
    """Hang, or answer with the names of all ways to."""
    if not event:
        return " ".join(WAYS)
    way, _, path = event.decode().partition(" ")
    _note(path, os.getpid())
    WAYS[way](path)
    return "was not ended"
