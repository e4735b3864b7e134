"""Take more than there is, in the way the event names: `WAY AMOUNT …`."""

from __future__ import annotations

import mmap
import os
import resource
import subprocess
import sys
import threading
import time
from typing import Any

import waits  # type: ignore[import-not-found]  # from the code directory

MB = 1 << 20
#: Nothing is held, and nobody lives, longer than this.
MOST_S = 15.0
#: Whatever a test asks for, there are never more of these.
MOST_FORKS = 300

HELD: list[Any] = []


def hold() -> str:
    time.sleep(MOST_S)
    return "was let"


def leap(amount: str) -> str:
    HELD.append(b"m" * (int(amount) * MB))
    return hold()


def slowly(amount: str) -> str:
    for _ in range(int(amount)):
        HELD.append(b"m" * MB)
        time.sleep(0.002)
    return hold()


def in_a_child(amount: str) -> str:
    if os.fork() == 0:
        leap(amount)
        os._exit(0)
    return hold()


def in_many_children(amount: str) -> str:
    """Take it in equal parts, none of which is over any limit."""
    for _ in range(8):
        if os.fork() == 0:
            leap(str(int(amount) // 8))
            os._exit(0)
    return hold()


def in_a_daemon(amount: str) -> str:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            leap(amount)
        os._exit(0)
    return hold()


def shared(amount: str) -> str:
    """Take it where it counts as nobody's own."""
    pages = mmap.mmap(-1, int(amount) * MB)
    HELD.append(pages)
    for at in range(0, len(pages), MB):
        pages[at : at + MB] = b"m" * MB
    return hold()


def in_a_memory_file(amount: str) -> str:
    """Take it as a file that is in no file system."""
    fd = os.memfd_create("eaten")
    os.ftruncate(fd, int(amount) * MB)
    pages = mmap.mmap(fd, int(amount) * MB)
    HELD.append(pages)
    for at in range(0, len(pages), MB):
        pages[at : at + MB] = b"m" * MB
    return hold()


def inherit(amount: str) -> str:
    """Share what is within the limit with many children, who add nothing."""
    HELD.append(b"m" * (int(amount) * MB))
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            time.sleep(0.3)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    HELD.clear()
    return "still here"


def take_and_exit(amount: str) -> str:
    HELD.append(b"m" * (int(amount) * MB))
    os._exit(3)


def take_in_a_child_and_exit(amount: str) -> str:
    child = os.fork()
    if child == 0:
        HELD.append(b"m" * (int(amount) * MB))
        time.sleep(0.3)
        os._exit(0)
    os.waitpid(child, 0)
    os._exit(3)


def take_and_hang(amount: str) -> str:
    HELD.append(b"m" * (int(amount) * MB))
    return hold()


def fork_bomb(amount: str) -> str:
    """Fork in parent and child alike, up to a bound of its own."""
    end = time.monotonic() + MOST_S
    for _ in range(min(int(amount), MOST_FORKS)):
        if os.fork() == 0:
            while time.monotonic() < end:
                time.sleep(0.1)
            os._exit(0)
    return hold()


def thread_bomb(amount: str) -> str:
    for _ in range(min(int(amount), MOST_FORKS)):
        threading.Thread(target=time.sleep, args=(MOST_S,), daemon=True).start()
    return hold()


def descriptors(amount: str) -> str:
    """Use up every descriptor, and give none back."""
    limit = int(amount)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    while True:
        try:
            HELD.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return "still here"


def fill_temp(amount: str) -> str:
    with open(f"{os.environ['TMPDIR']}/filler", "wb") as file:  # noqa: PTH123
        for _ in range(int(amount)):
            file.write(b"m" * MB)
            file.flush()
    return "still here"


def output(amount: str) -> str:
    """Print so many MB, a KB a line."""
    lines = ("o" * 1023 + "\n") * 1024
    for _ in range(int(amount)):
        sys.stdout.write(lines)
    return "still here"


def response(amount: str) -> bytes:
    return b"r" * (int(amount) * MB)


def scores(amount: str) -> str:
    """Return `oom_score_adj` of this process and of a child."""
    path = "/proc/self/oom_score_adj"
    child = subprocess.run(["cat", path], stdout=subprocess.PIPE, check=True)
    with open(path) as file:  # noqa: PTH123
        return f"{int(file.read())} {int(child.stdout)}"


WAYS = {
    way.__name__: way
    for way in (
        leap,
        slowly,
        in_a_child,
        in_many_children,
        in_a_daemon,
        shared,
        in_a_memory_file,
        inherit,
        take_and_exit,
        take_in_a_child_and_exit,
        take_and_hang,
        fork_bomb,
        thread_bomb,
        descriptors,
        fill_temp,
        output,
        response,
        scores,
    )
}


def handler(event: bytes, context: Any) -> Any:
    way, _, detail = event[:100].decode().partition(" ")
    if way == "until":
        return waits.handler(event, context)
    if way == "temp":
        return os.environ.get("TMPDIR", "")
    if way in WAYS:
        return WAYS[way](detail)
    return "still here"
