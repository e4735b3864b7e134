"""The waitress adapter: real sockets, the real loop, turned step by step."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import os
import socket
import struct
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import waitress
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import BaseWSGIServer

from isoruntime.contract.answer import Answer
from isoruntime.frontend.http import Channel, Exchange, HttpServer, Parser
from isoruntime.frontend.sockets import listen
from isoruntime.loop import Loop
from isoruntime.wire.pipes import EventFile

MB = 1 << 20
LIMIT = 4 * MB


def body_of(exchange: Exchange) -> bytes:
    """Return the event, from wherever it is."""
    event = exchange.request.event()
    if isinstance(event, EventFile):
        return os.pread(event.fd, event.size_bytes, 0)
    return bytes(event)


def plain(body: bytes = b"", status: int = 200, **options: Any) -> Answer:
    return Answer(status, body, "text/plain", "200", [], **options)


class Response:
    """One answer as it came over the wire."""

    def __init__(self, head: bytes, body: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.version, status, self.reason = lines[0].split(" ", 2)
        self.status = int(status)
        self.headers = {
            name.lower(): value
            for name, _, value in (line.partition(": ") for line in lines[1:])
        }
        self.body = body


class Client:
    """One connection; reads and writes only as the site's loop is turned."""

    def __init__(self, site: Site, sock: socket.socket) -> None:
        self._site = site
        self.socket = sock
        self.received = bytearray()
        self.has_ended = False
        self.was_reset = False

    def send(self, data: bytes) -> Client:
        """Write, turning the loop when the socket is full."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.socket.send(rest) :]
            except BlockingIOError:
                self._site.turn()
        return self

    def pull(self, limit: int = 1 << 20) -> int:
        """Take in what is there; return how much."""
        try:
            data = self.socket.recv(limit)
        except BlockingIOError:
            return 0
        except ConnectionResetError:
            data, self.was_reset = b"", True
        self.has_ended = self.has_ended or not data
        self.received += data
        return len(data)

    def _pull_until(self, is_there: Callable[[], bool]) -> None:
        while not is_there():
            assert not self.has_ended, f"ended after {bytes(self.received[:200])!r}"
            self._site.until(lambda: self.pull() or self.has_ended)

    def _shift(self, count: int) -> bytes:
        data = bytes(self.received[:count])
        del self.received[:count]
        return data

    def head(self) -> Response:
        """Turn the loop until the head of an answer is there; return it."""
        self._pull_until(lambda: b"\r\n\r\n" in self.received[:65536])
        end = self.received.index(b"\r\n\r\n") + 4
        return Response(self._shift(end)[:-4], b"")

    def answer(self, method: str = "POST") -> Response:
        """Turn the loop until an answer is there; return it."""
        response = self.head()
        if method != "HEAD" and response.status != 100:
            length = int(response.headers["content-length"])
            self._pull_until(lambda: len(self.received) >= length)
            response.body = self._shift(length)
        return response

    def expect(self, data: bytes) -> None:
        """Turn the loop until this is there, and nothing else before it."""
        self._pull_until(lambda: len(self.received) >= len(data))
        assert self._shift(len(data)) == data

    def wait_for_end(self) -> None:
        """Turn the loop until the other side has closed."""

        def has_ended() -> bool:
            self.pull()
            return self.has_ended

        self._site.until(has_ended)
        assert not self.received

    def is_open(self) -> bool:
        """Return whether the other side has not closed, and said nothing."""
        for _ in range(5):
            self._site.turn()
        return self.pull() == 0 and not self.has_ended

    def close(self, *, reset: bool = False) -> None:
        """Leave, politely or not."""
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


class Site:
    """The adapter on a loop of its own, and who decides about its answers."""

    def __init__(self, connection_limit: int = 5000) -> None:
        self.loop = Loop()
        self._listening = listen("127.0.0.1", 0)
        self.address = self._listening[0].getsockname()
        #: requests that wait for an answer of the test's
        self.exchanges: list[Exchange] = []
        self.seen: list[tuple[str, str]] = []
        self.decide: Callable[[Exchange], object] = self.exchanges.append
        self.http = HttpServer(
            self.loop,
            self._listening,
            self._on_request,
            max_event_bytes=LIMIT,
            connection_limit=connection_limit,
        )
        self.clients: list[Client] = []

    def _on_request(self, exchange: Exchange) -> None:
        if exchange.request.error is None:
            self.seen.append((exchange.request.command, exchange.request.path))
        self.decide(exchange)

    def echo(self, exchange: Exchange) -> None:
        """Answer with the event, now."""
        exchange.answer(plain(body_of(exchange)))

    def refuse(self, exchange: Exchange) -> None:
        """Answer as the routes do: malformed, too large, or the event."""
        if exchange.request.error is not None:
            code = exchange.request.error.code
            exchange.answer(plain(b"malformed", code, close=True))
        elif exchange.request.is_too_large:
            exchange.answer(plain(b"too large", 413))
        else:
            self.echo(exchange)

    def connect(self, *, receive_buffer: int = 0) -> Client:
        sock = socket.socket()
        client = Client(self, sock)
        self.clients.append(client)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(self.address)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def turn(self) -> None:
        self.loop.turn(0.001)

    def until(self, condition: Callable[[], object], within_s: float = 20) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, "it did not come to that"
            self.turn()

    def exchange(self) -> Exchange:
        """Return the next request that waits for an answer."""
        self.until(lambda: self.exchanges)
        return self.exchanges.pop(0)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.http.stop_listening()
        self.http.close_connections()
        self.loop.close()


@pytest.fixture
def make_site() -> Iterator[Callable[..., Site]]:
    before = open_descriptors()
    with ExitStack() as stack:

        def make(**options: Any) -> Site:
            site = Site(**options)
            stack.callback(site.close)
            return site

        yield make
    assert open_descriptors() == before


def open_descriptors() -> dict[str, str]:
    """Return what is open, after everything that can be let go of was."""
    gc.collect()
    found = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names suffice
        with contextlib.suppress(OSError):
            found[name] = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
    return found


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """Make a site whose answers the test gives."""
    return make_site()


@pytest.fixture
def echo(make_site: Callable[..., Site]) -> Site:
    """Make a site that answers at once, as the routes do."""
    made = make_site()
    made.decide = made.refuse
    return made


def ask(
    body: bytes = b"",
    *headers: str,
    method: str = "POST",
    path: str = "/invoke",
    version: str = "1.1",
) -> bytes:
    head = [f"{method} {path} HTTP/{version}", "Host: x"]
    if method != "GET":
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, *headers, "", ""]).encode() + body


def chunked(pieces: Iterable[bytes]) -> bytes:
    head = b"POST /invoke HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces])


LAST_CHUNK = b"0\r\n\r\n"


# What this adapter relies on. A new waitress that changes one of these breaks here
# first, with its name.


def test_waitress_is_the_major_version_that_was_tested() -> None:
    import importlib.metadata

    assert importlib.metadata.version("waitress").split(".")[0] == "3"
    assert waitress.__name__ == "waitress"


@pytest.mark.parametrize(
    ("of", "name"),
    [
        (HTTPChannel, "service"),
        (HTTPChannel, "send"),
        (HTTPChannel, "write_soon"),
        (HTTPChannel, "handle_close"),
        (HTTPChannel, "handle_write"),
        (HTTPChannel, "received"),
        (HTTPChannel, "readable"),
        (HTTPChannel, "writable"),
        (HTTPRequestParser, "received"),
        (HTTPRequestParser, "parse_header"),
        (BaseWSGIServer, "add_task"),
        (BaseWSGIServer, "maintenance"),
        (wasyncore, "readwrite"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_we_build_upon_exists(of: Any, name: str) -> None:
    assert callable(getattr(of, name))


def test_a_channel_has_what_we_read(site: Site) -> None:
    site.connect().send(ask(b"event"))
    exchange = site.exchange()
    (channel,) = (
        one for one in site.loop.connections.values() if isinstance(one, Channel)
    )
    assert channel.requests == [exchange.request]
    assert channel.total_outbufs_len == 0
    assert len(channel.outbufs) == 1
    assert channel.connected
    assert isinstance(channel.server.active_channels, dict)
    assert channel.adj.channel_request_lookahead == 1
    exchange.answer(plain(b"answer"))
    assert channel.requests == []


def test_a_parser_has_what_we_read(site: Site) -> None:
    site.connect().send(ask(b"event", "X-Fc-Request-Id: abc", path="/in%76oke?q=1"))
    request = site.exchange().request
    assert (request.command, request.path, request.version) == (
        "POST",
        "/invoke",
        "1.1",
    )
    assert request.headers["X_FC_REQUEST_ID"] == "abc"
    assert request.error is None
    assert (request.content_length, request.chunked) == (5, False)
    assert not request.connection_close
    assert request.completed


@pytest.mark.parametrize(
    "data", [b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\nbad\r\n\r\n"]
)
def test_a_parser_has_it_after_an_error_too(site: Site, data: bytes) -> None:
    site.connect().send(data)
    request = site.exchange().request
    assert request.error is not None
    assert request.error.code == 400
    for name in ("command", "path", "headers", "version"):
        assert hasattr(request, name), name


# Answers.


def test_an_answer_is_head_and_body(site: Site) -> None:
    client = site.connect().send(ask(b"event"))
    exchange = site.exchange()
    assert body_of(exchange) == b"event"
    answer = Answer(404, b'{"a": 1}', "application/json", "404", [("X-One", "1")])
    exchange.answer(answer)
    response = client.answer()
    assert (response.version, response.status, response.reason) == (
        "HTTP/1.1",
        404,
        "Not Found",
    )
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-one"] == "1"
    assert response.headers["content-length"] == "8"
    assert "connection" not in response.headers
    assert "server" not in response.headers
    # RFC 9110: an origin server with a clock sends a date.
    assert time.strptime(response.headers["date"], "%a, %d %b %Y %H:%M:%S GMT")
    assert response.body == b'{"a": 1}'
    assert client.is_open()


@pytest.mark.parametrize("status", [200, 400, 404, 405, 413, 429, 431, 502, 503, 504])
def test_every_status_we_use_has_its_phrase(site: Site, status: int) -> None:
    client = site.connect().send(ask())
    site.exchange().answer(plain(status=status))
    assert client.answer().reason not in ("", "Unknown")


@pytest.mark.parametrize("kind_of", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [0, 1, 128 * 1024, 128 * 1024 + 1, 3 * MB])
def test_a_body_of_any_kind_and_size_arrives(
    site: Site, kind_of: Callable[[bytes], Any], size: int
) -> None:
    client = site.connect().send(ask())
    body = (b"0123456789abcdefg" * (size // 17 + 1))[:size]
    site.exchange().answer(plain(kind_of(body)))
    assert client.answer().body == body
    client.send(ask(b"next"))
    site.exchange().answer(plain(b"again"))
    assert client.answer().body == b"again"


def test_an_answer_known_at_once_is_not_sent_inside_waitress_call(echo: Site) -> None:
    # `add_task` is called with a lock held that `service` takes as well: answered in
    # there it would wait for itself for ever.
    client = echo.connect().send(ask(b"at once"))
    assert client.answer().body == b"at once"


def test_an_answer_may_come_much_later(site: Site) -> None:
    client = site.connect().send(ask(b"slow"))
    exchange = site.exchange()
    assert client.is_open()
    exchange.answer(plain(b"at last"))
    assert client.answer().body == b"at last"


def test_a_second_answer_is_ignored(site: Site) -> None:
    client = site.connect().send(ask())
    exchange = site.exchange()
    exchange.answer(plain(b"first"))
    exchange.answer(plain(b"second"))
    assert client.answer().body == b"first"
    client.send(ask())
    site.exchange().answer(plain(b"third"))
    assert client.answer().body == b"third"


def test_an_answer_to_head_has_no_body_but_its_length(site: Site) -> None:
    client = site.connect().send(ask(method="HEAD", path="/health"))
    site.exchange().answer(plain(b"as long as this"))
    response = client.answer("HEAD")
    assert response.headers["content-length"] == "15"
    assert client.is_open()
    client.send(ask())
    site.exchange().answer(plain(b"next"))
    assert client.answer().body == b"next"


def test_an_answer_that_closes_says_so_and_does(site: Site) -> None:
    client = site.connect().send(ask())
    site.exchange().answer(plain(b"bye", close=True))
    response = client.answer()
    assert (response.headers["connection"], response.body) == ("close", b"bye")
    client.wait_for_end()
    site.until(lambda: site.http.connections == 0)


def test_a_client_that_asks_for_it_is_let_go(echo: Site) -> None:
    client = echo.connect().send(ask(b"bye", "Connection: close"))
    response = client.answer()
    assert (response.headers["connection"], response.body) == ("close", b"bye")
    client.wait_for_end()


# Old clients.


def test_an_old_client_is_answered_in_its_version_and_let_go(echo: Site) -> None:
    client = echo.connect().send(ask(b"old", version="1.0"))
    response = client.answer()
    assert (response.version, response.body) == ("HTTP/1.0", b"old")
    assert response.headers["connection"] == "close"
    client.wait_for_end()


def test_an_old_client_may_ask_to_stay(echo: Site) -> None:
    client = echo.connect()
    for event in (b"one", b"two"):
        client.send(ask(event, "Connection: Keep-Alive", version="1.0"))
        response = client.answer()
        assert (response.version, response.body) == ("HTTP/1.0", event)
        assert response.headers["connection"] == "keep-alive"
    assert client.is_open()


# Requests in pieces and in a row.


def test_pipelined_requests_are_answered_in_order(site: Site) -> None:
    events = [b"one", b"", b"three" * 1000, b"four"]
    client = site.connect().send(b"".join(map(ask, events)))
    for event in events:
        exchange = site.exchange()
        assert body_of(exchange) == event
        for _ in range(3):
            site.turn()
        assert site.exchanges == [], "the next one waits for this one's answer"
        exchange.answer(plain(event))
    assert [client.answer().body for _ in events] == events


def test_pipelined_requests_that_are_answered_at_once_are_too(echo: Site) -> None:
    events = [b"%d" % number for number in range(200)]
    client = echo.connect().send(b"".join(map(ask, events)))
    assert [client.answer().body for _ in events] == events


def test_who_pipelines_and_does_not_read_gets_no_further(site: Site) -> None:
    client = site.connect(receive_buffer=4096)
    for number in range(3):
        client.send(ask(b"%d" % number))
    site.exchange().answer(plain(bytes(8 * MB)))
    for _ in range(50):
        site.turn()
    assert site.exchanges == []
    assert client.answer().body == bytes(8 * MB)
    assert body_of(site.exchange()) == b"1"


def test_a_request_byte_by_byte_is_one_request(echo: Site) -> None:
    client = echo.connect()
    for byte in ask(b"slow"):
        client.send(bytes([byte]))
        echo.turn()
    assert client.answer().body == b"slow"


def test_half_sent_requests_do_not_disturb_others(echo: Site) -> None:
    whole = ask(b"half sent")
    halves = [echo.connect().send(whole[:at]) for at in range(1, len(whole), 7)]
    brisk = echo.connect()
    for number in range(20):
        brisk.send(ask(b"%d" % number))
        assert brisk.answer().body == b"%d" % number
    for at, half in zip(range(1, len(whole), 7), halves, strict=True):
        half.send(whole[at:])
        assert half.answer().body == b"half sent"


def test_blank_lines_between_requests_are_nothing(echo: Site) -> None:
    client = echo.connect().send(ask(b"one") + b"\r\n\r\n" + ask(b"two"))
    assert [client.answer().body, client.answer().body] == [b"one", b"two"]


# Events of every shape.


@pytest.mark.parametrize(
    "size", [0, 1, 8191, 8192, 8193, MB - 1, MB, MB + 1, 3 * MB, LIMIT]
)
@pytest.mark.parametrize("is_chunked", [False, True], ids=["with length", "chunked"])
def test_an_event_of_any_size_arrives(echo: Site, size: int, is_chunked: bool) -> None:
    event = os.urandom(16) * (size // 16 + 1)
    event = event[:size]
    if is_chunked:
        pieces = [event[at : at + 70_000] for at in range(0, size, 70_000)]
        data = chunked(pieces) + LAST_CHUNK
    else:
        data = ask(event)
    client = echo.connect().send(data)
    assert client.answer().body == event
    assert client.send(ask(b"next")).answer().body == b"next"


@pytest.mark.parametrize("is_chunked", [False, True], ids=["with length", "chunked"])
def test_a_large_event_is_a_file_and_a_small_one_is_not(
    site: Site, is_chunked: bool
) -> None:
    for size, wanted in [(MB // 2, bytes), (2 * MB, EventFile)]:
        event = bytes(size)
        data = chunked([event]) + LAST_CHUNK if is_chunked else ask(event)
        client = site.connect().send(data)
        exchange = site.exchange()
        assert type(exchange.request.event()) is wanted
        assert len(exchange.request.event()) == size
        exchange.answer(plain())
        client.answer()


def test_the_file_of_an_event_is_closed_with_its_answer(site: Site) -> None:
    client = site.connect().send(ask(bytes(2 * MB)))
    exchange = site.exchange()
    event = exchange.request.event()
    assert isinstance(event, EventFile)
    path = Path(f"/proc/self/fd/{event.fd}")
    opened = path.stat()
    exchange.answer(plain())
    client.answer()
    assert not path.exists() or not os.path.samestat(path.stat(), opened)


def test_the_file_of_an_event_is_closed_when_its_client_left_unanswered(
    site: Site,
) -> None:
    before = open_descriptors()
    clients = [site.connect().send(ask(bytes(3 * MB))[: 2 * MB]) for _ in range(4)]
    site.until(lambda: site.http.connections == 4)
    for _ in range(20):
        site.turn()
    for client in clients:
        client.close()
    site.until(lambda: site.http.connections == 0)
    assert open_descriptors() == before


def test_who_asks_before_sending_is_told_to_go_on(echo: Site) -> None:
    head, _, event = ask(b"after 100", "Expect: 100-continue").partition(b"\r\n\r\n")
    client = echo.connect().send(head + b"\r\n\r\n")
    assert client.answer().status == 100
    assert echo.seen == []
    assert client.send(event).answer().body == b"after 100"
    client.send(head + b"\r\n\r\n")
    assert client.answer().status == 100
    assert client.send(event).answer().body == b"after 100"


def test_who_asks_while_another_answer_is_due_is_told_after_it(site: Site) -> None:
    head, _, event = ask(b"second", "Expect: 100-continue").partition(b"\r\n\r\n")
    client = site.connect().send(ask(b"first") + head + b"\r\n\r\n")
    exchange = site.exchange()
    assert client.is_open()
    exchange.answer(plain(b"first"))
    assert client.answer().body == b"first"
    assert client.answer().status == 100
    client.send(event)
    exchange = site.exchange()
    assert body_of(exchange) == b"second"
    exchange.answer(plain(b"second"))
    assert client.answer().body == b"second"


# Too large, and malformed.


@pytest.mark.parametrize("over", [1, 5 * MB])
@pytest.mark.parametrize("is_chunked", [False, True], ids=["with length", "chunked"])
def test_an_event_over_the_limit_is_refused_and_the_connection_lives_on(
    echo: Site, over: int, is_chunked: bool
) -> None:
    event = bytes(LIMIT + over)
    client = echo.connect()
    if is_chunked:
        pieces = [event[at : at + MB] for at in range(0, len(event), MB)]
        client.send(chunked(pieces) + LAST_CHUNK)
    else:
        client.send(ask(event))
    assert client.answer().status == 413
    assert client.send(ask(b"next")).answer().body == b"next"


def test_an_event_over_the_limit_is_not_kept(site: Site) -> None:
    client = site.connect().send(ask(bytes(LIMIT + MB)))
    request = site.exchange().request
    assert request.is_too_large
    assert len(request.body_rcv.getbuf()) == 0
    client.close()


def test_who_asks_first_is_told_no_before_it_sends(echo: Site) -> None:
    head = ask(bytes(LIMIT + 1), "Expect: 100-continue").partition(b"\r\n\r\n")[0]
    client = echo.connect().send(head + b"\r\n\r\n")
    response = client.answer()
    assert (response.status, response.headers["connection"]) == (413, "close")
    client.wait_for_end()


def test_a_body_that_would_never_end_is_not_waited_for(echo: Site) -> None:
    head = ask().replace(b"Content-Length: 0", b"Content-Length: 99999999999999")
    client = echo.connect().send(head + bytes(1000))
    assert client.answer().status == 413
    client.wait_for_end()


MALFORMED = {
    "no request line": (b"NONSENSE\r\n\r\n", 400),
    "a lower case method": (b"get / HTTP/1.1\r\n\r\n", 400),
    "a header without a colon": (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
    "a bare line feed": (b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", 400),
    "a folded first header": (b"GET / HTTP/1.1\r\n A: b\r\n\r\n", 400),
    "a length that is no number": (
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        400,
    ),
    "a negative length": (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    "two lengths": (
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        400,
    ),
    "a coding we have not": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        501,
    ),
    "a chunk of no size": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        400,
    ),
    "a chunk without an end": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n",
        400,
    ),
    "too much header": (
        b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
        431,
    ),
    "a header without end": (b"GET / HTTP/1.1\r\nA: " + b"x" * 200_000, 431),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_told_so_and_closed(echo: Site, name: str) -> None:
    data, status = MALFORMED[name]
    client = echo.connect().send(data)
    response = client.answer()
    assert (response.status, response.headers["connection"]) == (status, "close")
    assert response.body == b"malformed"
    # What was sent behind it may come back as a reset, but nothing is answered.
    client.wait_for_end()
    assert echo.connect().send(ask(b"next")).answer().body == b"next"


def test_a_length_with_more_digits_than_python_reads_harms_nobody(echo: Site) -> None:
    digits = b"9" * 5000
    client = echo.connect()
    client.send(b"POST / HTTP/1.1\r\nContent-Length: " + digits + b"\r\n\r\n")
    assert client.answer().status in (400, 413)
    assert echo.connect().send(ask(b"next")).answer().body == b"next"


def test_requests_before_a_malformed_one_are_answered(echo: Site) -> None:
    client = echo.connect().send(ask(b"one") + ask(b"two") + b"NONSENSE\r\n\r\n")
    assert [client.answer().body, client.answer().body] == [b"one", b"two"]
    assert client.answer().status == 400
    client.wait_for_end()


# Clients that leave.


@pytest.mark.parametrize("reset", [False, True], ids=["politely", "with a reset"])
def test_a_client_that_leaves_is_noticed_while_its_answer_is_due(
    site: Site, reset: bool
) -> None:
    client = site.connect().send(ask(b"event"))
    exchange = site.exchange()
    left: list[str] = []
    exchange.on_client_left = lambda: left.append("left")
    client.close(reset=reset)
    site.until(lambda: left)
    exchange.answer(plain(b"nobody reads this"))
    site.turn()
    assert left == ["left"]
    assert site.http.connections == 0
    assert not site.http.has_unsent


def test_a_client_that_stays_is_not_said_to_have_left(site: Site) -> None:
    client = site.connect().send(ask(b"event"))
    exchange = site.exchange()
    left: list[str] = []
    exchange.on_client_left = lambda: left.append("left")
    exchange.answer(plain(b"answer"))
    client.answer()
    client.close()
    site.until(lambda: site.http.connections == 0)
    assert left == []


def test_a_client_that_left_leaves_nothing_in_memory(site: Site) -> None:
    client = site.connect().send(ask(bytes(2 * MB)))
    exchange = site.exchange()
    channel = weakref.ref(exchange._channel)  # type: ignore[arg-type]
    request = weakref.ref(exchange.request)
    client.close()
    site.until(lambda: site.http.connections == 0)
    exchange.answer(plain())
    del exchange
    site.turn()
    gc.collect()
    assert channel() is None
    assert request() is None


def test_a_client_that_leaves_in_the_middle_of_its_answer_is_forgotten(
    site: Site,
) -> None:
    client = site.connect(receive_buffer=4096).send(ask())
    site.exchange().answer(plain(bytes(16 * MB)))
    site.until(lambda: site.http.has_unsent)
    client.close(reset=True)
    site.until(lambda: site.http.connections == 0)
    assert not site.http.has_unsent
    other = site.connect().send(ask())
    site.exchange().answer(plain(b"served"))
    assert other.answer().body == b"served"


def test_the_requests_behind_one_whose_client_left_are_not_begun(site: Site) -> None:
    client = site.connect().send(ask(b"one") + ask(b"two"))
    exchange = site.exchange()
    client.close(reset=True)
    site.until(lambda: site.http.connections == 0)
    exchange.answer(plain())
    for _ in range(5):
        site.turn()
    assert site.exchanges == []


def test_the_request_behind_an_answer_that_was_never_read_is_not_begun(
    site: Site,
) -> None:
    client = site.connect(receive_buffer=4096).send(ask(b"one") + ask(b"two"))
    site.exchange().answer(plain(bytes(16 * MB)))
    site.until(lambda: site.http.has_unsent)
    client.close(reset=True)
    site.until(lambda: site.http.connections == 0)
    for _ in range(5):
        site.turn()
    assert site.exchanges == []


def test_connections_that_say_nothing_and_leave_cost_nothing(echo: Site) -> None:
    before = open_descriptors()
    for _ in range(20):
        clients = [echo.connect() for _ in range(10)]
        echo.until(lambda: echo.http.connections == 10)
        for client in clients:
            client.close()
        echo.until(lambda: echo.http.connections == 0)
    assert open_descriptors() == before


# Many, and slow ones.


def test_a_connection_outlives_every_refusal(echo: Site) -> None:
    client = echo.connect()
    echo.decide = lambda exchange: exchange.answer(plain(b"no", 404))
    assert client.send(ask(method="GET", path="/nowhere")).answer().status == 404
    echo.decide = echo.refuse
    assert client.send(ask(bytes(LIMIT + 1))).answer().status == 413
    echo.decide = lambda exchange: exchange.answer(plain(b"later", 429))
    assert client.send(ask(b"event")).answer().status == 429
    echo.decide = echo.refuse
    assert client.send(ask(b"event")).answer().body == b"event"
    assert client.is_open()


def test_a_thousand_idle_connections_are_not_asked_in_every_turn(echo: Site) -> None:
    for _ in range(1000):
        echo.connect()
    echo.until(lambda: echo.http.connections == 1000)
    busy = echo.connect()
    assert busy.send(ask(b"warm")).answer().body == b"warm"
    asked = 0
    original = Channel.readable

    def count(channel: Channel) -> Any:
        nonlocal asked
        asked += 1
        return original(channel)

    Channel.readable = count
    try:
        before = echo.loop.turns
        for number in range(50):
            assert busy.send(ask(b"%d" % number)).answer().body == b"%d" % number
        turns = echo.loop.turns - before
    finally:
        Channel.readable = original
    assert turns >= 50
    assert asked <= 2 * turns
    assert echo.http.connections == 1001


def test_a_slow_reader_of_a_large_answer_does_not_hold_up_the_others(
    site: Site,
) -> None:
    body = os.urandom(MB) * 32
    slow = site.connect(receive_buffer=64 * 1024).send(ask())
    site.exchange().answer(plain(body))
    brisk = site.connect()
    digest, taken, rounds = hashlib.sha256(), 0, 0
    head = slow.head()
    assert head.headers["content-length"] == str(len(body))
    while taken < len(body):
        rounds += 1
        brisk.send(ask(b"%d" % rounds))
        site.exchange().answer(plain(b"%d" % rounds))
        assert brisk.answer().body == b"%d" % rounds
        slow.pull(512 * 1024)
        digest.update(slow.received)
        taken += len(slow.received)
        slow.received.clear()
    assert digest.digest() == hashlib.sha256(body).digest()
    assert rounds >= 30
    assert not site.http.has_unsent


def test_a_fast_reader_of_a_large_answer_gets_a_share_of_a_turn(site: Site) -> None:
    # However fast it reads: what one connection is sent in a turn is bounded.
    client = site.connect().send(ask())
    exchange = site.exchange()
    sent: list[int] = []
    original = wasyncore.dispatcher.send

    def send(channel: Any, data: Any, do_close: bool = True) -> int:
        count: int = original(channel, data, do_close)
        sent.append(count)
        client.pull()
        client.received.clear()
        return count

    wasyncore.dispatcher.send = send
    try:
        exchange.answer(plain(bytes(16 * MB)))
        in_turns = [sum(sent)]
        while site.http.has_unsent:
            sent.clear()
            client.pull()
            site.turn()
            in_turns.append(sum(sent))
    finally:
        wasyncore.dispatcher.send = original
    # The last piece may be as large as a socket's buffer, some 4 MB.
    assert max(in_turns) < 8 * MB
    assert sum(in_turns) >= 16 * MB


def test_beyond_the_limit_connections_wait_until_others_leave(
    make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "waitress")
    # The map that is counted holds the listening socket and a pipe of waitress's too.
    site = make_site(connection_limit=7)
    site.decide = site.refuse
    first = [site.connect() for _ in range(5)]
    site.until(lambda: site.http.connections == 5)
    late = site.connect().send(ask(b"late"))
    assert late.is_open()
    assert site.http.connections == 5
    assert first[0].send(ask(b"still served")).answer().body == b"still served"
    first[0].close()
    # A second is long for a connection that is ready to be taken.
    site.until(lambda: late.pull() or b"late" in late.received, within_s=1)
    assert late.answer().body == b"late"


# The server's end.


def test_when_it_stops_listening_those_who_are_there_go_on(echo: Site) -> None:
    client = echo.connect().send(ask(b"one"))
    assert client.answer().body == b"one"
    echo.http.stop_listening()
    echo.http.stop_listening()
    assert client.send(ask(b"two")).answer().body == b"two"
    with pytest.raises(ConnectionRefusedError):
        echo.connect()


def test_connections_can_be_closed_whatever_is_on_them(site: Site) -> None:
    idle, running = site.connect(), site.connect().send(ask(b"event"))
    reading = site.connect(receive_buffer=4096)
    left: list[str] = []
    exchange = site.exchange()
    exchange.on_client_left = lambda: left.append("left")
    reading.send(ask())
    site.exchange().answer(plain(bytes(8 * MB)))
    site.until(lambda: site.http.connections == 3)
    site.http.close_connections()
    assert site.http.connections == 0
    assert left == ["left"]
    for client in (idle, running):
        client.wait_for_end()


def test_a_connection_may_be_idle_for_a_day_and_no_longer(
    echo: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = echo.connect().send(ask(b"one"))
    assert client.answer().body == b"one"
    (channel,) = (
        one for one in echo.loop.connections.values() if isinstance(one, Channel)
    )
    server = channel.server
    server.maintenance(channel.last_activity + 24 * 3600 - 1)
    assert not channel.will_close
    server.maintenance(channel.last_activity + 24 * 3600 + 1)
    assert channel.will_close
    echo.loop.touch(channel._fileno)
    client.wait_for_end()


@pytest.mark.parametrize("taking_in", ["take_whole", "received"])
def test_no_exception_of_one_connection_reaches_the_others(
    echo: Site,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    taking_in: str,
) -> None:
    other = echo.connect()

    def fail(parser: Parser, data: bytes) -> int:
        raise RuntimeError("a bug in the parser")

    victim = echo.connect()
    echo.until(lambda: echo.http.connections == 2)
    with monkeypatch.context() as patch:
        patch.setattr(Parser, taking_in, fail)
        # The first half of a request is not whole.
        victim.send(ask(b"event")[:-1])
        victim.wait_for_end()
    assert other.send(ask(b"fine")).answer().body == b"fine"


def test_two_requests_of_one_connection_never_run_at_once(site: Site) -> None:
    clients = [site.connect() for _ in range(3)]
    for client in clients:
        client.send(ask(b"a") + ask(b"b") + ask(b"c"))
    for _ in range(3):
        site.until(lambda: len(site.exchanges) == 3)
        for _ in range(3):
            site.turn()
        batch, site.exchanges[:] = list(site.exchanges), []
        assert len({exchange._channel for exchange in batch}) == 3
        for exchange in batch:
            exchange.answer(plain(body_of(exchange)))
    for client in clients:
        assert [client.answer().body for _ in range(3)] == [b"a", b"b", b"c"]


def test_a_bad_header_of_ours_never_leaves_half_an_answer(site: Site) -> None:
    # A name or value that is no latin-1 is a bug of ours; it must not end the loop.
    client = site.connect().send(ask())
    exchange = site.exchange()
    with contextlib.suppress(UnicodeEncodeError):
        exchange.answer(Answer(200, b"", "text/plain", "200", [("X", "\u2744")]))
    client.wait_for_end()
    other = site.connect().send(ask())
    site.exchange().answer(plain(b"fine"))
    assert other.answer().body == b"fine"


# Answers that come in pieces.


def begun(
    site: Site, request: bytes, **answer: Any
) -> tuple[Client, Exchange, Response]:
    """Have a client that has the head of an answer that comes in pieces."""
    client = site.connect().send(request)
    exchange = site.exchange()
    exchange.begin(plain(**answer))
    return client, exchange, client.head()


def test_pieces_are_sent_as_they_come_and_the_connection_stays(site: Site) -> None:
    client, exchange, head = begun(site, ask())
    assert head.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in head.headers
    for piece in (b"one", b"x" * 3000):
        assert exchange.send(piece)
        client.expect(b"%x\r\n%b\r\n" % (len(piece), piece))
    exchange.end()
    client.expect(LAST_CHUNK)
    site.decide = site.echo
    assert client.send(ask(b"next")).answer().body == b"next"


def test_an_empty_piece_is_not_the_last(site: Site) -> None:
    client, exchange, _ = begun(site, ask())
    exchange.send(b"")
    exchange.send(b"one")
    client.expect(b"3\r\none\r\n")


def test_a_length_that_is_known_is_told_in_place_of_chunks(site: Site) -> None:
    client, exchange, head = begun(site, ask(), length=6)
    assert head.headers["content-length"] == "6"
    assert "transfer-encoding" not in head.headers
    exchange.send(b"one")
    exchange.send(b"two")
    exchange.end()
    client.expect(b"onetwo")
    site.decide = site.echo
    assert client.send(ask(b"next")).answer().body == b"next"


def test_more_than_the_length_is_not_sent(site: Site) -> None:
    client, exchange, _ = begun(site, ask(), length=3)
    exchange.send(b"one and")
    exchange.send(b" more")
    exchange.end()
    client.expect(b"one")
    site.decide = site.echo
    assert client.send(ask(b"next")).answer().body == b"next"


def test_less_than_the_length_ends_the_connection(site: Site) -> None:
    client, exchange, _ = begun(site, ask(), length=6)
    exchange.send(b"one")
    exchange.end()
    client.expect(b"one")
    client.wait_for_end()


def test_an_old_client_is_sent_pieces_up_to_the_end_of_its_connection(
    site: Site,
) -> None:
    client, exchange, head = begun(site, ask(version="1.0"))
    assert "transfer-encoding" not in head.headers
    exchange.send(b"one")
    exchange.send(b"two")
    exchange.end()
    client.expect(b"onetwo")
    client.wait_for_end()


def test_pieces_of_an_answer_to_head_are_not_sent(site: Site) -> None:
    client, exchange, _ = begun(site, ask(method="HEAD"))
    exchange.send(b"one")
    exchange.end()
    site.decide = site.echo
    assert client.send(ask(b"next")).answer().body == b"next"


@pytest.mark.parametrize("length", [-1, 6])
def test_an_answer_that_is_cut_off_does_not_look_whole(site: Site, length: int) -> None:
    client, exchange, _ = begun(site, ask(), length=length)
    exchange.send(b"one")
    exchange.cut_off()
    client.expect(b"one" if length > 0 else b"3\r\none\r\n")
    client.wait_for_end()


def test_an_old_client_is_reset_as_nothing_else_tells_it(site: Site) -> None:
    client, exchange, _ = begun(site, ask(version="1.0"))
    exchange.send(b"one")
    client.expect(b"one")
    exchange.cut_off()
    client.wait_for_end()
    assert client.was_reset


def test_the_request_behind_an_answer_in_pieces_waits_for_its_end(site: Site) -> None:
    client, exchange, _ = begun(site, ask() + ask(b"next"))
    exchange.send(b"one")
    client.expect(b"3\r\none\r\n")
    assert site.exchanges == []
    exchange.end()
    client.expect(LAST_CHUNK)
    site.echo(site.exchange())
    assert client.answer().body == b"next"


def test_who_reads_slowly_holds_up_its_own_answer_alone(site: Site) -> None:
    client, exchange, _ = begun(site, ask())
    relieved: list[bool] = []
    exchange.on_relief = lambda: relieved.append(True)
    piece = b"x" * 65536
    sent = 0
    while exchange.send(piece):
        sent += 1
        site.turn()
        assert sent < 1000
    # A neighbour is served as if nothing was.
    waiting = list(site.exchanges)
    neighbour = site.connect().send(ask(b"neighbour"))
    site.until(lambda: len(site.exchanges) > len(waiting))
    site.echo(site.exchanges.pop())
    assert neighbour.answer().body == b"neighbour"
    assert not relieved
    site.until(lambda: (client.pull(), relieved)[1])
    assert relieved == [True]


def test_a_client_that_leaves_in_the_middle_is_told_of_once(site: Site) -> None:
    client, exchange, _ = begun(site, ask())
    left: list[bool] = []
    exchange.on_client_left = lambda: left.append(True)
    client.close(reset=True)
    site.until(lambda: left)
    # Whatever still comes is for nobody, and harms nobody.
    assert exchange.send(b"x" * 300_000)
    exchange.end()
    assert left == [True]
