"""Take too long, in the way the event names."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from typing import Any


def hang_here() -> None:
    time.sleep(600)


def handler(event: bytes, context: Any) -> str:
    way = event.decode()
    if way == "sleep":
        hang_here()
    elif way == "loop":
        while True:
            pass
    elif way == "expression":
        re.match("(a+)+$", "a" * 60 + "b")
    elif way == "stubborn":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        hang_here()
    elif way == "grandchild":
        subprocess.Popen(["sleep", "600"])
        hang_here()
    elif way == "escaped":
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        hang_here()
    elif way == "daemon":
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                hang_here()
            os._exit(0)
        hang_here()
    elif way == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif way == "output":
        while True:
            print("z" * 100)
    elif way == "leave a child":
        subprocess.Popen(["sleep", "600"])
    elif way == "remaining":
        return str(context.get_remaining_time_in_millis())
    return "in time"
