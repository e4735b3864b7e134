"""Take too long in the way the event names, and try to do something after the end.

The event is `WAY SECONDS FOLDER`. Whatever is started puts a file named after its
process id into FOLDER, and a file named `late-…` when it is still there after SECONDS.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import Any

#: Nothing lives longer than this, should nobody end it.
MOST_S = 20.0


class Traces:
    """Where a hanging process can be found, and where it shows that it was not ended."""

    def __init__(self, seconds: str, folder: str) -> None:
        self._late_at = time.monotonic() + float(seconds)
        self._folder = folder
        self._end = time.monotonic() + MOST_S

    def note_pid(self, pid: int | None = None) -> None:
        self._touch(str(pid or os.getpid()))

    def _touch(self, name: str) -> None:
        with open(f"{self._folder}/{name}", "w"):  # noqa: PTH123 - no import for this
            pass

    def hang(self) -> None:
        """Stay, and leave the late file on time."""
        self.note_pid()
        while time.monotonic() < self._end:
            if time.monotonic() > self._late_at:
                self._touch(f"late-{os.getpid()}")
            time.sleep(0.01)

    def watch(self) -> None:
        """Have a thread leave the late file, for those who hang in C."""
        threading.Thread(target=self.hang, daemon=True).start()


def sleep(traces: Traces) -> None:
    traces.hang()


def loop(traces: Traces) -> None:
    traces.watch()
    while True:
        pass


def block_in_c(traces: Traces) -> None:
    """Stay in C with the interpreter's lock held: no Python code runs any more."""
    traces.note_pid()
    ctypes.PyDLL(None).sleep(int(MOST_S))


def expression(traces: Traces) -> None:
    traces.note_pid()
    re.match("(a+)+$", "a" * 60 + "b")


def ignore_sigterm(traces: Traces) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    traces.hang()


def mask_all(traces: Traces) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    traces.hang()


def session(traces: Traces) -> None:
    """Leave a child in a session of its own with our output, and wait for it."""
    if os.fork() == 0:
        os.setsid()
        traces.hang()
        os._exit(0)
    os.wait()


def daemon(traces: Traces) -> None:
    """Leave a process that is nobody's child, then hang as well."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            traces.hang()
        os._exit(0)
    traces.hang()


def closed_daemon(traces: Traces) -> None:
    """Leave a daemon with nothing open that could give it away, then hang as well."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 4096)
            traces.hang()
        os._exit(0)
    traces.hang()


def program(traces: Traces) -> None:
    """Leave another program that holds our output."""
    child = subprocess.Popen(["sleep", str(MOST_S)], start_new_session=True)
    traces.note_pid(child.pid)
    traces.hang()


def stop_child(traces: Traces) -> None:
    child = subprocess.Popen(["sleep", str(MOST_S)])
    os.kill(child.pid, signal.SIGSTOP)
    traces.note_pid(child.pid)
    child.wait()


def stop_self(traces: Traces) -> None:
    traces.note_pid()
    os.kill(os.getpid(), signal.SIGSTOP)


def breed(traces: Traces) -> None:
    """Keep forking, so that there is always one more than was just seen."""
    traces.note_pid()
    for _ in range(200):
        if os.fork() == 0:
            traces.note_pid()
            time.sleep(0.02)
            if os.fork():
                os._exit(0)
            traces.hang()
        time.sleep(0.01)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            continue


def lock(traces: Traces) -> None:
    """Wait for what only this thread could give."""
    traces.note_pid()
    held = threading.Lock()
    held.acquire()
    held.acquire()


def fifo(traces: Traces) -> None:
    """Wait for a writer that never comes."""
    traces.note_pid()
    path = f"{os.environ['TMPDIR']}/fifo"
    os.mkfifo(path)
    os.open(path, os.O_RDONLY)


def print_for_ever(traces: Traces) -> None:
    traces.note_pid()
    while True:
        print("z" * 200)


WAYS = {
    way.__name__: way
    for way in (
        sleep,
        loop,
        block_in_c,
        expression,
        ignore_sigterm,
        mask_all,
        session,
        daemon,
        closed_daemon,
        program,
        stop_child,
        stop_self,
        breed,
        lock,
        fifo,
        print_for_ever,
    )
}


def handler(event: bytes, context: Any) -> str:
    way, _, rest = event.decode().partition(" ")
    if way == "input":
        return input()
    if way == "stdin":
        return repr(sys.stdin.read())
    if way == "hello":
        return "still here"
    seconds, _, folder = rest.partition(" ")
    WAYS[way](Traces(seconds, folder))
    return "was not ended"
