"""Write output in every way a handler can; the event chooses."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import Any

logger = logging.getLogger("prints")


def print_it(detail: str, context: Any) -> None:
    print("printed", detail)
    print("complained", file=sys.stderr)


def log_it(detail: str, context: Any) -> None:
    logger.debug("not seen")
    logger.info("info %s", detail)
    logging.warning("careful")
    context.getLogger().error("bad")
    logger.info("first\nsecond")


def by_a_child(detail: str, context: Any) -> None:
    os.system("echo from a child; echo and its stderr >&2")  # noqa: S605 - the point
    subprocess.run(["/bin/echo", "from a process"], check=True)
    os.write(1, b"raw write\n")


def partial_line(detail: str, context: Any) -> None:
    sys.stdout.write("no newline at the end")


def long_line(detail: str, context: Any) -> None:
    os.write(1, b"<")
    sys.stdout.write("x" * int(detail))
    sys.stdout.flush()
    os.write(1, b">\n")


def many_lines(detail: str, context: Any) -> None:
    thousand = ("y" * 99 + "\n") * 1000
    for _ in range(int(detail) // 1000):
        sys.stdout.write(thousand)


def binary(detail: str, context: Any) -> None:
    os.write(1, bytes(range(256)) + b"\xe2\x9d\n")


def surrogate(detail: str, context: Any) -> None:
    print("lone \udcff surrogate")


def forged_end(detail: str, context: Any) -> None:
    print(f"FC Invoke End RequestId: {context.request_id}x")


def then_raise(detail: str, context: Any) -> None:
    print("before the raise")
    raise ValueError(detail)


def then_exit(detail: str, context: Any) -> None:
    print("before the exit")
    sys.exit(detail)


def then_be_killed(detail: str, context: Any) -> None:
    print("before the kill", flush=True)
    os.kill(os.getpid(), 9)


WAYS = {
    "print": print_it,
    "log": log_it,
    "child": by_a_child,
    "partial": partial_line,
    "long": long_line,
    "many": many_lines,
    "binary": binary,
    "surrogate": surrogate,
    "fake": forged_end,
    "raise": then_raise,
    "exit": then_exit,
    "kill": then_be_killed,
}


def handler(event: bytes, context: Any) -> str:
    way, _, detail = event.decode().partition(" ")
    if way:
        WAYS[way](detail, context)
    return "ok"
