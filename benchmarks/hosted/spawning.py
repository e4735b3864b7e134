"""A new interpreter for every call, as in a web server that runs `python handler.py`.

python spawning.py PORT      serves
python spawning.py           is one call: event on stdin, answer on stdout
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

_THREADS = 8


def spawn(event: bytes, context: Any) -> bytes:
    """Run this file once more, for one call."""
    # Without site-packages, which the handler does not need: the fastest way there is.
    argv = [sys.executable, "-S", __file__]
    return subprocess.run(argv, input=event, capture_output=True, check=True).stdout  # noqa: S603 - a command line of ours


def serve(port: int) -> None:
    """Serve until the process is ended."""
    import waitress
    from hosting import make_app  # type: ignore[import-not-found]

    waitress.serve(make_app(spawn), host="127.0.0.1", port=port, threads=_THREADS)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(int(sys.argv[1]))
    else:
        from functions import small  # type: ignore[import-not-found]

        sys.stdout.write(small(sys.stdin.buffer.read(), None))
