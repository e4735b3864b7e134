"""However an invocation ends, it costs its own caller one typed answer, and nobody else.

Every row checks the same three things: what this caller is answered, that a neighbour
in flight succeeds, that the next invocation is served; and whether the process is still
the same one. At the end of the file the server holds what it held at the beginning.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from isoruntime.wire.pipes import STACK_SIGNAL
from tests.faults.looking import (
    STEADY,
    WORKERS,
    Holdings,
    check_failure,
    is_alive,
    neighbour,
    unharmed_neighbour,
)
from tests.support.calls import Calls
from tests.support.server import Reply, Serve, Server
from tests.waiting import wait_until

SHORT_S = 0.4
#: What a call that ends at once may take on a machine that has other work.
AT_ONCE_S = 1.0


class Ending(NamedTuple):
    """What a row must come to."""

    error_type: str | None = None
    message: str | None = None
    cause: str | None = None
    signal: str | None = None
    code: int | None = None
    keeps_worker: bool = False


def raised(error_type: str, message: str | None = None) -> Ending:
    return Ending(error_type, message, keeps_worker=True)


def exited(code: int) -> Ending:
    return Ending("ProcessExitedError", cause="exit", code=code)


def killed(name: str) -> Ending:
    return Ending("ProcessExitedError", cause="signal", signal=name)


FAULT = Ending("RuntimeFault", cause="protocol")
FINE = Ending(keeps_worker=True)

EXCEPTIONS = {
    "raise empty": raised("ValueError", ""),
    "raise nothing": raised("ValueError", ""),
    "raise base": raised("PassesThrough", "asked"),
    "raise generator": raised("GeneratorExit", "asked"),
    "raise stop": raised("StopIteration", "asked"),
    "raise unprintable": raised("Unprintable", "<unprintable Unprintable object>"),
    "raise exits-when-printed": raised(
        "ExitsWhenPrinted", "<unprintable ExitsWhenPrinted object>"
    ),
    "raise surrogate": raised("ValueError", "\udcff \x00 \u2744"),
    "raise large": raised("ValueError"),
    "chained": raised("LookupError", "second"),
    "cyclic": raised("ValueError", "one"),
    "recurse": raised("RecursionError"),
    "raise interrupt": killed("SIGINT"),
}

EXITS = {
    "exit 0": exited(0),
    "exit nothing": exited(0),
    "exit 7": exited(7),
    "exit 256": exited(0),
    "exit text": exited(1),
    **{f"_exit {code}": exited(code) for code in (0, 1, 3, 4, 5, 137, 255)},
    "libc-exit 0": exited(0),
    "thread 5": exited(5),
    "atexit 9": exited(9),
    "atexit-raise 6": exited(6),
    "execute /bin/true": exited(0),
    "leave-thread": FINE,
}

CRASHES = {
    "abort": killed("SIGABRT"),
    "null": killed("SIGSEGV"),
    "overflow": killed("SIGSEGV"),
    "kill-group": killed("SIGKILL"),
}

OUT_OF_TURN = {
    "execute /bin/sleep 60": FAULT,
    "cover socket": FAULT,
    "rubbish 1": FAULT,
    "rubbish 100": FAULT,
    "announce 0": FAULT,
    f"announce {1 << 30}": FAULT,
    f"announce {(1 << 64) - 1}": FAULT,
    "forge wrong": FAULT,
}

#: Python looks away from these two, and the last one is our own.
HARMLESS = {signal.SIGPIPE, signal.SIGXFSZ, STACK_SIGNAL}
#: These end nobody by default, or stop, which is another row.
NOT_FATAL = {
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGURG,
    signal.SIGWINCH,
    signal.SIGSTOP,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
}
SIGNALS = sorted(
    number
    for number in signal.valid_signals() - NOT_FATAL
    # Of the real-time signals, all alike, the ends.
    if number <= signal.SIGRTMIN or number >= signal.SIGRTMAX - 3
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("ends.handler", "--timeout", "20", *STEADY) as started:
        holdings = Holdings(started)
        yield started
        holdings.check_nothing_is_left()


@pytest.fixture(scope="module")
def hasty_server() -> Iterator[Server]:
    with Server("ends.handler", "--timeout", f"{SHORT_S}", *STEADY) as started:
        holdings = Holdings(started)
        yield started
        holdings.check_nothing_is_left()


def rows(endings: dict[str, Ending]) -> list[Any]:
    return [pytest.param(event, ending, id=event) for event, ending in endings.items()]


def check(server: Server, gate: Path, event: str, ending: Ending) -> Reply:
    """Check a whole row; return this caller's answer."""
    request_id = f"row-{time.monotonic_ns()}"
    since = server.stdout.size()
    with unharmed_neighbour(server, gate):
        began = time.monotonic()
        reply = server.invoke(event, request_id=request_id)
        took = time.monotonic() - began
        check_answer(reply, ending)
        assert took < AT_ONCE_S
        assert server.invoke("hello").body == b"still here"
    line = server.wait_for_line(f"{request_id} runs in ", since)
    pid = int(line.rpartition(" ")[2])
    if ending.keeps_worker:
        assert is_alive(pid)
    else:
        wait_until(lambda: not is_alive(pid), 2, "the worker's end")
    return reply


def check_answer(reply: Reply, ending: Ending) -> None:
    if ending.error_type is None:
        assert (reply.status, reply.body) == (200, b"still here")
        return
    details: dict[str, object] = {}
    if ending.cause is not None:
        details = {
            "cause": ending.cause,
            "signal": ending.signal,
            "exitCode": ending.code,
        }
    check_failure(reply, ending.error_type, **details)
    failure = reply.json()
    if ending.message is not None:
        assert failure["errorMessage"] == ending.message
    if ending.error_type == "ProcessExitedError":
        assert re.fullmatch(
            r"Process exited unexpectedly before completing request "
            r"\(duration: \d+ms, maxMemoryUsage: \d+\.\d\dMB\)",
            failure["errorMessage"],
        )


@pytest.mark.parametrize(("event", "ending"), rows(EXCEPTIONS))
def test_an_exception_is_told(
    server: Server, gate: Path, event: str, ending: Ending
) -> None:
    check(server, gate, event, ending)


@pytest.mark.parametrize(("event", "ending"), rows(EXITS))
def test_an_exit_is_told(
    server: Server, gate: Path, event: str, ending: Ending
) -> None:
    check(server, gate, event, ending)


@pytest.mark.parametrize("event", ["fork", "fork-raise", "fork-exit"])
def test_both_sides_of_a_fork_may_return_and_one_of_them_answers(
    serve: Serve, gate: Path, event: str
) -> None:
    # Fresh workers: in another one the child stays a zombie, which is its parent's to
    # collect, and that is the handler.
    server = serve("ends.handler", "--fresh")
    with unharmed_neighbour(server, gate):
        for _ in range(5):
            assert server.invoke(event).body == b"still here"
            assert server.invoke("hello").body == b"still here"


@pytest.mark.parametrize(("event", "ending"), rows(CRASHES))
def test_a_crash_is_told(
    server: Server, gate: Path, event: str, ending: Ending
) -> None:
    check(server, gate, event, ending)


@pytest.mark.parametrize(("event", "ending"), rows(OUT_OF_TURN))
def test_speaking_out_of_turn_is_told(
    server: Server, gate: Path, event: str, ending: Ending
) -> None:
    check(server, gate, event, ending)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: f"signal {number:d}")
def test_every_fatal_signal_is_told_by_name(
    server: Server, gate: Path, number: int
) -> None:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    ending = FINE if number in HARMLESS else killed(name)
    check(server, gate, f"signal {number:d}", ending)


@pytest.mark.parametrize("event", ["close", "cover null", "exit no-text"])
def test_an_end_that_may_be_told_in_two_ways_is_told(
    server: Server, gate: Path, event: str
) -> None:
    # What is noticed first, the pipe's end or the process's, is up to the kernel.
    with unharmed_neighbour(server, gate):
        reply = server.invoke(event)
        assert reply.status == 404
        assert reply.error_type in {"ProcessExitedError", "RuntimeFault"}
        assert server.invoke("hello").body == b"still here"


def test_a_large_message_is_cut(server: Server) -> None:
    reply = server.invoke("raise large")
    assert len(reply.body) < 1 << 20
    assert "10485760 characters" in reply.json()["errorMessage"]


def test_the_text_of_an_exit_and_an_interrupt_are_in_the_log(server: Server) -> None:
    server.invoke("exit farewell", request_id="farewell")
    assert "farewell" in server.log_of("farewell")
    server.invoke("raise interrupt", request_id="interrupted")
    assert "KeyboardInterrupt" in server.log_of("interrupted")


def test_an_exit_function_that_hangs_has_the_deadline(hasty_server: Server) -> None:
    check_failure(hasty_server.invoke("atexit-hang"), "FunctionTimeoutError")
    assert hasty_server.invoke("hello").body == b"still here"


@pytest.mark.parametrize("how", ["end", "raise"])
def test_an_end_after_the_answer_is_nobody_s_error(server: Server, how: str) -> None:
    for _ in range(10):
        assert server.invoke(f"freed {how}").body == b"still here"
        # Some of these meet a worker in the moment of its death.
        assert server.invoke("hello").body == b"still here"


def test_a_process_that_stops_itself_is_out_of_time(
    hasty_server: Server, gate: Path
) -> None:
    reply = hasty_server.invoke("stop")
    check_failure(reply, "FunctionTimeoutError", cause="timeout")
    assert hasty_server.invoke("hello").body == b"still here"


# Forgery


def test_a_reply_with_the_right_nonce_is_the_answer(server: Server, gate: Path) -> None:
    # User code answers for user code: whatever it says is what it says.
    with unharmed_neighbour(server, gate):
        assert server.invoke("forge right").body == b"forged"
        assert server.invoke("hello").body == b"still here"


@pytest.mark.parametrize(
    "event", [f"late {SHORT_S + 0.003}", f"forge-late {SHORT_S + 0.001}"]
)
def test_a_reply_after_the_deadline_is_too_late(
    hasty_server: Server, gate: Path, event: str
) -> None:
    refused = 0
    for _ in range(20):
        reply = hasty_server.invoke(event)
        # On a machine that wakes the front end later than it asked for, an answer that
        # is there by then is given.
        if reply.status != 200:
            check_failure(reply, "FunctionTimeoutError")
            refused += 1
        replies = [hasty_server.invoke("hello") for _ in range(10)]
        assert {reply.body for reply in replies} == {b"still here"}
        if refused == 3:
            break
    assert refused == 3


# Others: the sandbox keeps a handler from these, so here it is off. What matters is that
# even then the runtime comes back.
OPEN = ("--sandbox", "off")


@pytest.mark.parametrize("event", ["kill-zygote", "kill-zygotes-group"])
def test_service_is_back_soon_after_a_handler_kills_the_zygote(
    serve: Serve, gate: Path, event: str, record_property: Any
) -> None:
    server = serve("ends.handler", "--timeout", "20", *STEADY, *OPEN)
    holdings = Holdings(server)
    with neighbour(server, gate) as replies:
        reply = server.invoke(event)
        began = time.monotonic()
        assert server.invoke("hello").body == b"still here"
        took_ms = (time.monotonic() - began) * 1000
        check_failure(reply, "ProcessExitedError", cause="signal", signal="SIGKILL")
    record_property("service back after ms", round(took_ms))
    sys.stdout.write(f"service back after {took_ms:.0f} ms\n")
    assert took_ms < 1000
    # Its worker was the zygote's child, so the neighbour is told the same.
    check_failure(replies[0], "ProcessExitedError", cause="signal", signal="SIGKILL")
    holdings.check_nothing_is_left()


def test_a_handler_that_kills_its_siblings_costs_their_callers_alone(
    serve: Serve, gate: Path
) -> None:
    server = serve("ends.handler", "--timeout", "20", *STEADY, *OPEN)
    holdings = Holdings(server)
    with neighbour(server, gate) as replies:
        assert server.invoke("kill-siblings").body == b"still here"
        assert server.invoke("hello").body == b"still here"
    check_failure(replies[0], "ProcessExitedError", cause="signal", signal="SIGKILL")
    holdings.check_nothing_is_left()


def test_a_spare_worker_killed_at_once_is_nobody_s_error(serve: Serve) -> None:
    server = serve("ends.handler", "--timeout", "20", *STEADY, *OPEN)
    for _ in range(3):
        wait_until(lambda: len(server.pids) == WORKERS, 5, "all workers")
        # From the second time on these were forked this moment and have served nobody.
        assert server.invoke("kill-siblings").body == b"still here"
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            assert server.invoke("hello").body == b"still here"
    assert len(server.zygotes) == 1


def test_no_worker_shares_a_process_group_with_the_front_end(server: Server) -> None:
    groups = {os.getpgid(pid) for pid in (server.zygote.pid, *server.pids)}
    assert os.getpgid(server.front_end.pid) not in groups
    assert len(groups) == 1 + len(server.pids)


def test_a_crowd_of_deaths_leaves_nothing(server: Server) -> None:
    events = ["_exit 3", "null", "exit 1", "rubbish 9", "hello", "raise empty"] * 10
    calls = Calls(server)
    for start in range(0, len(events), 6):
        for event in events[start : start + 6]:
            calls.start(1, event)
        calls.finish()
    found = sorted(reply.status for reply in calls.replies)
    assert found == [200] * 10 + [404] * 50
    assert psutil.pid_exists(server.front_end.pid)
