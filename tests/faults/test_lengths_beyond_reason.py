"""A length with more digits than Python turns into a number."""

from __future__ import annotations

from tests.support.server import Serve


def test_an_endless_length_is_refused_in_words(serve: Serve) -> None:
    server = serve("echo.handler")
    with server.raw() as connection:
        connection.send(
            b"POST /invoke HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n"
        )
        assert connection.answer().status in (400, 413)
        assert connection.is_closed_by_peer()
    assert server.invoke(b"next").body == b"next"
    assert b"uncaptured" not in server.stderr.read()
