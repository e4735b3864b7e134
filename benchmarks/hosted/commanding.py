"""A command for every call, as in a web server that calls `subprocess.run`.

python commanding.py PORT ARGV...
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import waitress
from hosting import make_app  # type: ignore[import-not-found]

_THREADS = 8


def main(port: int, argv: list[str]) -> None:
    """Serve until the process is ended."""

    def run(event: bytes, context: Any) -> bytes:
        return subprocess.run(argv, input=event, capture_output=True, check=True).stdout  # noqa: S603 - the command that is measured

    waitress.serve(make_app(run), host="127.0.0.1", port=port, threads=_THREADS)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
