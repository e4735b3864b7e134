"""Well-behaved handlers, each for one question. They import little."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any


def small(event: bytes, context: Any) -> str:
    """Answer with what stands under `key`, as the platform's sample does."""
    evt = json.loads(event)
    return str(evt["key"])


def busy(event: bytes, context: Any) -> str:
    """Calculate for a number of steps that takes 5 ms alone; see `measure.contenders`."""
    total = 0
    for number in range(int(os.environ["BENCHMARK_STEPS"])):
        total += number & 7
    return str(json.loads(event)["key"])


def echo(event: bytes, context: Any) -> bytes:
    """Answer with the event."""
    return event


def wait(event: bytes, context: Any) -> str:
    """Sleep for the seconds that the event says, and answer with its `key`."""
    evt = json.loads(event)
    time.sleep(evt["seconds"])
    return str(evt["key"])


def die(event: bytes, context: Any) -> str:
    """Print when, and die, if the event says so."""
    evt = json.loads(event)
    if evt["die"]:
        print(f"dies at {time.monotonic_ns()}", flush=True)  # noqa: T201 - read by the benchmark
        os.kill(os.getpid(), signal.SIGKILL)
    return str(evt["key"])
