"""Echo a token, or first do something no handler should do.

The event is a JSON object: `token`, and `fault`, which names a function below. An
answer carries the token and this process's id, so that whoever asked can tell that
it is the answer to this very event.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

_FOR_EVER_S = 3600
_MANY_FDS = 1024


def do_raise(token: str) -> None:
    """End the invocation, and not the process."""
    raise ValueError(token)


def sys_exit(token: str) -> None:
    """End the process politely."""
    sys.exit(7)


def exit_0(token: str) -> None:
    """End the process as if all were well."""
    # Safe because this process is a worker: ending it is the point.
    os._exit(0)


def exit_3(token: str) -> None:
    """End the process with a code that some servers give a meaning."""
    # Safe because this process is a worker: ending it is the point.
    os._exit(3)


def kill_9(token: str) -> None:
    """End as the kernel ends processes when memory is out."""
    os.kill(os.getpid(), signal.SIGKILL)


def segfault(token: str) -> None:
    """Read where nothing is."""
    ctypes.string_at(0)


def abort(token: str) -> None:
    """End as a failed assertion in C does."""
    os.abort()


def hang(token: str) -> None:
    """Take longer than anybody waits."""
    time.sleep(_FOR_EVER_S)


def stop_self(token: str) -> None:
    """Stop, so that no signal but SIGKILL and SIGCONT has an effect."""
    os.kill(os.getpid(), signal.SIGSTOP)


def daemon(token: str) -> None:
    """Leave a process behind that nobody here is the parent of."""
    # Safe because the children only sleep and end with `_exit`.
    child = os.fork()
    if child == 0:
        os.setsid()
        # Safe for the same reason.
        if os.fork() == 0:
            time.sleep(_FOR_EVER_S)
        # Safe because a forked child must not return into the worker's code.
        os._exit(0)
    os.waitpid(child, 0)


def close_everything(token: str) -> None:
    """Close every descriptor there may be."""
    os.closerange(0, _MANY_FDS)


def write_rubbish(token: str) -> None:
    """Write to every descriptor there may be."""
    _write_everywhere(b"rubbish " * 8)


def forge_reply(token: str) -> None:
    """Write what looks like an answer to every descriptor there may be."""
    # A whole frame of the runtime's format: version, kind RESULT, flags, lengths,
    # and the nonce of some other invocation.
    body = json.dumps({"token": token, "forged": True}).encode()
    head = b"\x01\x07\x00\x00" + bytes(4) + len(body).to_bytes(8, "big") + bytes(16)
    _write_everywhere(head + body)


def _write_everywhere(data: bytes) -> None:
    for fd in range(_MANY_FDS):
        try:
            os.write(fd, data)
        except OSError:
            continue


def print_1_mb(token: str) -> None:
    """Print more than any pipe holds."""
    for _ in range(1024):
        print("o" * 1023)  # noqa: T201 - output is what this is about


def execute(token: str) -> None:
    """Become another program."""
    # Safe because this process is a worker: losing it is the point.
    os.execv("/bin/true", ["true"])  # noqa: S606 - a shell is not wanted


def leave_thread(token: str) -> None:
    """End a thread, and nothing else."""
    thread = threading.Thread(target=sys.exit)
    thread.start()
    thread.join()


def exit_in_thread(token: str) -> None:
    """End the process from a thread while the handler waits."""
    # Safe because this process is a worker: ending it is the point.
    threading.Thread(target=lambda: os._exit(5)).start()
    time.sleep(_FOR_EVER_S)


def recurse(token: str) -> None:
    """Call without end."""
    recurse(token)


def overflow(token: str) -> None:
    """Call without end through C code, until the stack is used up."""
    sys.setrecursionlimit(1 << 30)

    def deeper(_: object) -> int:
        return max((1, 2), key=deeper)

    deeper(0)


FAULTS: dict[str, Callable[[str], None]] = {
    function.__name__: function
    for function in (
        do_raise,
        sys_exit,
        exit_0,
        exit_3,
        kill_9,
        segfault,
        abort,
        hang,
        stop_self,
        daemon,
        close_everything,
        write_rubbish,
        forge_reply,
        print_1_mb,
        execute,
        leave_thread,
        exit_in_thread,
        recurse,
        overflow,
    )
}


def handler(event: bytes, context: Any) -> dict[str, Any]:
    """Answer with the token, this process's id, and what else was asked for."""
    asked = json.loads(event)
    token, fault = asked["token"], asked["fault"]
    if fault is not None:
        FAULTS[fault](token)
    answer = {"token": token, "pid": os.getpid(), "requestId": context.request_id}
    if asked.get("answerBytes"):
        answer["filler"] = "f" * asked["answerBytes"]
    if "filler" in asked:
        answer["fillerBytes"] = len(asked["filler"])
    return answer
