"""The same handler without any isolation: waitress calls it in one of its threads.

This is what the runtime is compared with first.

    python inprocess.py PORT THREADS
"""

from __future__ import annotations

import sys

import waitress
from hosting import load, make_app  # type: ignore[import-not-found]

#: Its default of 100 would keep the other clients of a large test waiting.
CONNECTION_LIMIT = 4000


def main(port: int, threads: int) -> None:
    """Serve the handler until the process is ended."""
    waitress.serve(
        make_app(load()),
        host="127.0.0.1",
        port=port,
        threads=threads,
        connection_limit=CONNECTION_LIMIT,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
