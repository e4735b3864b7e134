"""Clients that idle, dawdle, lie or leave cost the others nothing."""

from __future__ import annotations

import http.client
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.server import Serve
from tests.waiting import wait_until

MB = 1024 * 1024


@pytest.fixture
def thousand_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"this process may have {hard} descriptors only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_idle_connections_are_served_when_they_speak(
    serve: Serve, thousand_descriptors: None
) -> None:
    server = serve("echo.handler")
    with ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            for _ in range(1000)
        ]
        assert server.invoke(b"one more").body == b"one more"
        for connection in (idle[0], idle[500], idle[-1]):
            connection.sendall(
                b"POST /invoke HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
            )
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.read() == b"hi"
            response.close()


def test_a_client_that_does_not_read_holds_up_nobody(serve: Serve) -> None:
    server = serve("echo.handler", "--max-workers", "1")
    event = bytes(16 * MB)
    with server.raw() as connection:
        connection.send(
            b"POST /invoke HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
            % len(event)
        )
        connection.send(event)
        for number in range(5):
            assert server.invoke(b"%d" % number).body == b"%d" % number
        assert connection.answer().body == event


def test_a_half_sent_event_holds_up_nobody(serve: Serve) -> None:
    server = serve("echo.handler", "--max-workers", "1")
    with server.raw() as connection:
        connection.send(
            b"POST /invoke HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf"
        )
        assert server.invoke(b"whole").body == b"whole"
        connection.send(b"done")
        assert connection.answer().body == b"halfdone"


def test_a_client_that_leaves_gives_its_worker_back(serve: Serve, gate: Path) -> None:
    server = serve("waits.handler", "--max-workers", "1", "--queue-timeout", "30")
    event = f"until {gate}".encode()
    with server.raw() as connection:
        connection.send(
            b"POST /invoke HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
            % (len(event), event)
        )
        server.wait_for_line("waiting for")
    gate.touch()
    assert server.invoke("pid").status == 200
    wait_until(lambda: server.stdout.count(b"FC Invoke End") == 2)
    assert server.stdout.count(b"FC Invoke Start") == 2


def test_a_client_that_leaves_the_queue_is_not_served(serve: Serve, gate: Path) -> None:
    server = serve("waits.handler", "--max-workers", "1", "--queue-timeout", "30")
    event = f"until {gate}".encode()
    ask = b"POST /invoke HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
    with server.raw() as first:
        first.send(ask % (len(event), event))
        server.wait_for_line("waiting for")
        with server.raw() as second:
            second.send(ask % (3, b"pid"))
        # Time for the loop to notice: an answered request is a turn of it.
        for _ in range(3):
            assert server.once("GET", "/live").status == 200
        gate.touch()
        assert first.answer().body == b"done"
    assert server.invoke("pid", request_id="last").status == 200
    server.wait_for_line("FC Invoke End RequestId: last")
    assert server.stdout.count(b"FC Invoke Start") in (2, 3)


def test_two_lengths_are_refused(serve: Serve) -> None:
    server = serve("echo.handler")
    with server.raw() as connection:
        connection.send(
            b"POST /invoke HTTP/1.1\r\nHost: x\r\n"
            b"Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello"
        )
        assert connection.answer().status == 400
    assert server.invoke(b"next").body == b"next"


def test_a_length_beyond_reason_is_refused_before_the_event_comes(
    serve: Serve,
) -> None:
    server = serve("echo.handler")
    with server.raw() as connection:
        connection.send(
            b"POST /invoke HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
        )
        reply = connection.answer()
        assert (reply.status, reply.error_type) == (413, "EventTooLarge")
    assert server.invoke(b"next").body == b"next"


@pytest.mark.parametrize("options", [[], ["--log-format", "json"]], ids=["fc", "json"])
def test_a_stalled_log_reader_stops_no_health_check(
    serve: Serve, options: list[str]
) -> None:
    server = serve("prints.handler", *options)
    server.wait_for_line("inited")
    with server.stdout.stalled(), server.raw() as connection:
        connection.send(
            b"POST /invoke HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nmany 5000"
        )
        for _ in range(20):
            assert server.once("GET", "/live").status == 200
        server.stdout.resume()
        assert connection.answer().status == 200
    wait_until(lambda: server.stdout.count(b"y" * 99) == 5000)


def test_a_gone_log_reader_stops_no_handler(serve: Serve) -> None:
    server = serve("prints.handler")
    server.wait_for_line("inited")
    server.stdout.abandon()
    for _ in range(3):
        assert server.invoke("print x").status == 200
    assert server.stop() == 0
