"""A handler with a large import: `BENCHMARK_BALLAST_MB` of objects, as libraries leave them."""

from __future__ import annotations

import os

from functions import small, wait  # type: ignore[import-not-found]

__all__ = ["small", "wait"]

_OBJECT_BYTES = 1000

# Objects of their own, and filled: pages that are not written to would cost nothing.
OBJECTS = [
    bytes([number & 0xFF]) * _OBJECT_BYTES
    for number in range(int(os.environ["BENCHMARK_BALLAST_MB"]) * 1000)
]
