"""A new interpreter for every call: a web server that runs `python handler.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import waitress
from hosting import make_app  # type: ignore[import-not-found]

_HANDLER: Final = Path(__file__).with_name("handler.py")
_THREADS: Final = 8


def spawn(event: bytes, context: Any) -> bytes:
    """Run the handler's file, for one call."""
    argv = [sys.executable, str(_HANDLER)]
    return subprocess.run(argv, input=event, capture_output=True, check=True).stdout  # noqa: S603 - a command line of ours


if __name__ == "__main__":
    app = make_app(spawn)
    waitress.serve(app, host="127.0.0.1", port=int(sys.argv[1]), threads=_THREADS)
