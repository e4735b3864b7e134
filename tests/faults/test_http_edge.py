"""Requests that stop, lie, break off or crawl: nothing hangs, nothing leaks."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.faults.looking import files_below
from tests.support.server import RawConnection, Serve, Server
from tests.waiting import wait_until

MB = 1024 * 1024
LIMIT = 32 * MB


def ask(event: bytes, *headers: str, path: str = "/invoke") -> bytes:
    """Return the bytes of an invocation."""
    head = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Content-Length: {len(event)}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(head).encode() + event


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Serve with one worker, so that the front end's descriptors can be counted."""
    options = ("--max-workers", "1", "--queue", "300", "--queue-timeout", "30")
    with Server("waits_or_echo.handler", *options) as started:
        assert started.invoke(b"warm").body == b"warm"
        yield started


@contextmanager
def nothing_kept(server: Server, memory_mb: float = 8) -> Iterator[None]:
    """Check that the front end has what it had before: descriptors, files, memory."""
    front_end = server.front_end
    server.close_connections()
    temp_dir = Path(server._env["TMPDIR"])
    fds, files = settled_fds(front_end), files_below(temp_dir)
    resident = front_end.memory_info().rss
    yield
    server.close_connections()
    try:
        wait_until(lambda: front_end.num_fds() <= fds, 5)
    except AssertionError:
        raise AssertionError(f"more than {fds}: {open_of(front_end)}") from None
    wait_until(lambda: files_below(temp_dir) <= files, 5, "the same temporary files")
    wait_until(
        lambda: front_end.memory_info().rss - resident < memory_mb * MB,
        2,
        f"memory within {memory_mb} MB",
    )


def settled_fds(process: psutil.Process) -> int:
    """Return the number of descriptors once it has stayed the same for 50 ms."""
    seen = [process.num_fds(), time.monotonic()]

    def is_settled() -> bool:
        now = process.num_fds()
        if now != seen[0]:
            seen[:] = [now, time.monotonic()]
        return time.monotonic() - seen[1] > 0.05

    wait_until(is_settled, 5, "a settled number of descriptors")
    return int(seen[0])


def open_of(process: psutil.Process) -> list[str]:
    """Return what a process has open, for a failure's message."""
    found = []
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue
    return sorted(found)


def reset(connection: RawConnection) -> None:
    """Close with a reset, as a client does that is killed or pulls the plug."""
    linger = struct.pack("ii", 1, 0)
    connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()


def leave(connection: RawConnection) -> None:
    connection.close()


LEAVING = pytest.mark.parametrize(
    "go", [leave, reset], ids=["closes", "resets the connection"]
)


# Slow and half-sent.


def test_slow_and_half_sent_requests_hold_up_nobody(server: Server) -> None:
    halves = [
        b"P",
        b"POST /invoke HTTP/1.1\r\n",
        b"POST /invoke HTTP/1.1\r\nHost: x\r\nContent-Le",
        ask(b"12345678")[:-8],
        ask(b"12345678")[:-4],
        b"POST /invoke HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n1234",
    ]
    with nothing_kept(server), ExitStack() as stack:
        for half in halves * 10:
            stack.enter_context(server.raw()).send(half)
        for number in range(100):
            began = time.monotonic()
            assert server.invoke(b"%d" % number).body == b"%d" % number
            assert time.monotonic() - began < 1


def test_a_request_that_crawls_is_answered_in_the_end(server: Server) -> None:
    request = ask(b"crawling")
    with nothing_kept(server), server.raw() as slow:
        for at in range(0, len(request), 3):
            slow.send(request[at : at + 3])
            assert server.invoke(b"beside").body == b"beside"
        assert slow.answer().body == b"crawling"


@LEAVING
def test_uploads_that_break_off_leave_nothing(
    server: Server, go: Callable[[RawConnection], None]
) -> None:
    # Above 1 MB an event is on its way to a file.
    beginnings = [
        ask(bytes(8 * MB))[: 3 * MB],
        ask(bytes(500_000))[:100_000],
        b"POST /invoke HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"200000\r\n"
        + bytes(2 * MB),
    ]
    server.invoke(bytes(8 * MB))
    with nothing_kept(server):
        for number in range(21):
            with server.raw() as connection:
                connection.send(beginnings[number % 3])
                go(connection)
            assert server.invoke(b"%d" % number).body == b"%d" % number
    assert server.stdout.count(b"a bug of isoruntime") == 0
    assert b"a bug of isoruntime" not in server.stderr.read()


@LEAVING
def test_who_leaves_before_the_answer_leaves_nothing(
    server: Server, go: Callable[[RawConnection], None]
) -> None:
    server.invoke(bytes(8 * MB))
    with nothing_kept(server, memory_mb=24):
        for number in range(20):
            with server.raw() as connection:
                connection.send(ask(bytes(4 * MB) if number % 2 else b"sleep 0.02"))
                go(connection)
        assert server.invoke(b"still here").body == b"still here"
        wait_until(
            lambda: (
                server.stdout.count(b"Invoke Start")
                == server.stdout.count(b"Invoke End")
            )
        )
    assert b"a bug of isoruntime" not in server.stderr.read()


# Malformed.

MALFORMED = {
    "a header line of 70 KB": b"POST /invoke HTTP/1.1\r\nX: " + b"x" * 70_000,
    "many headers": b"POST /invoke HTTP/1.1\r\n" + b"A: b\r\n" * 20_000,
    "a request line of 70 KB": b"POST /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
    "a negative length": b"POST /invoke HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    "a signed length": b"POST /invoke HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello",
    "a length in words": b"POST /invoke HTTP/1.1\r\nContent-Length: five\r\n\r\n",
    "a length and another": b"POST /invoke HTTP/1.1\r\nContent-Length: 5\r\n"
    b"Content-Length: 6\r\n\r\nhello!",
    "a length of fifty digits": b"POST /invoke HTTP/1.1\r\nContent-Length: "
    + b"9" * 50
    + b"\r\n\r\n",
    "a chunk without end": b"POST /invoke HTTP/1.1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\nhello",
    "chunks without a size": b"POST /invoke HTTP/1.1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nhello\r\n\r\n",
    "chunks of negative size": b"POST /invoke HTTP/1.1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "a chunk longer than its size": b"POST /invoke HTTP/1.1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
    "chunks within gzip": b"POST /invoke HTTP/1.1\r\n"
    b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "bare newlines in a header": b"POST /invoke HTTP/1.1\r\nX: a\nY: b\r\n\r\n",
    "a space before the colon": b"POST /invoke HTTP/1.1\r\nX : a\r\n\r\n",
    "NUL bytes": b"\x00" * 300 + b"\r\n\r\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
    "another version": b"POST /invoke HTTP/3.7\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
}
#: Those that could still become a request, for all a server can tell.
UNFINISHED = {"a TLS greeting", "many headers", "a chunk without end"}


@pytest.mark.parametrize("name", MALFORMED)
def test_the_malformed_is_refused_or_let_wait_and_nothing_is_left(
    server: Server, name: str
) -> None:
    request = MALFORMED[name]
    with nothing_kept(server):
        for _ in range(5):
            with server.raw() as connection:
                connection.send(request)
                if name not in UNFINISHED:
                    reply = connection.answer()
                    assert 400 <= reply.status < 500 or reply.status == 501
                    assert reply.json()["errorType"]
                    assert reply.request_id
                    assert connection.is_closed_by_peer()
            assert server.invoke(b"next").body == b"next"
    assert server.stdout.count(b"hello") == 0


def test_what_stands_behind_a_refused_request_is_never_run(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve("marks.handler")
    smuggled = ask(f"mark|{tmp_path / 'marks'}|smuggled".encode())
    for name in sorted(set(MALFORMED) - UNFINISHED):
        with server.raw() as connection:
            connection.send(MALFORMED[name] + b"\r\n\r\n" + smuggled)
            assert connection.answer().status != 200
            assert connection.is_closed_by_peer()
    assert server.invoke(b"x").status == 200
    assert not (tmp_path / "marks").exists()


# Pipelined.


def test_a_crash_among_pipelined_requests_is_its_own_affair(serve: Serve) -> None:
    server = serve("ways_to_die.handler", "--max-workers", "2")
    events = [b"hello", b"_exit 3", b"hello", b"signal SIGKILL", b"raise ValueError"]
    with server.raw() as connection:
        for _ in range(5):
            connection.send(b"".join(map(ask, events)) + ask(b"hello"))
            replies = [connection.answer() for _ in range(6)]
            assert [reply.status for reply in replies] == [200, 404, 200, 404, 404, 200]
            assert replies[-1].body == b"still here"


@LEAVING
def test_who_pipelines_and_leaves_costs_nothing(
    server: Server, go: Callable[[RawConnection], None]
) -> None:
    with nothing_kept(server):
        for _ in range(20):
            with server.raw() as connection:
                connection.send(ask(b"sleep 0.01") * 3 + ask(b"half")[:-2])
                go(connection)
        assert server.invoke(b"next").body == b"next"


def test_five_hundred_pipelined_answers_come_in_order(server: Server) -> None:
    with nothing_kept(server), server.raw() as connection:
        connection.send(b"".join(ask(b"%d" % number) for number in range(500)))
        bodies = [connection.answer().body for _ in range(500)]
    assert bodies == [b"%d" % number for number in range(500)]


# Many, large and slow.


def test_idle_connections_cost_those_who_work_nothing(server: Server) -> None:
    with nothing_kept(server), ExitStack() as stack:
        idle = [stack.enter_context(server.raw()) for _ in range(200)]
        for number in range(300):
            assert server.invoke(b"%d" % number).body == b"%d" % number
        for connection in idle:
            connection.send(ask(b"awake"))
        assert {connection.answer().body for connection in idle} == {b"awake"}


def test_events_of_no_byte_and_of_thirty_two_million_take_turns(
    server: Server,
) -> None:
    largest = bytes(LIMIT - 1) + b"!"
    server.invoke(largest)
    with nothing_kept(server, memory_mb=40):
        for _ in range(3):
            assert server.invoke(b"").body == b""
            assert server.invoke(largest).body == largest


def test_a_slow_reader_of_a_large_answer_holds_up_nobody(server: Server) -> None:
    largest = bytes(LIMIT - 1) + b"!"
    server.invoke(largest)
    with nothing_kept(server, memory_mb=72), server.raw() as slow:
        slow._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        slow.send(ask(largest))
        began = time.monotonic()
        received, others = 0, 0
        while received < 2 * MB:
            # A megabyte a second; the waiting is spent as another client.
            received += len(slow._socket.recv(64 * 1024))
            while time.monotonic() - began < received / MB:
                assert server.invoke(b"beside").body == b"beside"
                others += 1
        assert others > 100
        while received < LIMIT:
            received += len(slow._socket.recv(MB))


def test_five_hundred_rounds_of_everything_leave_nothing(server: Server) -> None:
    def round_of(number: int) -> None:
        with server.raw() as connection:
            if number % 5 == 0:
                connection.send(MALFORMED["a length in words"])
                assert connection.answer().status == 400
            elif number % 5 == 1:
                connection.send(ask(bytes(300_000))[:150_000])
                reset(connection)
            elif number % 5 == 2:
                connection.send(ask(b"x" * 5000) + ask(b"unread"))
            else:
                connection.send(ask(b"%d" % number) * 2)
                assert connection.answer().body == b"%d" % number
        assert server.invoke(b"%d" % number).body == b"%d" % number

    for number in range(100):
        round_of(number)
    with nothing_kept(server, memory_mb=3):
        for number in range(500):
            round_of(number)
    assert b"a bug of isoruntime" not in server.stderr.read()
