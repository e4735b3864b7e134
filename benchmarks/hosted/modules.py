"""A handler that imports what a plain interpreter imports in about 300 ms.

python modules.py        print how many milliseconds the import takes
"""

from __future__ import annotations

import time

_BEGAN = time.perf_counter()

import flask  # type: ignore[import-not-found]  # noqa: E402, F401
import functions_framework  # type: ignore[import-not-found]  # noqa: E402, F401
import starlette.applications  # type: ignore[import-not-found]  # noqa: E402
import starlette.responses  # type: ignore[import-not-found]  # noqa: E402
import starlette.routing  # type: ignore[import-not-found]  # noqa: E402, F401
import uvicorn  # type: ignore[import-not-found]  # noqa: E402, F401
from functions import small  # type: ignore[import-not-found]  # noqa: E402

__all__ = ["small"]

if __name__ == "__main__":
    print((time.perf_counter() - _BEGAN) * 1000)  # noqa: T201 - read by the benchmark
