"""The machine, and whether it is quiet enough for its numbers to mean anything."""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path
from typing import Final, NamedTuple

import psutil

#: Beyond these a difference of a few per cent cannot be told from noise …
WARN_SPREAD: Final = 0.10
WARN_BUSY: Final = 0.05
WARN_STOLEN: Final = 0.02
#: … and beyond these nothing can.
REFUSE_SPREAD: Final = 0.40
REFUSE_BUSY: Final = 0.30
REFUSE_STOLEN: Final = 0.10

_LOOPS: Final = 25
_LOOP_STEPS: Final = 200_000
_LISTEN_S: Final = 1.0


class Quiet(NamedTuple):
    """How steadily the machine works, and what else it works on."""

    #: a fixed loop's time: (9th decile - 1st decile) / median
    spread: float
    #: the share of all cores that others took while we slept
    busy: float
    #: the share of all cores that a hypervisor gave to others while we calculated
    stolen: float
    #: the fixed loop's median in milliseconds: a yardstick between machines
    loop_ms: float

    @property
    def is_unusable(self) -> bool:
        """Whether a comparison would be guesswork."""
        return self.spread > REFUSE_SPREAD or self.is_disturbed

    @property
    def is_disturbed(self) -> bool:
        """Whether others take so much that a comparison would be guesswork."""
        return self.busy > REFUSE_BUSY or self.stolen > REFUSE_STOLEN

    @property
    def is_doubtful(self) -> bool:
        """Whether small differences mean nothing."""
        return (
            self.spread > WARN_SPREAD
            or self.busy > WARN_BUSY
            or self.stolen > WARN_STOLEN
        )

    def __str__(self) -> str:
        return (
            f"a fixed loop took {self.loop_ms:.1f} ms with a spread of {self.spread:.0%},"
            f" others used {self.busy:.0%} of the cores, {self.stolen:.0%} were stolen"
        )


def listen() -> Quiet:
    """Measure for about two seconds."""
    psutil.cpu_percent()
    time.sleep(_LISTEN_S)
    busy = psutil.cpu_percent() / 100
    before = psutil.cpu_times()
    taken = [_fixed_loop_s() for _ in range(_LOOPS)]
    after = psutil.cpu_times()
    deciles = statistics.quantiles(taken, n=10)
    median = statistics.median(taken)
    passed = sum(after) - sum(before)
    stolen = (after.steal - before.steal) / passed if passed else 0.0
    return Quiet((deciles[-1] - deciles[0]) / median, busy, stolen, median * 1000)


def _fixed_loop_s() -> float:
    began = time.perf_counter()
    total = 0
    for number in range(_LOOP_STEPS):
        total += number & 7
    return time.perf_counter() - began


def describe() -> str:
    """Return one line on processor, cores, memory, kernel and Python."""
    memory_gb = psutil.virtual_memory().total / (1 << 30)
    cores = len(os.sched_getaffinity(0))
    return (
        f"{_processor()}, {cores} cores, {memory_gb:.0f} GB,"
        f" Linux {platform.release().split('-')[0]},"
        f" {platform.python_implementation()} {platform.python_version()}"
    )


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
