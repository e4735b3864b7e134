"""End this process in the way the event names, or say `still here`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from typing import Any

import waits  # type: ignore[import-not-found]  # from the code directory


class NotAnException(BaseException):
    """Passes through every `except Exception`."""


def python_exit(detail: str) -> None:
    sys.exit(int(detail) if detail.isdigit() else detail)


def send_signal(detail: str) -> None:
    os.kill(os.getpid(), getattr(signal, detail))


def exit_in_a_thread(detail: str) -> None:
    threading.Thread(target=os._exit, args=(int(detail),)).start()
    time.sleep(600)


def exit_after_the_answer(detail: str) -> None:
    threading.Timer(0.05, os._exit, (int(detail),)).start()


def raise_one(detail: str) -> None:
    raise {"ValueError": ValueError, "NotAnException": NotAnException}[detail]("asked")


def recurse(detail: str) -> None:
    recurse(detail)


WAYS = {
    "exit": python_exit,
    "_exit": lambda detail: os._exit(int(detail)),
    "libc": lambda detail: ctypes.CDLL(None).exit(int(detail)),
    "signal": send_signal,
    "segfault": lambda detail: ctypes.string_at(0),
    "thread": exit_in_a_thread,
    "later": exit_after_the_answer,
    "raise": raise_one,
    "recurse": recurse,
}


def handler(event: bytes, context: Any) -> str:
    way, _, detail = event.decode().partition(" ")
    if way == "until":
        return str(waits.handler(event, context))
    if way == "pid":
        return str(os.getpid())
    if way in WAYS:
        WAYS[way](detail)
    return "still here"
