"""Die, or hang, as the event says. Every server of the crash table runs this handler.

An event is a JSON object: `way`, and `file`, which is written to when the handler has
begun and again when it has lived on to its end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

#: Longer than the limit every server is given, shorter than anybody waits.
LATE_S = 4.0
#: How long a neighbour is in flight.
NEIGHBOUR_S = 1.5
_LONG_S = 60


def sys_exit() -> None:
    """End politely."""
    sys.exit(7)


def exit_3() -> None:
    """End at once."""
    # Safe because ending the process is the point of this handler.
    os._exit(3)


def kill_9() -> None:
    """End as the kernel ends processes when memory is out."""
    os.kill(os.getpid(), signal.SIGKILL)


def segfault() -> None:
    """End as a bug in a C extension does."""
    import ctypes

    ctypes.string_at(0)


def hang() -> None:
    """Take twice as long as is allowed, and then have an effect nobody expects."""
    time.sleep(LATE_S)


def fork_and_hang() -> None:
    """Wait for a child that holds our output."""
    command = ["sleep", str(_LONG_S)]
    # Not `run`, which kills the child itself if a server raises in it.
    subprocess.Popen(command).wait()  # noqa: S603 - nothing of it from outside


def neighbour() -> None:
    """Be in flight while somebody else crashes."""
    time.sleep(NEIGHBOUR_S)


WAYS = {
    function.__name__: function
    for function in (sys_exit, exit_3, kill_9, segfault, hang, fork_and_hang, neighbour)
}


def handler(event: bytes, context: Any) -> str:
    """Do what the event says, and answer if that is still possible."""
    asked = json.loads(event)
    if asked["way"] is not None:
        file = Path(asked["file"])
        file.write_text("began")
        WAYS[asked["way"]]()
        file.write_text("ended")
    return "still here"
