"""Throw-away processes: what the sandbox does to a process cannot be taken back.

So each test does it in a fork of itself, and judges what came of it by what the fork
wrote down before it ended.
"""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def in_child(function: Callable[[], Any]) -> Any:
    """Return what `function` returns in a fork of this process, as JSON has it.

    An exception there fails the test here, with its traceback.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        # Whatever happens, control never goes back to the test that is running above.
        try:
            expire()
            os.close(reader)
            _write_all(writer, _answer(function))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = json.loads(answers.read() or b'{"failure": "it ended without a word"}')
    os.waitpid(pid, 0)
    assert "failure" not in answer, answer["failure"]
    return answer["value"]


def _answer(function: Callable[[], Any]) -> bytes:
    try:
        return json.dumps({"value": function()}).encode()
    except BaseException:  # noqa: BLE001 - the test reports it
        return json.dumps({"failure": traceback.format_exc()}).encode()


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


@contextmanager
def a_child(prepare: Callable[[], Any], *, is_awaited: bool = True) -> Iterator[int]:
    """Yield the pid of a fork that has called `prepare` and then waits to be killed.

    Not `is_awaited`: of one that may be in the middle of it.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            expire()
            os.close(reader)
            if not is_awaited:
                os.close(writer)
            prepare()
            os.write(writer, b"x")
            os.close(writer)
            signal.pause()
        finally:
            os._exit(0)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as answers:
            ready = answers.read()
        assert ready == b"x" or not is_awaited, "the child could not prepare"
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def expire() -> None:
    """End this process after a while, should the test not see to it."""
    # The handler in place is that of the test's own time limit.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(30)


def error_of(function: Callable[..., Any], *arguments: Any) -> int:
    """Return the errno with which a call fails; 0 if it works."""
    try:
        function(*arguments)
    except OSError as error:
        return error.errno or -1
    return 0
