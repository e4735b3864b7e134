"""A pool of processes behind waitress, with a limit on every call: pebble's.

python pooled.py PORT PROCESSES
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import waitress
from hosting import load, make_app  # type: ignore[import-not-found]
from pebble import ProcessPool  # type: ignore[import-not-found]

_THREADS = 8
_LIMIT_S = 60


def call(event: bytes, context: Any) -> Any:
    """Call the handler, in a process of the pool."""
    return load()(event, context)


def schedule(pool: Any, event: bytes, context: Any) -> Any:
    """Have the handler called, and wait for what it returns."""
    return pool.schedule(call, args=[event, context], timeout=_LIMIT_S).result()


def main(port: int, processes: int) -> None:
    """Serve the handler until the process is ended."""
    with ProcessPool(max_workers=processes) as pool:
        app = make_app(partial(schedule, pool))
        waitress.serve(app, host="127.0.0.1", port=port, threads=_THREADS)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
