"""Makes as many objects on import as a framework does, and tells what became of that."""

from __future__ import annotations

import gc
import os
from typing import Any

_passes: list[int] = []
gc.callbacks.append(lambda phase, info: _passes.append(info["generation"]))
_made: list[list[Any]] = [[] for _ in range(60_000)]
_during_import = len(_passes)
if "THRESHOLD" in os.environ:
    gc.set_threshold(int(os.environ["THRESHOLD"]))


def handler(event: bytes, context: Any) -> dict[str, Any]:
    """Tell how often the garbage collector has looked, and what it leaves aside."""
    _passes.clear()
    later = [[] for _ in range(10_000)]  # type: ignore[var-annotated]
    return {
        "during import": _during_import,
        "during call": len(_passes),
        "made": len(later),
        "left aside": gc.get_freeze_count(),
        "threshold": gc.get_threshold()[0],
    }
