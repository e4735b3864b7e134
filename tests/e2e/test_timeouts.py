"""At the deadline the caller is answered and the whole tree ends."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import pytest

from tests.support.server import Reply, Serve, Server
from tests.waiting import wait_until

TIMEOUT_S = 0.4
#: What may pass between the deadline and the answer.
GRACE_S = 0.05


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("slow.handler", "--timeout", str(TIMEOUT_S)) as started:
        yield started


def timed(server: Server, event: str) -> tuple[Reply, float]:
    """Invoke; return the answer and how long it took."""
    began = time.monotonic()
    reply = server.invoke(event)
    return reply, time.monotonic() - began


@pytest.mark.parametrize(
    "event",
    [
        "sleep",
        "loop",
        "expression",
        "stubborn",
        "grandchild",
        "escaped",
        "daemon",
        "stopped",
        "output",
    ],
)
def test_whatever_it_does_it_ends_in_time(server: Server, event: str) -> None:
    reply, took = timed(server, event)
    assert took >= TIMEOUT_S
    assert reply.status == 404
    assert reply.headers["x-fc-status"] == "404"
    failure = reply.json()
    details = failure["details"]
    assert failure["errorType"] == "FunctionTimeoutError"
    assert failure["errorMessage"] == (
        f"Function timed out after {TIMEOUT_S} seconds "
        f"(maxMemoryUsage: {details['maxMemoryMB']:.2f}MB)"
    )
    assert (details["cause"], details["timeoutSeconds"]) == ("timeout", TIMEOUT_S)
    wait_until(lambda: not server.strays(), 2, f"the tree's end: {server.strays()}")
    assert server.invoke("fine").body == b"in time"


@pytest.mark.parametrize("event", ["sleep", "grandchild", "stopped"])
def test_the_answer_comes_at_the_deadline(server: Server, event: str) -> None:
    late = statistics.median(timed(server, event)[1] for _ in range(5)) - TIMEOUT_S
    assert late < GRACE_S


def test_just_in_time_is_in_time(serve: Serve) -> None:
    server = serve("waits.handler", "--timeout", "2")
    assert server.invoke("sleep 1").body == b"slept"


def test_where_it_hung_is_in_the_log(server: Server) -> None:
    server.invoke("sleep", request_id="hung")
    log = "\n".join(server.log_of("hung"))
    assert "hang_here" in log
    assert "slow.py" in log


def test_where_it_hung_is_in_the_answer_when_wanted(serve: Serve) -> None:
    server = serve("slow.handler", "--timeout", "0.3", "--error-details", "full")
    assert "hang_here" in server.invoke("sleep").json()["details"]["traceback"]


def test_a_timeout_is_a_gateway_timeout_to_http(serve: Serve) -> None:
    server = serve("slow.handler", "--timeout", "0.3", "--errors", "http")
    reply = server.invoke("sleep")
    assert (reply.status, reply.error_type) == (504, "FunctionTimeoutError")


def test_the_header_shortens_the_time(serve: Serve) -> None:
    server = serve("slow.handler")
    began = time.monotonic()
    reply = server.invoke("sleep", {"x-fc-function-timeout": "1"})
    assert reply.error_type == "FunctionTimeoutError"
    # We answer before the platform gives up.
    assert time.monotonic() - began < 1.0


def test_the_header_does_not_lengthen_the_time(server: Server) -> None:
    reply = server.invoke("sleep", {"x-fc-function-timeout": "600"})
    assert reply.json()["details"]["timeoutSeconds"] == TIMEOUT_S


def test_the_handler_can_see_the_deadline(server: Server) -> None:
    assert 0 < int(server.invoke("remaining").body) <= TIMEOUT_S * 1000


def test_a_connection_outlives_a_timeout(server: Server) -> None:
    with server.raw() as connection:
        for event in (b"sleep", b"fine"):
            connection.send(
                b"POST /invoke HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
                % (len(event), event)
            )
        assert connection.answer().status == 404
        assert connection.answer().body == b"in time"


def test_children_left_by_a_returned_handler_are_ended(serve: Serve) -> None:
    server = serve("slow.handler")
    reply = server.invoke("leave a child")
    assert (reply.status, reply.body) == (200, b"in time")
    wait_until(lambda: not server.strays(), 5, f"the child's end: {server.strays()}")
