"""A sign of life on a terminal, for what takes longer than a second."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from isoruntime.typed import Final

_SILENT_FOR_S: Final = 1.0
_EVERY_S: Final = 0.5
#: Back to the line's beginning, and clear it.
_WIPE: Final = "\r\033[K"


@contextmanager
def shown(doing: str) -> Iterator[None]:
    """Show on stderr what is being done and for how long, while the block runs."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_tell, args=(doing, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _tell(doing: str, done: threading.Event) -> None:
    begun = time.monotonic()
    if done.wait(_SILENT_FOR_S):
        return
    while True:
        seconds = int(time.monotonic() - begun)
        print(f"{_WIPE}{doing} ({seconds} s)", end="", file=sys.stderr, flush=True)
        if done.wait(_EVERY_S):
            print(_WIPE, end="", file=sys.stderr, flush=True)
            return
