"""Write output in every way a handler can; the event chooses."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import Any

logger = logging.getLogger("prints")


def handler(event: bytes, context: Any) -> str:
    way, _, detail = event.decode().partition(" ")
    if way == "print":
        print("printed", detail)
        print("complained", file=sys.stderr)
    elif way == "log":
        logger.debug("not seen")
        logger.info("info %s", detail)
        logging.warning("careful")  # noqa: LOG015 - what users write
        context.getLogger().error("bad")
        logger.info("first\nsecond")
    elif way == "child":
        os.system("echo from a child; echo and its stderr >&2")  # noqa: S605, S607
        subprocess.run(["/bin/echo", "from a process"], check=True)  # noqa: S603
        os.write(1, b"raw write\n")
    elif way == "partial":
        sys.stdout.write("no newline at the end")
    elif way == "long":
        os.write(1, b"<")
        sys.stdout.write("x" * int(detail))
        sys.stdout.flush()
        os.write(1, b">\n")
    elif way == "many":
        line = "y" * 99
        for _ in range(int(detail) // 1000):
            sys.stdout.write((line + "\n") * 1000)
        sys.stdout.write((line + "\n") * (int(detail) % 1000))
    elif way == "binary":
        os.write(1, bytes(range(256)) + b"\xe2\x9d\n")
    elif way == "surrogate":
        print("lone \udcff surrogate")
    elif way == "fake":
        print(f"FC Invoke End RequestId: {context.request_id}x")
    elif way == "raise":
        print("before the raise")
        raise ValueError(detail)
    elif way == "exit":
        print("before the exit")
        sys.exit(detail)
    elif way == "kill":
        print("before the kill", flush=True)
        os.kill(os.getpid(), 9)
    return "ok"
