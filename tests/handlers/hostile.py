"""Misuse what a worker has: its descriptors, its streams, its name."""

from __future__ import annotations

import os
import sys
from typing import Any


def close_everything() -> None:
    os.closerange(0, 1024)


def write_everywhere() -> None:
    """Write what could be taken for an answer to every descriptor there is."""
    for descriptor in range(3, 1024):
        try:
            os.write(descriptor, b"\x00\x01\x02\x03" * 64)
        except OSError:
            continue


def replace_streams() -> None:
    sys.stdout = sys.stderr = sys.stdin = None


class _List(list[str]):
    """Takes what is printed, and cannot be hashed."""

    def write(self, text: str) -> None:
        self.append(text)

    def flush(self) -> None:
        """There is nothing to hand on."""


def collect_output() -> None:
    sys.stdout = sys.stderr = _List()  # type: ignore[assignment]


def point_stdout_elsewhere() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)


def read_stdin() -> None:
    assert sys.stdin.read() == ""
    assert os.read(0, 1) == b""


def change_directory() -> None:
    os.chdir("/")


WAYS = {
    "close everything": close_everything,
    "write everywhere": write_everywhere,
    "replace the streams": replace_streams,
    "collect the output": collect_output,
    "point stdout elsewhere": point_stdout_elsewhere,
    "read stdin": read_stdin,
    "change the directory": change_directory,
}


def handler(event: bytes, context: Any) -> bytes:
    way = event.decode()
    if way in WAYS:
        WAYS[way]()
    return event
