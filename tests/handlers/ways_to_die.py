"""End this process in the way the event names, or say `still here`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any

import waits  # type: ignore[import-not-found]  # from the code directory


class NotAnException(BaseException):
    """Passes through every `except Exception`."""


def handler(event: bytes, context: Any) -> str:
    way, _, detail = event.decode().partition(" ")
    if way == "until":
        return str(waits.handler(event, context))
    if way == "exit":
        sys.exit(int(detail) if detail.isdigit() else detail or None)
    if way == "_exit":
        os._exit(int(detail))
    if way == "signal":
        os.kill(os.getpid(), getattr(signal, detail))
    if way == "segfault":
        ctypes.string_at(0)
    if way == "raise":
        raise {"ValueError": ValueError, "NotAnException": NotAnException}[detail](
            "asked to"
        )
    if way == "recurse":
        return handler(event, context)
    return "still here" if way != "pid" else str(os.getpid())
