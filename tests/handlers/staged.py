"""Count every run in a file, and return as many bytes as wanted: `PATH BYTES …`."""

from __future__ import annotations

import os
from typing import Any

import waits  # type: ignore[import-not-found]  # from the code directory


def handler(event: bytes, context: Any) -> Any:
    first, second, *_ = event[:4096].decode().split(" ")
    if first == "until":
        return waits.handler(event, context)
    # One write to a file opened for appending: runs at the same time add up.
    fd = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, b"%d\n" % os.getpid())
    os.close(fd)
    return b"s" * int(second)
