"""What a failure says about itself, and what it does not believe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.looking import check_failure
from tests.support.server import Reply, Serve, Server
from tests.waiting import wait_until

LIMIT_S = 0.4
MEMORY_MB = 256
TAIL_BYTES = 4096

SUMMARY = {
    "cause",
    "signal",
    "exitCode",
    "durationMs",
    "maxMemoryMB",
    "memoryLimitMB",
    "timeoutSeconds",
}
FULL = SUMMARY | {"logTail", "traceback"}

FAILURES = {
    "segfault": ("ProcessExitedError", "signal", "SIGSEGV", None),
    "abort": ("ProcessExitedError", "signal", "SIGABRT", None),
    "kill": ("ProcessExitedError", "signal", "SIGKILL", None),
    "exit": ("ProcessExitedError", "exit", None, 3),
    "hang": ("FunctionTimeoutError", "timeout", None, None),
    "block": ("FunctionTimeoutError", "timeout", None, None),
    "execute": ("RuntimeFault", "protocol", None, None),
}


def start(level: str) -> Server:
    return Server(
        "verdicts.handler",
        *("--timeout", str(LIMIT_S), "--memory", str(MEMORY_MB)),
        *("--error-details", level, "--max-workers", "2"),
    )


@pytest.fixture(scope="module")
def full() -> Iterator[Server]:
    with start("full") as started:
        yield started


@pytest.fixture(scope="module", params=["none", "summary", "full"])
def leveled(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server]]:
    with start(request.param) as started:
        yield request.param, started


def details_of(reply: Reply) -> dict[str, Any]:
    found: dict[str, Any] = reply.json()["details"]
    return found


@pytest.mark.parametrize("way", FAILURES)
def test_a_failure_says_as_much_as_is_wanted(
    leveled: tuple[str, Server], way: str
) -> None:
    level, server = leveled
    error_type, cause, signal_name, code = FAILURES[way]
    reply = server.invoke(f"{way} 3")
    check_failure(reply, error_type)
    failure = reply.json()
    if level == "none":
        assert failure.keys() == {"errorMessage", "errorType"}
        return
    details = failure["details"]
    assert details.keys() == (FULL if level == "full" else SUMMARY)
    assert (details["cause"], details["signal"], details["exitCode"]) == (
        cause,
        signal_name,
        code,
    )
    assert details["memoryLimitMB"] == MEMORY_MB
    assert details["timeoutSeconds"] == LIMIT_S
    if cause == "timeout":
        assert 400 <= details["durationMs"] < 1000
    else:
        assert 0 <= details["durationMs"] < 400
    if cause != "protocol":
        # What is killed for its words has no peak yet when its caller is answered.
        assert 4 < details["maxMemoryMB"] < 100


def test_an_exception_says_the_same_at_every_level(
    leveled: tuple[str, Server],
) -> None:
    _, server = leveled
    reply = server.invoke("raise 3")
    check_failure(reply, "ValueError")
    assert reply.json().keys() == {"errorMessage", "errorType", "stackTrace"}


def test_the_failure_in_the_log_is_the_one_in_the_answer(full: Server) -> None:
    reply = full.invoke("segfault", request_id="told")
    log = "\n".join(full.log_of("told"))
    logged, _ = json.JSONDecoder().raw_decode(log, log.index("[ERROR] ") + 8)
    assert logged == reply.json()


@pytest.mark.parametrize(
    ("way", "function"),
    [
        ("segfault", "fall_into_nothing"),
        ("hang", "sleep_too_long"),
        ("block", "block_too_long"),
    ],
)
def test_the_traceback_says_where_it_was(full: Server, way: str, function: str) -> None:
    traceback = details_of(full.invoke(way))["traceback"]
    assert f"in {function}" in traceback
    assert "verdicts.py" in traceback
    # Our own frames would only be in the way.
    assert "isoruntime/worker" not in traceback


@pytest.mark.parametrize("way", ["kill", "exit"])
def test_there_is_no_traceback_where_nobody_could_write_one(
    full: Server, way: str
) -> None:
    # One that an earlier invocation left in the same worker would be a lie.
    assert details_of(full.invoke(way))["traceback"] == ""


@pytest.mark.parametrize("way", ["segfault", "hang", "exit", "execute"])
def test_the_log_tail_is_the_last_output(full: Server, way: str) -> None:
    tail = details_of(full.invoke(f"{way} 200 unfinished"))["logTail"]
    assert len(tail.encode()) <= TAIL_BYTES
    assert "line 0199" in tail
    assert "line 0000" not in tail
    assert "the last words" in tail


def test_the_log_tail_is_this_invocation_s_own(full: Server) -> None:
    assert full.invoke("fine 50").body == b"still here"
    assert "line" not in details_of(full.invoke("kill 0"))["logTail"]


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 70, 126, 127, 128 + 9, 255])
def test_an_exit_code_is_shown_and_means_nothing(full: Server, code: int) -> None:
    zygote = full.zygote.pid
    for _ in range(3):
        reply = full.invoke(f"_exit {code}")
        check_failure(reply, "ProcessExitedError", cause="exit", exitCode=code)
    assert full.invoke("hello").body == b"still here"
    assert full.zygote.pid == zygote
    assert full.once("GET", "/health").status == 200


@pytest.mark.parametrize("code", [0, 3, 4, 70])
def test_an_exit_code_at_import_means_nothing_either(
    serve: Serve, code_dir: Path, code: int
) -> None:
    index = code_dir / "index.py"
    index.write_text(f"import os\nos._exit({code})\n")
    server = serve("index.handler", code_dir=code_dir)
    check_failure(
        server.invoke(), "ProcessExitedError", cause="exit", exitCode=code, signal=None
    )
    # Mended, it is served by the same front end.
    index.write_text("def handler(event, context):\n    return 'mended'\n")
    wait_until(lambda: server.invoke().body == b"mended", 10, "service")
