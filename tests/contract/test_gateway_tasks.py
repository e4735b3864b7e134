"""Asynchronous invocations: accepted at once, tried again, their ends kept for operators."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_gateway import FC2, FC3, FC_OPEN, assert_refused, call
from tests.support.admin import Admin
from tests.support.server import Reply, Serve, Server
from tests.waiting import wait_until

KB = 1024


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    options = ("--gateway", "--admin", "127.0.0.1:0", "--timeout", "1")
    with Server("called.handler", *options) as started:
        yield started


@pytest.fixture(scope="module")
def admin(server: Server) -> Admin:
    return Admin(server)


def submit(server: Server, event: str, path: str = FC3, **headers: str) -> Reply:
    return call(server, event, path, x_fc_invocation_type="Async", **headers)


def end_of(admin: Admin, task_id: str) -> dict[str, Any]:
    """Return what there is to know of a task when it is over."""
    seen: dict[str, Any] = {}

    def is_over() -> bool:
        seen.update(admin.get(f"/async-invocations/{task_id}").json())
        return seen["status"] in ("Succeeded", "Failed", "Expired")

    wait_until(is_over, 10, f"the end of {task_id}")
    return seen


@pytest.mark.parametrize(
    ("path", "header"),
    [
        (FC3, "X-Fc-Async-Task-Id"),
        (FC2, "X-Fc-Stateful-Async-Invocation-Id"),
        (FC_OPEN, "X-Fc-Stateful-Async-Invocation-Id"),
    ],
)
def test_an_event_is_accepted_at_once_and_dealt_with_later(
    server: Server, admin: Admin, path: str, header: str
) -> None:
    reply = submit(server, "hello", path)
    assert (reply.status, reply.body) == (202, b"")
    # Without an id of its own a task has that of its request.
    assert reply.headers[header] == reply.request_id
    task = end_of(admin, reply.request_id)
    assert (task["status"], task["result"]) == ("Succeeded", "hello")
    assert (task["functionName"], task["requestId"]) == ("fn", reply.request_id)
    assert (task["retryCount"], task["errorType"]) == (0, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", task["acceptedTime"])
    assert task["maxMemoryMB"] > 1
    server.wait_for_line(f"FC Invoke End RequestId: {reply.request_id}")


def test_the_log_of_a_task_is_the_log_of_its_invocation(
    server: Server, admin: Admin
) -> None:
    rid = submit(server, "print later").request_id
    end_of(admin, rid)
    assert server.log_of(rid)[1:-1] == ["printed later"]


@pytest.mark.parametrize(
    "name", ["x_fc_async_task_id", "x_fc_stateful_async_invocation_id"]
)
def test_a_chosen_id_is_the_tasks(server: Server, admin: Admin, name: str) -> None:
    task_id = f"_nightly-{len(name)}"
    assert submit(server, "x", **{name: task_id}).status == 202
    assert end_of(admin, task_id)["id"] == task_id


def test_an_id_that_was_used_before_is_refused(server: Server, admin: Admin) -> None:
    assert submit(server, "first", x_fc_async_task_id="once").status == 202
    again = submit(server, "second", x_fc_async_task_id="once")
    assert_refused(again, 409, "StatefulAsyncInvocationAlreadyExists")
    assert end_of(admin, "once")["result"] == "first"
    still = submit(server, "third", x_fc_async_task_id="once")
    assert_refused(still, 409, "StatefulAsyncInvocationAlreadyExists")


@pytest.mark.parametrize("task_id", ["1st", "with space", "a" * 129, "ä"])
def test_an_id_the_platform_would_not_take_is_refused(
    server: Server, task_id: str
) -> None:
    reply = submit(server, "x", x_fc_async_task_id=task_id)
    assert_refused(reply, 400, "InvalidArgument")


def test_a_failure_is_tried_three_times_more(
    server: Server, admin: Admin, tmp_path: Path
) -> None:
    tried = tmp_path / "tried"
    rid = submit(server, f"count {tried} 99").request_id
    task = end_of(admin, rid)
    assert tried.read_text().split() == ["0", "1", "2", "3"]
    assert (task["status"], task["retryCount"]) == ("Failed", 3)
    assert task["errorType"] == "UnhandledInvocationError"
    assert '"errorMessage": "once more"' in task["result"]
    server.wait_for_line(rid)
    wait_until(
        lambda: server.stderr.contains(rid.encode()), 5, "the word of its failure"
    )


def test_a_task_that_succeeds_in_the_end_has_succeeded(
    server: Server, admin: Admin, tmp_path: Path
) -> None:
    tried = tmp_path / "tried"
    task = end_of(admin, submit(server, f"count {tried} 2").request_id)
    assert tried.read_text().split() == ["0", "1", "2"]
    assert (task["status"], task["result"], task["retryCount"]) == (
        "Succeeded",
        "at last",
        2,
    )
    assert task["errorType"] is None


@pytest.mark.parametrize("event", ["exit", "hang"])
def test_a_crash_and_a_hang_are_failures_like_others(
    server: Server, admin: Admin, event: str
) -> None:
    task = end_of(admin, submit(server, event).request_id)
    assert (task["status"], task["retryCount"]) == ("Failed", 3)


def test_an_event_of_128_kb_is_the_largest(server: Server, admin: Admin) -> None:
    largest = "x" * (128 * KB)
    task = end_of(admin, submit(server, largest).request_id)
    assert task["result"] == largest
    reply = submit(server, largest + "x")
    assert_refused(reply, 400, "EntityTooLarge")
    assert str(128 * KB) in reply.json()["Message"]


def test_bytes_that_are_no_text_are_shown_in_base64(
    server: Server, admin: Admin
) -> None:
    task = end_of(admin, submit(server, "bytes").request_id)
    assert "result" not in task
    assert task["resultBase64"].startswith("AAECAwQF")


def test_a_result_is_kept_up_to_a_megabyte(server: Server, admin: Admin) -> None:
    task = end_of(admin, submit(server, f"size {2 << 20}").request_id)
    assert (len(task["result"]), task["resultIsCut"]) == (1 << 20, True)


def test_old_results_make_room_for_new_ones(serve: Serve) -> None:
    server = serve("called.handler", "--gateway", "--admin", "127.0.0.1:0")
    admin = Admin(server)
    ids = [submit(server, f"size {1 << 20}").request_id for _ in range(18)]
    wait_until(lambda: not admin.get("/async-invocations").json()["unfinished"], 10)
    known = {
        one["id"] for one in admin.get("/async-invocations").json()["asyncInvocations"]
    }
    assert known < set(ids)
    assert len(known) == 16
    (gone, *_) = set(ids) - known
    assert admin.get(f"/async-invocations/{gone}").status == 404


def test_tasks_wait_for_their_turn_and_others_do_not(serve: Serve, gate: Path) -> None:
    options = ("--gateway", "--admin", "127.0.0.1:0", "--queue", "1")
    server = serve("called.handler", *options, "--max-workers", "2")
    admin = Admin(server)
    rids = [submit(server, f"until {gate}").request_id for _ in range(20)]
    wait_until(lambda: server.stdout.count(b"waiting, ") == 2, 10, "two that run")
    listed = admin.get("/async-invocations").json()
    assert listed["unfinished"] == 20
    states = [one["status"] for one in listed["asyncInvocations"]]
    assert states == ["Enqueued"] * 18 + ["Running"] * 2
    assert [one["id"] for one in listed["asyncInvocations"]] == rids[::-1]
    gate.touch()
    for rid in rids:
        assert end_of(admin, rid)["status"] == "Succeeded"


def test_a_task_for_which_nobody_is_free_is_tried_later(
    serve: Serve, gate: Path
) -> None:
    options = ("--gateway", "--admin", "127.0.0.1:0", "--queue", "0")
    server = serve("called.handler", *options, "--max-workers", "1")
    admin = Admin(server)
    from tests.support.calls import Calls

    holders = Calls(server)
    holders.start(1, f"until {gate}")
    server.wait_for_line("waiting, ")
    rid = submit(server, "patient").request_id
    wait_until(
        lambda: admin.get(f"/async-invocations/{rid}").json()["status"] == "Retrying"
    )
    gate.touch()
    holders.finish()
    task = end_of(admin, rid)
    # Nothing has failed, so none of its tries is used up.
    assert (task["status"], task["retryCount"]) == ("Succeeded", 0)


def test_a_stop_finishes_what_runs_and_says_what_is_lost(
    serve: Serve, gate: Path
) -> None:
    server = serve("called.handler", "--gateway", "--max-workers", "1")
    first = submit(server, f"until {gate}").request_id
    submit(server, "never")
    server.wait_for_line("waiting, ")
    server.front_end.terminate()
    lost = b"1 asynchronous invocations that wait are lost"
    wait_until(lambda: server.stderr.contains(lost), 5, "the word of the lost one")
    assert_refused(submit(server, "late"), 503, "ServiceUnavailable")
    gate.touch()
    server.wait_for_line(f"FC Invoke End RequestId: {first}")
