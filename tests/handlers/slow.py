"""Take too long, or leave something behind, in the way the event names."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from typing import Any


def hang_here() -> None:
    time.sleep(600)


def loop() -> None:
    while True:
        pass


def expression() -> None:
    """Stay inside one C call that looks at no signal."""
    re.match("(a+)+$", "a" * 60 + "b")


def stubborn() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    hang_here()


def grandchild() -> None:
    leave_a_child()
    hang_here()


def escaped() -> None:
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    hang_here()


def daemon() -> None:
    """Fork twice, so that the one that stays is nobody's child here."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            hang_here()
        os._exit(0)
    hang_here()


def stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def output() -> None:
    while True:
        print("z" * 100)


def leave_a_child() -> None:
    subprocess.Popen(["sleep", "600"])


WAYS = {
    "sleep": hang_here,
    "loop": loop,
    "expression": expression,
    "stubborn": stubborn,
    "grandchild": grandchild,
    "escaped": escaped,
    "daemon": daemon,
    "stopped": stopped,
    "output": output,
    "leave a child": leave_a_child,
}


def handler(event: bytes, context: Any) -> str:
    way = event.decode()
    if way == "remaining":
        return str(context.get_remaining_time_in_millis())
    if way in WAYS:
        WAYS[way]()
    return "in time"
