"""Initializer, pre-stop and pre-freeze: when they run, and what is told of them."""

from __future__ import annotations

import pytest

from tests.support.server import Serve

FAILED = ", Error: Unhandled function error"


@pytest.mark.parametrize(
    ("path", "phase", "output"),
    [("/pre-stop", "PreStop", "stopping"), ("/pre-freeze", "PreFreeze", "freezing")],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_hook_runs_between_its_lines(
    serve: Serve, method: str, path: str, phase: str, output: str
) -> None:
    server = serve(
        "hooks.handler",
        *("--pre-stop", "hooks.pre_stop"),
        *("--pre-freeze", "hooks.pre_freeze"),
    )
    reply = server.request(method, path, headers={"x-fc-request-id": "hook"})
    assert reply.status == 200
    assert server.log_of("hook", phase) == [
        f"FC {phase} Start RequestId: hook",
        f"{output} hook",
        f"FC {phase} End RequestId: hook",
    ]


def test_a_failing_hook_is_told_and_the_next_event_served(serve: Serve) -> None:
    server = serve("hooks.handler", "--pre-stop", "hooks.failing")
    reply = server.request("GET", "/pre-stop", headers={"x-fc-request-id": "hook"})
    assert (reply.status, reply.error_type) == (404, "ValueError")
    assert server.log_of("hook", "PreStop")[-1].endswith(f"hook{FAILED}")
    assert server.invoke(b"next").body == b"next"


def test_an_initializer_runs_once_per_worker(serve: Serve) -> None:
    server = serve("initializers.handler", "--initializer", "initializers.initializer")
    reply = server.request("POST", "/initialize", headers={"x-fc-request-id": "init"})
    assert (reply.status, reply.body) == (200, b"")
    assert server.log_of("init", "Initialize")[0].endswith("Start RequestId: init")
    seen = [server.invoke().json() for _ in range(3)]
    assert {one["initialized"] for one in seen} == {1}


def test_an_initializer_runs_without_being_asked(serve: Serve) -> None:
    server = serve("initializers.handler", "--initializer", "initializers.initializer")
    assert server.invoke().json()["initialized"] == 1


def test_an_initializer_runs_again_in_a_replacement(serve: Serve) -> None:
    server = serve(
        "initializers.handler",
        *("--initializer", "initializers.initializer", "--max-workers", "1"),
    )
    first = server.invoke().json()
    assert server.invoke(b"die").status == 404
    second = server.invoke().json()
    assert first["pid"] != second["pid"]
    assert first["initialized"] == second["initialized"] == 1


@pytest.mark.parametrize(
    ("initializer", "error_type"),
    [
        ("initializers.failing", "ValueError"),
        ("initializers.dying", "ProcessExitedError"),
        ("initializers.nowhere", "HandlerNotFound"),
        ("initializers.hanging", "FunctionTimeoutError"),
    ],
)
def test_a_failing_initializer_is_told_to_both_callers(
    serve: Serve, initializer: str, error_type: str
) -> None:
    server = serve(
        "initializers.handler", "--initializer", initializer, "--init-timeout", "1"
    )
    asked = server.request("POST", "/initialize", headers={"x-fc-request-id": "init"})
    assert (asked.status, asked.error_type) == (404, error_type)
    assert server.log_of("init", "Initialize")[-1].endswith(f"init{FAILED}")
    invoked = server.invoke()
    assert (invoked.status, invoked.error_type) == (404, error_type)
    assert server.request("GET", "/live").status == 200


def test_initializing_twice_runs_it_once_in_a_worker(serve: Serve) -> None:
    server = serve(
        "initializers.handler",
        *("--initializer", "initializers.initializer", "--max-workers", "1"),
    )
    for _ in range(3):
        assert server.request("POST", "/initialize").status == 200
    assert server.invoke().json()["initialized"] == 1


def test_a_fresh_process_is_initialized_too(serve: Serve) -> None:
    server = serve(
        "initializers.handler", "--initializer", "initializers.initializer", "--fresh"
    )
    seen = [server.invoke().json() for _ in range(3)]
    assert len({one["pid"] for one in seen}) == 3
    assert {one["initialized"] for one in seen} == {1}
