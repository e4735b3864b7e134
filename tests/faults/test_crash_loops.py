"""A handler that dies at import: backed off, answered for, recovered from."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.faults.looping import (
    INIT_TIMEOUT_S,
    NOTE,
    SERVES,
    SLACK_S,
    Loop,
    Observed,
    attempts_in,
    check_recovery,
    check_schedule,
    health,
    left_alone,
    repair,
)
from tests.support.calls import Calls
from tests.support.server import Serve
from tests.waiting import wait_until

AT_IMPORT = {
    "raises": ("raise ValueError('broken here')", "UserCodeError", "broken here"),
    "exits": ("sys.exit(3)", "ProcessExitedError", ""),
    "is killed": (
        "os.kill(os.getpid(), signal.SIGKILL)",
        "ProcessExitedError",
        "",
    ),
    "crashes": (
        "os.kill(os.getpid(), signal.SIGSEGV)",
        "ProcessExitedError",
        "",
    ),
    "hangs": ("time.sleep(600)", "FunctionTimeoutError", ""),
}
LOOPS = {
    f"{way} with preload {preload}": Loop(code, preload, error_type, in_reason)
    for way, (code, error_type, in_reason) in AT_IMPORT.items()
    for preload in ("auto", "never")
}


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Observed]]:
    with left_alone(LOOPS, tmp_path_factory.mktemp("loops")) as seen:
        yield seen


@pytest.mark.parametrize("name", LOOPS)
def test_attempts_follow_the_schedule_when_nobody_calls(
    observed: dict[str, Observed], name: str
) -> None:
    hung_s = INIT_TIMEOUT_S if "hangs" in name else 0.0
    check_schedule(observed[name].attempts, hung_s=hung_s)


@pytest.mark.parametrize("name", LOOPS)
def test_its_callers_are_told_at_once_what_is_wrong(
    observed: dict[str, Observed], name: str
) -> None:
    loop, seen = LOOPS[name], observed[name]
    assert max(seen.took_s) < INIT_TIMEOUT_S + SLACK_S
    for reply in seen.replies:
        assert (reply.status, reply.error_type) == (404, loop.error_type)
        assert reply.headers["x-fc-status"] == "404"
    assert (seen.sick.status, seen.sick.json()["status"]) == (503, "broken")
    assert seen.sick.json()["reason"].startswith(loop.error_type)
    assert loop.in_reason in seen.sick.json()["reason"]
    assert seen.sick.headers["Retry-After"]
    assert seen.live.status == 200


@pytest.mark.parametrize("name", LOOPS)
def test_repaired_it_serves_without_a_restart(
    observed: dict[str, Observed], name: str
) -> None:
    check_recovery(observed[name])


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_leaves_no_process_behind(
    observed: dict[str, Observed], name: str
) -> None:
    server = observed[name].server
    wait_until(lambda: len(server.zygotes) <= 1, 3, f"one zygote: {server.zygotes}")
    assert len(server.pids) <= 2
    assert not server.strays()


def test_calls_do_not_make_it_try_more_than_once_a_second(
    serve: Serve, code_dir: Path, tmp_path: Path
) -> None:
    log = tmp_path / "attempts"
    (code_dir / "index.py").write_text(NOTE.format(log=log) + "raise ValueError")
    server = serve("index.handler", code_dir=code_dir)
    until = time.monotonic() + 3.2
    answered = 0
    while time.monotonic() < until:
        assert server.invoke(b"x").error_type == "UserCodeError"
        answered += 1
    assert answered > 100
    attempts = attempts_in(log)
    assert min(after - before for before, after in pairwise(attempts)) >= 1.0
    assert len(attempts) in (3, 4)


def test_a_zygote_that_dies_over_and_over_is_backed_off(
    serve: Serve, code_dir: Path, tmp_path: Path
) -> None:
    """A timer that the import sets kills the zygote itself, each time it is ready."""
    log = tmp_path / "attempts"
    (code_dir / "index.py").write_text(
        NOTE.format(log=log) + "signal.setitimer(signal.ITIMER_REAL, 0.1)" + SERVES
    )
    server = serve("index.handler", code_dir=code_dir)
    wait_until(lambda: health(server).status == 503, 10, "bad health")
    assert 5 <= len(attempts_in(log)) <= 7
    reply = server.invoke(b"x")
    if reply.status != 200:
        assert (reply.status, reply.error_type) == (404, "ProcessExitedError")
    tried = len(attempts_in(log))
    since = time.monotonic()
    wait_until(lambda: time.monotonic() - since > 2.5)
    assert len(attempts_in(log)) - tried <= 3
    assert repair({server: code_dir / "index.py"})[server] < 2.0 + SLACK_S


def test_one_death_in_two_starves_nobody(serve: Serve) -> None:
    server = serve("ways_to_die.handler", "--max-workers", "2", "--queue", "200")
    assert server.invoke("hello").status == 200
    calls = Calls(server)
    began = time.monotonic()
    for _ in range(40):
        calls.start(1, "hello")
        calls.start(1, "_exit 3")
    replies = calls.finish()
    assert time.monotonic() - began < 10
    assert sorted(reply.status for reply in replies) == [200] * 40 + [404] * 40
    died = [reply for reply in replies if reply.status == 404]
    assert {reply.error_type for reply in died} == {"ProcessExitedError"}
    assert health(server).status == 200


def test_poison_alone_does_not_make_the_function_broken(serve: Serve) -> None:
    server = serve("ways_to_die.handler", "--max-workers", "1")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        for _ in range(60):
            connection.request("POST", "/invoke", b"signal SIGKILL")
            with connection.getresponse() as response:
                assert response.status == 404
                response.read()
    finally:
        connection.close()
    assert health(server).status == 200
    assert int(server.invoke("pid").body) in server.pids
