"""Workers that end by themselves as soon as they are ready."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.looping import (
    SERVES,
    SLACK_S,
    Loop,
    Observed,
    check_recovery,
    check_schedule,
    left_alone,
)
from tests.waiting import wait_until

AFTER_READY = {
    "a timer ends the worker": Loop(
        "threading.Timer(0.05, os._exit, (5,)).start()" + SERVES,
        "never",
        "ProcessExitedError",
        "",
    ),
    "a thread of every fork ends the worker": Loop(
        "def last():\n"
        "    threading.Timer(0.05, os._exit, (5,)).start()\n"
        "os.register_at_fork(after_in_child=last)" + SERVES,
        "auto",
        "ProcessExitedError",
        "",
    ),
}


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Observed]]:
    with left_alone(AFTER_READY, tmp_path_factory.mktemp("loops")) as seen:
        yield seen


@pytest.mark.parametrize("name", AFTER_READY)
def test_attempts_grow_further_apart(observed: dict[str, Observed], name: str) -> None:
    check_schedule(observed[name].attempts)


@pytest.mark.parametrize("name", AFTER_READY)
def test_no_attempt_leaves_a_process_behind(
    observed: dict[str, Observed], name: str
) -> None:
    server = observed[name].server
    wait_until(lambda: len(server.zygotes) <= 1, 2, "one zygote only")
    assert len(server.pids) <= 2
    assert not server.strays()


@pytest.mark.parametrize("name", AFTER_READY)
def test_its_callers_are_served_in_time_or_told_of_its_death(
    observed: dict[str, Observed], name: str
) -> None:
    seen = observed[name]
    assert max(seen.took_s) < SLACK_S
    for reply in seen.replies:
        # One that comes in the moment a worker lives is served.
        if reply.status != 200:
            assert (reply.status, reply.error_type) == (404, "ProcessExitedError")
    check_recovery(seen)
