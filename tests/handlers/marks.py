"""Leave marks in files, so that a test sees whether and in which order a handler ran."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from typing import Any


def append(path: str, text: str) -> None:
    with open(path, "a") as file:  # noqa: PTH123 - as users write it
        file.write(f"{text}\n")


def wait_for(path: str) -> None:
    print(f"waiting for {path}", flush=True)
    while not os.path.exists(path):  # noqa: PTH110 - polled often
        time.sleep(0.005)


def mark(path: str, text: str) -> None:
    append(path, text)


def mark_after(gate: str, path: str, text: str) -> None:
    wait_for(gate)
    append(path, text)


def work(seconds: str) -> None:
    """Take so much time of running, however long the process is stopped meanwhile."""
    print("working", flush=True)
    for _ in range(round(float(seconds) / 0.05)):
        time.sleep(0.05)


def litter(gate: str) -> None:
    """Hold temporary files and a grandchild in a session of its own."""
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(b"left")
    os.mkdir(os.path.join(tempfile.gettempdir(), "folder"))  # noqa: PTH102, PTH118
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    wait_for(gate)


WAYS = {"mark": mark, "mark after": mark_after, "work": work, "litter": litter}


def handler(event: bytes, context: Any) -> str:
    way, *details = event.decode().split("|")
    if way in WAYS:
        WAYS[way](*details)
    return str(os.getpid())
