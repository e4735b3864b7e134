"""Threads, and coroutines."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from .registry import action


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


@action("threads, locks and conditions")
def threads() -> None:
    found: queue.Queue[int] = queue.Queue()
    gate = threading.Barrier(4)

    def work(number: int) -> None:
        gate.wait(5)
        found.put(number)

    started = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert sorted(found.get() for _ in range(4)) == [0, 1, 2, 3]


@action("forty threads at once")
def forty_threads() -> None:
    gate = threading.Barrier(40)
    with ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(gate.wait, 10) for _ in range(40)]
        assert len({done.result() for done in as_completed(waiting)}) == 40


@action("a thread with a large stack")
def large_stack() -> None:
    kept = threading.stack_size(64 << 20)
    try:
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(kept)


@action("ThreadPoolExecutor")
def executor() -> None:
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(str, range(100))) == [str(n) for n in range(100)]


@action("timers and thread-local values")
def timers() -> None:
    done = threading.Event()
    timer = threading.Timer(0.01, done.set)
    timer.start()
    assert done.wait(5)
    timer.join()
    local = threading.local()
    local.value = contextvars.copy_context()


@action("subprocesses started by many threads")
def subprocesses_in_threads() -> None:
    def say(number: int) -> bytes:
        return subprocess.check_output(["echo", str(number)])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(say, range(16))) == [b"%d\n" % n for n in range(16)]


@action("asyncio tasks and timeouts")
def tasks() -> None:
    async def work() -> None:
        assert await asyncio.gather(*(asyncio.sleep(0, n) for n in range(10))) == list(
            range(10)
        )
        try:
            await asyncio.wait_for(asyncio.sleep(60), 0.01)
        except asyncio.TimeoutError:
            return
        raise AssertionError("it slept for a minute")

    run(work())


@action("asyncio.to_thread")
def to_thread() -> None:
    async def work() -> None:
        assert await asyncio.to_thread(time.monotonic) > 0

    run(work())


@action("asyncio subprocesses")
def subprocesses() -> None:
    async def work() -> None:
        child = await asyncio.create_subprocess_exec(
            "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert await child.communicate(b"text") == (b"text", None)
        shell = await asyncio.create_subprocess_shell("sleep 60 & kill $!; exit 3")
        assert await shell.wait() == 3

    run(work())


@action("asyncio servers and clients on loopback")
def servers() -> None:
    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "localhost", port, family=socket.AF_INET
        )
        writer.write(b"text\n")
        assert await reader.read() == b"TEXT\n"
        writer.close()
        server.close()
        await server.wait_closed()

    run(work())


@action("asyncio on a UNIX socket")
def unix_servers() -> None:
    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "socket")
            server = await asyncio.start_unix_server(answer, path)
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"text\n")
            assert await reader.read() == b"text\n"
            writer.close()
            server.close()
            await server.wait_closed()

    run(work())


@action("asyncio signal handlers")
def signals() -> None:
    async def work() -> None:
        seen = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, seen.set)
        signal.raise_signal(signal.SIGUSR1)
        await seen.wait()
        loop.remove_signal_handler(signal.SIGUSR1)

    run(work())
