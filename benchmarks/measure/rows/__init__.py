"""The rows that `benchmarks/run` can measure, in the order of the table."""

from __future__ import annotations

from typing import Final

from benchmarks.measure.row import Row
from benchmarks.measure.rows import (
    burst,
    cpu,
    crash,
    fresh,
    growth,
    handlers,
    idle,
    large,
    latency,
    memory,
    start,
    throughput,
)

ROWS: Final[dict[str, Row]] = {
    module.ROW.name: module.ROW
    for module in (
        throughput,
        latency,
        cpu,
        fresh,
        crash,
        start,
        memory,
        large,
        burst,
        idle,
        growth,
        handlers,
    )
}
