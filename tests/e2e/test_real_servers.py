"""Servers that people run their functions on, left as they are, beside our workers.

What a server of our own can show is in the contract tests; here is whether those that
others wrote behave as it does: how they keep connections, cut answers up, start
processes, and end.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.calls import Calls
from tests.support.host import require_strict
from tests.support.server import HANDLERS, Serve, Server, is_sleep, lives
from tests.waiting import wait_until

CODE = HANDLERS / "upstreams" / "real"
SAMPLE = HANDLERS / "upstreams" / "sample.py"
SAMPLE_PORT = 9000
#: What the platform lets through, for an event as for an answer.
LARGEST = 32 << 20


@dataclass(frozen=True)
class Kind:
    """A server program."""

    name: str
    argv: tuple[str, ...]
    #: part of the command line of all of its processes
    belongs: str
    #: how its process ends for an event that says `crash`
    crash_cause: str = "exit"
    #: whether it survives the death of the process that answers
    has_workers: bool = False

    def __str__(self) -> str:
        """Return what pytest calls it."""
        return self.name


_BIN = Path(sys.executable).parent
_GUNICORN = str(_BIN / "gunicorn")
KINDS = [
    Kind(
        "gunicorn",
        (_GUNICORN, "-w", "2", "-b", "unix:{socket}", "wsgi:app"),
        "gunicorn",
        has_workers=True,
    ),
    Kind(
        "gunicorn with threads",
        (_GUNICORN, "--threads", "4", "-b", "127.0.0.1:{port}", "wsgi:app"),
        "gunicorn",
        has_workers=True,
    ),
    Kind(
        "uvicorn",
        (str(_BIN / "uvicorn"), "--port", "{port}", "asgi:app"),
        "uvicorn",
    ),
    Kind("node", ("node", "server.js"), "server.js"),
    Kind(
        "php -S",
        ("php", "-S", "127.0.0.1:{port}", "router.php"),
        "router.php",
        crash_cause="signal",
    ),
    Kind("go", ("./server",), "./server"),
]


@pytest.fixture(scope="module", params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen = request.param
    assert isinstance(chosen, Kind)
    return chosen


@pytest.fixture(scope="module")
def code(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the programs, the one of Go built; or skip the test."""
    program = "go" if kind.name == "go" else kind.argv[0]
    if not shutil.which(program):
        pytest.skip(f"{program} is not here")
    if program != "go":
        return CODE
    folder = tmp_path_factory.mktemp("go")
    built = ["go", "build", "-o", str(folder / "server"), str(CODE / "server.go")]
    subprocess.run(built, check=True, timeout=300)
    return folder


def options(kind: Kind, *given: str) -> tuple[str, ...]:
    """Return the options that run it."""
    return ("--max-workers", "1", *given, "--upstream", "--", *kind.argv)


@pytest.fixture(scope="module")
def server(kind: Kind, code: Path) -> Iterator[Server]:
    with Server(None, *options(kind), code_dir=code, belongs=kind.belongs) as started:
        assert started.invoke(b"first").status == 200
        yield started


@pytest.fixture
def start(serve: Serve, kind: Kind, code: Path) -> Callable[..., Server]:
    """Start one for a test alone, with more options."""

    def started(*given: str) -> Server:
        return serve(None, *options(kind, *given), code_dir=code, belongs=kind.belongs)

    return started


def gone(processes: list[psutil.Process]) -> bool:
    return not any(lives(one) for one in processes)


@pytest.mark.slow
def test_it_answers_and_its_lines_have_the_request_s_place(server: Server) -> None:
    for number in range(20):
        event, request_id = b"x" * number * 1000, f"real-{number}"
        reply = server.invoke(event, request_id=request_id)
        assert (reply.status, reply.body) == (200, event)
        between = server.log_of(request_id)[1:-1]
        assert any(f"{request_id} got {len(event)}" in line for line in between)


@pytest.mark.slow
def test_the_largest_event_and_answer_go_through_whole(server: Server) -> None:
    event = os.urandom(LARGEST)
    for _ in range(2):
        reply = server.invoke(event)
        assert reply.status == 200
        assert reply.body == event


@pytest.mark.slow
def test_a_crash_is_a_typed_answer_and_a_new_server(kind: Kind, server: Server) -> None:
    reply = server.invoke(b"crash-all" if kind.has_workers else b"crash")
    assert (reply.status, reply.error_type) == (404, "ProcessExitedError")
    cause = "signal" if kind.has_workers else kind.crash_cause
    assert reply.json()["details"]["cause"] == cause
    assert server.invoke(b"next").body == b"next"


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.has_workers], ids=str, indirect=True
)
def test_a_death_among_its_workers_costs_one_call(server: Server) -> None:
    failure = server.invoke(b"crash").json()
    assert failure["errorType"] == "UpstreamError"
    assert "closed the connection unanswered" in failure["errorMessage"]
    assert server.invoke(b"next").body == b"next"


@pytest.mark.slow
def test_a_timeout_ends_its_whole_tree(
    kind: Kind, start: Callable[..., Server]
) -> None:
    server = start("--timeout", "2")
    assert server.invoke(b"first").status == 200
    tree = server.beside_workers()
    assert len(tree) > kind.has_workers
    assert server.invoke(b"hang").error_type == "FunctionTimeoutError"
    wait_until(lambda: gone(tree), 5, "an end of the server")
    wait_until(
        lambda: not [*filter(is_sleep, server.strays())],
        5,
        "an end of what it started",
    )
    assert server.invoke(b"next").body == b"next"


@pytest.mark.slow
def test_a_drain_lets_it_finish(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start()
    gate, calls = tmp_path / "go", Calls(server)
    event = f"wait {gate}"
    calls.start(1, event)
    server.wait_for_line(f"got {len(event)}")
    server.signal(signal.SIGTERM)
    gate.touch()
    assert calls.statuses() == [200]
    assert server.wait() == 0


# A server on the platform's port, whatever it is told.


def sample(*given: str) -> tuple[str, ...]:
    return (*given, "--upstream", "--", sys.executable, str(SAMPLE))


def served_as_it_is(server: Server) -> None:
    assert server.request("POST", "/initialize").body == b"ready"
    for number in range(3):
        reply = server.invoke(b"Ada", request_id=f"sample-{number}")
        assert (reply.status, reply.body) == (200, b"Hello, Ada!")
        assert reply.headers["Author"] == "sample"
        assert f"sample-{number} got Ada" in server.log_of(f"sample-{number}")


def test_an_application_on_a_port_of_its_own_choice_is_found(serve: Serve) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", SAMPLE_PORT))
        except OSError:
            pytest.skip(f"something else has port {SAMPLE_PORT} here")
    served_as_it_is(serve(None, *sample("--max-workers", "1"), belongs="sample.py"))


def test_in_networks_of_their_own_all_have_the_port_they_choose(serve: Serve) -> None:
    require_strict()
    server = serve(
        None,
        *sample("--sandbox", "strict", "--min-workers", "2", "--max-workers", "2"),
        belongs="sample.py",
    )
    wait_until(lambda: len(server.beside_workers()) == 2, 20, "two at once")
    served_as_it_is(server)
