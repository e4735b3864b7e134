"""Die in the way the event asks for, to see what the caller gets.

`raise` leaves the worker alive; the others end it, and the next call is served by
another one.
"""

import ctypes
import os
import signal
import sys
import time


def handler(event, context):
    way = event.decode() or "segfault"
    print(f"about to {way}")
    if way == "raise":
        raise ValueError("asked to raise")
    if way == "exit":
        sys.exit(7)
    if way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "segfault":
        ctypes.string_at(0)
    if way == "hang":
        time.sleep(24 * 60 * 60)
    return f"still alive: there is no way called {way!r}"
