"""End an invocation, or the process it runs in, in the way the event names."""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
import threading
import time
from typing import Any

import waits  # type: ignore[import-not-found]  # from the code directory

#: More descriptors than any worker has.
#: As many as a worker may have, one aside.
MANY_FDS = 4095
COVERS: list[int] = []
HEADER = struct.Struct("!BBHIQ16s")
RESULT = 7


class PassesThrough(BaseException):
    """Is caught by no `except Exception`."""


class Unprintable(Exception):
    """Has neither a text nor a representation."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class ExitsWhenPrinted(Exception):
    """Ends the interpreter as soon as somebody wants to know what it is."""

    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class EndsWhenFreed:
    """Takes the process with it."""

    def __del__(self) -> None:
        os._exit(9)


class RaisesWhenFreed:
    """Raises where nobody can catch it."""

    def __del__(self) -> None:
        raise ValueError("freed")


class NoText:
    """What `sys.exit` cannot print."""

    def __str__(self) -> str:
        raise ValueError("no text")


# Exceptions


def raise_one(detail: str) -> None:
    raise {
        "empty": ValueError(""),
        "nothing": ValueError(),
        "base": PassesThrough("asked"),
        "interrupt": KeyboardInterrupt(),
        "generator": GeneratorExit("asked"),
        "stop": StopIteration("asked"),
        "unprintable": Unprintable(),
        "exits-when-printed": ExitsWhenPrinted(),
        "large": ValueError("m" * (10 << 20)),
        "surrogate": ValueError("\udcff \x00 \u2744"),
    }[detail]


def raise_chained(detail: str) -> None:
    try:
        raise ValueError("first")  # noqa: TRY301 - the shortest way to a chain
    except ValueError as error:
        raise LookupError("second") from error


def raise_cyclic(detail: str) -> None:
    """Raise what was caused by itself."""
    one, other = ValueError("one"), LookupError("other")
    one.__cause__, other.__cause__ = other, one
    one.__context__, other.__context__ = other, one
    raise one


def recurse(detail: str) -> None:
    recurse(detail)


# The ends of a process


def python_exit(detail: str) -> None:
    if detail == "no-text":
        sys.exit(NoText())  # type: ignore[arg-type]
    if detail == "nothing":
        sys.exit()
    sys.exit(int(detail) if detail.isdigit() else detail)


def send_signal(detail: str) -> None:
    os.kill(os.getpid(), int(detail))


def overflow(detail: str) -> None:
    """Call without end through C code, until the stack is full."""
    sys.setrecursionlimit(1 << 30)
    # From 3.12 on C calls have a limit of their own, which comes before eight MB end.
    _, most = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (512 * 1024, most))
    prototype = ctypes.PYFUNCTYPE(ctypes.c_int)

    @prototype
    def deeper() -> int:
        return int(deeper())

    deeper()


def exit_in_a_thread(detail: str) -> None:
    threading.Thread(target=os._exit, args=(int(detail),)).start()
    time.sleep(60)


def leave_in_a_thread(detail: str) -> None:
    """Call `sys.exit` where it ends a thread alone."""
    thread = threading.Thread(target=sys.exit)
    thread.start()
    thread.join()


def exit_at_exit(detail: str) -> None:
    atexit.register(os._exit, int(detail))
    sys.exit(0)


def raise_at_exit(detail: str) -> None:
    atexit.register(recurse, detail)
    sys.exit(int(detail))


def hang_at_exit(detail: str) -> None:
    atexit.register(time.sleep, 60)
    sys.exit(0)


def execute(detail: str) -> None:
    # Safe because this process is a worker: losing it is the point.
    os.execv(detail.split()[0], detail.split())  # noqa: S606 - a shell is not wanted


def fork_and_return(detail: str) -> None:
    os.fork()


def fork_and_raise(detail: str) -> None:
    if os.fork() == 0:
        raise ValueError("the child's")


def fork_and_exit(detail: str) -> None:
    if os.fork() == 0:
        sys.exit(5)


# Descriptors


def close_everything(detail: str) -> None:
    os.closerange(0, MANY_FDS)


def cover_everything(detail: str) -> None:
    """Put something else in the place of every descriptor."""
    if detail == "null":
        cover = os.open(os.devnull, os.O_RDWR)
    else:
        # It takes whatever is written, and nothing ever comes out of it.
        ends = socket.socketpair()
        cover = ends[0].detach()
        # The other end stays open under a number that is not covered.
        COVERS.append(fcntl.fcntl(ends[1].detach(), fcntl.F_DUPFD, MANY_FDS))
    for fd in open_fds():
        if fd != cover and fd < MANY_FDS:
            os.dup2(cover, fd)


def open_fds() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - a handler's way


def write_everywhere(data: bytes) -> None:
    for fd in range(3, MANY_FDS):
        try:
            os.write(fd, data)
        except OSError:
            continue


def write_rubbish(detail: str) -> None:
    write_everywhere(b"rubbish " * int(detail))


def announce(detail: str) -> None:
    """Announce a body of so many bytes that never comes."""
    write_everywhere(HEADER.pack(1, RESULT, 0, 0, int(detail), bytes(16)))


# Forgery


def reply_fd() -> int:
    """Return the only pipe for writing that is not the output."""
    output = {os.readlink(f"/proc/self/fd/{fd}") for fd in (1, 2)}  # noqa: PTH115 - no path
    for fd in open_fds():
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - no path
            with open(f"/proc/self/fdinfo/{fd}") as file:  # noqa: PTH123
                flags = int(file.read().split("flags:")[1].split()[0], 8)
        except OSError:
            continue
        is_for_writing = flags & os.O_ACCMODE == os.O_WRONLY
        if target.startswith("pipe:") and is_for_writing and target not in output:
            return fd
    raise LookupError("no reply pipe")


def right_nonce() -> bytes:
    """Return the nonce of this very invocation, from the worker's own variables."""
    frame = sys._getframe()
    while frame.f_back is not None:
        request = frame.f_locals.get("request")
        if hasattr(request, "nonce"):
            return bytes(request.nonce)
        frame = frame.f_back
    raise LookupError("no request")


def forged(nonce: bytes) -> bytes:
    return HEADER.pack(1, RESULT, 0, 0, 6, nonce) + b"forged"


def forge(detail: str) -> None:
    nonce = right_nonce() if detail == "right" else bytes(16)
    os.write(reply_fd(), forged(nonce))
    if detail == "right":
        # So that there is no second answer.
        time.sleep(0.02)
        os._exit(0)


def answer_twice(detail: str) -> None:
    os.write(reply_fd(), forged(right_nonce()))
    time.sleep(float(detail))


def answer_late(detail: str) -> None:
    """Return just after the limit, in the moment before the worker is killed."""
    until = time.monotonic() + float(detail)
    while time.monotonic() < until:
        pass


def forge_late(detail: str) -> None:
    """Have a daemon write answers that are right but for their time."""
    fd, data = os.dup(reply_fd()), forged(right_nonce())
    at = time.monotonic() + float(detail)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            # Bounded, should nobody end it.
            while time.monotonic() < at + 5:
                if time.monotonic() > at:
                    os.write(fd, data)
                time.sleep(0.001)
        os._exit(0)
    time.sleep(60)


# Others


def siblings() -> list[int]:
    with open(f"/proc/{os.getppid()}/task/{os.getppid()}/children") as file:  # noqa: PTH123
        return [int(pid) for pid in file.read().split() if int(pid) != os.getpid()]


def kill_siblings(detail: str) -> None:
    for pid in siblings():
        os.kill(pid, signal.SIGKILL)


def kill_zygote(detail: str) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def kill_group(detail: str) -> None:
    # The group must be this worker's own, or the tests themselves would end.
    assert os.getpgrp() == os.getpid()
    os.killpg(0, signal.SIGKILL)


def kill_zygotes_group(detail: str) -> None:
    # The group must be the zygote's own, or the tests themselves would end.
    assert os.getpgid(os.getppid()) == os.getppid()
    os.killpg(os.getppid(), signal.SIGKILL)
    time.sleep(60)


WAYS = {
    "raise": raise_one,
    "chained": raise_chained,
    "cyclic": raise_cyclic,
    "recurse": recurse,
    "exit": python_exit,
    "_exit": lambda detail: os._exit(int(detail)),
    "libc-exit": lambda detail: ctypes.CDLL(None).exit(int(detail)),
    "signal": send_signal,
    "abort": lambda detail: os.abort(),
    "null": lambda detail: ctypes.string_at(0),
    "overflow": overflow,
    "thread": exit_in_a_thread,
    "leave-thread": leave_in_a_thread,
    "atexit": exit_at_exit,
    "atexit-raise": raise_at_exit,
    "atexit-hang": hang_at_exit,
    "execute": execute,
    "fork": fork_and_return,
    "fork-raise": fork_and_raise,
    "fork-exit": fork_and_exit,
    "close": close_everything,
    "cover": cover_everything,
    "rubbish": write_rubbish,
    "announce": announce,
    "forge": forge,
    "twice": answer_twice,
    "late": answer_late,
    "forge-late": forge_late,
    "stop": lambda detail: os.kill(os.getpid(), signal.SIGSTOP),
    "kill-siblings": kill_siblings,
    "kill-zygote": kill_zygote,
    "kill-group": kill_group,
    "kill-zygotes-group": kill_zygotes_group,
}


def handler(event: bytes, context: Any) -> Any:
    way, _, detail = event.decode().partition(" ")
    if way == "until":
        return waits.handler(event, context)
    if way == "pid":
        return str(os.getpid())
    if way == "siblings":
        return json.dumps(siblings())
    if way == "freed":
        # The context is let go when the answer has been written.
        context.last = EndsWhenFreed() if detail == "end" else RaisesWhenFreed()
    if way in WAYS:
        print(f"{context.request_id} runs in {os.getpid()}")
        WAYS[way](detail)
    return "still here"
