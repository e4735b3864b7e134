"""Say something, then fail in the way the event names: `WAY LINES`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import Any


def fall_into_nothing() -> None:
    ctypes.string_at(0)


def sleep_too_long() -> None:
    time.sleep(30)


def block_too_long() -> None:
    """Stay in C with the interpreter's lock held."""
    ctypes.PyDLL(None).sleep(30)


def raise_one() -> None:
    raise ValueError("asked")


WAYS = {
    "segfault": fall_into_nothing,
    "abort": os.abort,
    "hang": sleep_too_long,
    "block": block_too_long,
    "exit": lambda: os._exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "close": lambda: os.closerange(3, 4096),
    "execute": lambda: os.execv("/bin/sleep", ["sleep", "30"]),  # noqa: S606 - a shell is not wanted
    "raise": raise_one,
}


def handler(event: bytes, context: Any) -> Any:
    way, lines, code = [*event.decode().split(), "0", ""][:3]
    if way == "_exit":
        os._exit(int(lines))
    for number in range(int(lines)):
        print(f"line {number:04d} {'.' * 50}")
    if code == "unfinished":
        sys.stdout.write("the last words")
    if way in WAYS:
        WAYS[way]()
    return "still here"
