"""Return in time and leave something behind: `WAY DETAIL`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import waits  # type: ignore[import-not-found]  # from the code directory

#: Nothing that is left behind lives longer than this by itself.
MOST_S = 20.0


def stay() -> None:
    time.sleep(MOST_S)
    os._exit(0)


def program(detail: str) -> int:
    return subprocess.Popen(["sleep", str(MOST_S)]).pid


def child(detail: str) -> int:
    pid = os.fork()
    if pid == 0:
        stay()
    return pid


def session(detail: str) -> int:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        stay()
    return pid


def daemon(detail: str) -> int:
    return _fork_twice(closes=False)


def closed_daemon(detail: str) -> int:
    return _fork_twice(closes=True)


def _fork_twice(*, closes: bool) -> int:
    told_r, told_w = os.pipe()
    first = os.fork()
    if first == 0:
        os.setsid()
        second = os.fork()
        if second == 0:
            if closes:
                os.closerange(0, 4096)
            stay()
        os.write(told_w, b"%d" % second)
        os._exit(0)
    os.waitpid(first, 0)
    pid = int(os.read(told_r, 20))
    os.close(told_r)
    os.close(told_w)
    return pid


def child_of_a_thread(detail: str) -> int:
    """Start it from a thread that ends at once."""
    pids: list[int] = []
    thread = threading.Thread(target=lambda: pids.append(child("")))
    thread.start()
    thread.join()
    return pids[0]


def zombie(detail: str) -> int:
    """Start a process that ends, and do not wait for it."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    # Wait until it has ended, without collecting it.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def thread(detail: str) -> int:
    threading.Thread(target=time.sleep, args=(MOST_S,), daemon=True).start()
    return os.getpid()


def joined_threads(detail: str) -> int:
    with ThreadPoolExecutor(4) as executor:
        assert sum(executor.map(int, "1234")) == 10
    return os.getpid()


def raise_and_leave(detail: str) -> int:
    program("")
    raise ValueError("left something")


def temporary(detail: str) -> str:
    """Leave files of all kinds in the folder for temporary files; return its path."""
    folder = tempfile.gettempdir()
    handle, path = tempfile.mkstemp()
    os.write(handle, b"t" * 4096)
    deep = tempfile.mkdtemp() + "/a/b"
    os.makedirs(deep)  # noqa: PTH103 - no import for this
    os.symlink("/", f"{deep}/root")  # noqa: PTH211 - no import for this
    os.symlink("nowhere", f"{folder}/dangling")  # noqa: PTH211 - no import for this
    os.mkfifo(f"{folder}/fifo")
    os.chmod(path, 0)  # noqa: PTH101 - no import for this
    os.chmod(deep, 0o500)  # noqa: PTH101 - no import for this
    assert os.environ["TMPDIR"] == folder
    return folder


def temp_folder(detail: str) -> str:
    return tempfile.gettempdir()


def temp_folder_of_a_child(detail: str) -> str:
    code = "import tempfile; print(tempfile.gettempdir(), end='')"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True
    )
    return done.stdout.decode()


WAYS = {
    way.__name__: way
    for way in (
        program,
        child,
        session,
        daemon,
        closed_daemon,
        child_of_a_thread,
        zombie,
        thread,
        joined_threads,
        raise_and_leave,
        temporary,
        temp_folder,
        temp_folder_of_a_child,
    )
}


def handler(event: bytes, context: Any) -> Any:
    way, _, detail = event.decode().partition(" ")
    if way == "until":
        return waits.handler(event, context)
    if way == "pid":
        return str(os.getpid())
    if way in WAYS:
        return {"left": WAYS[way](detail), "pid": os.getpid()}
    return "still here"
