"""A handler whose processes fork without end, each for a few seconds at most.

`BENCHMARK_BOMBERS` members ignore SIGTERM; every second one has left its parent and its
session. One half keeps moving: it forks, and the parent ends, so that no pid is the
right one for long. The other half stays and forks one child after the other. So there
are never more than two processes a member, and never for longer than `_LIVES_S`.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any, NoReturn

_LIVES_S = 5.0
_MOVES_EVERY_S = 0.002


def handler(event: bytes, context: Any) -> NoReturn:
    """Start them, say so, and hang."""
    until = time.monotonic() + _LIVES_S
    for number in range(int(os.environ["BENCHMARK_BOMBERS"])):
        # Safe because there is one thread, and the child never returns.
        if os.fork() == 0:
            try:
                _be_member(number, until)
            finally:
                os._exit(0)
    os.write(1, b"forking\n")
    while True:
        time.sleep(_LIVES_S)


def _be_member(number: int, until: float) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if number % 2:
        if os.fork():
            return
        os.setsid()
    is_moving = number % 4 < 2
    while time.monotonic() < until:
        pid = os.fork()
        if is_moving and pid:
            return
        if not is_moving:
            if pid == 0:
                return
            os.waitpid(pid, 0)
        time.sleep(_MOVES_EVERY_S)
