"""The admin port: what operators see, and who is let in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isoruntime import __version__
from tests.contract.test_gateway import FC3, call
from tests.support.admin import Admin
from tests.support.server import Serve, Server
from tests.waiting import wait_until

TOKEN = "open-sesame"
KEY = "id:the-key-itself"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    options = ("--gateway", "--key", KEY, "--admin", "127.0.0.1:0", "--memory", "128")
    with Server("called.handler", *options) as started:
        started.wait_for_line("runtime inited")
        yield started


@pytest.fixture(scope="module")
def admin(server: Server) -> Admin:
    return Admin(server)


def test_the_status_says_what_runs_and_with_which_settings(
    server: Server, admin: Admin
) -> None:
    server.invoke(b"hi")
    status = admin.get("/status").json()
    assert (status["version"], status["status"]) == (__version__, "ok")
    assert status["uptimeSeconds"] > 0
    settings = status["settings"]
    assert settings["memory_mb"] == {"value": 128, "source": "--memory"}
    assert settings["timeout_s"] == {"value": 60.0, "source": "default"}
    assert settings["admin"] == {"value": ["127.0.0.1", 0], "source": "--admin"}
    (function,) = status["functions"]
    assert (function["name"], function["handler"]) == (None, "called.handler")
    assert function["isolation"]["sandbox"] == "standard"
    assert (function["inFlight"], function["waiting"]) == (0, 0)


def test_the_status_shows_every_worker(server: Server, admin: Admin) -> None:
    server.invoke(b"hi")

    def shown() -> Any:
        return admin.get("/status").json()["functions"][0]

    # One that was ordered and is not there yet has no number.
    wait_until(
        lambda: {worker["pid"] for worker in shown()["workers"]} == {*server.pids},
        what="that all workers are shown",
    )
    function = shown()
    busiest = max(function["workers"], key=lambda worker: worker["served"])
    assert (busiest["state"], busiest["served"] > 0) == ("idle", True)
    assert 1 < busiest["maxMemoryMB"] < 128
    assert busiest["ageSeconds"] > 0


def test_the_status_has_no_secret(admin: Admin) -> None:
    body = admin.get("/status").body
    assert b'"***"' in body
    assert b"the-key-itself" not in body


def test_a_busy_worker_is_shown_as_busy(serve: Serve, gate: Path) -> None:
    server = serve("called.handler", "--admin", "127.0.0.1:0")
    from tests.support.calls import Calls

    calls = Calls(server)
    calls.start(1, f"until {gate}")
    server.wait_for_line("waiting, ")
    (function,) = Admin(server).get("/status").json()["functions"]
    assert function["inFlight"] == 1
    assert [one["state"] for one in function["workers"]].count("busy") == 1
    gate.touch()
    calls.finish()


def test_a_function_that_does_not_load_is_shown_with_its_reason(
    serve: Serve, code_dir: Path
) -> None:
    (code_dir / "index.py").write_text("import nothing_of_the_kind\n")
    server = serve("index.handler", "--admin", "127.0.0.1:0", code_dir=code_dir)
    admin = Admin(server)
    wait_until(lambda: admin.get("/status").json()["status"] == "broken", 10)
    (function,) = admin.get("/status").json()["functions"]
    assert function["reason"].startswith("ImportModuleError: Unable to import")


@pytest.mark.parametrize("path", ["/", "/metrics", "/statuses", "/async-invocations/x"])
def test_what_there_is_not_is_said_in_a_sentence(admin: Admin, path: str) -> None:
    reply = admin.get(path)
    assert reply.status == 404
    assert " " in reply.json()["errorMessage"]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_nothing_can_be_changed(admin: Admin, method: str) -> None:
    reply = admin.get("/status", method=method)
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")


def test_the_functions_port_knows_nothing_of_it(server: Server) -> None:
    assert server.request("GET", "/status").status == 404


def test_the_admin_port_serves_no_function(admin: Admin) -> None:
    assert admin.get("/invoke", method="POST").status == 405
    assert admin.get(FC3).status == 404


def test_tasks_need_the_gateway(serve: Serve) -> None:
    server = serve("called.handler", "--admin", "127.0.0.1:0")
    reply = Admin(server).get("/async-invocations")
    assert (reply.status, "--gateway" in reply.json()["errorMessage"]) == (404, True)


def test_a_list_can_be_shortened_and_sorted_out(serve: Serve) -> None:
    server = serve("called.handler", "--gateway", "--admin", "127.0.0.1:0")
    admin = Admin(server)
    for event in ("one", "raise", "two"):
        call(server, event, x_fc_invocation_type="Async", x_fc_async_task_id=event)
    wait_until(lambda: not admin.get("/async-invocations").json()["unfinished"], 10)

    def ids(query: str) -> list[str]:
        listed = admin.get(f"/async-invocations?{query}").json()["asyncInvocations"]
        return [one["id"] for one in listed]

    assert ids("") == ["two", "raise", "one"]
    assert ids("limit=1") == ["two"]
    assert ids("status=failed") == ["raise"]
    assert ids("limit=nonsense") == ["two", "raise", "one"]


def test_a_token_is_demanded_where_there_is_one(serve: Serve) -> None:
    env = {"ISORUNTIME_ADMIN_TOKEN": TOKEN}
    server = serve("called.handler", "--admin", "0.0.0.0:0", env=env)
    admin = Admin(server)
    refused = admin.get("/status")
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    for wrong in ("Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer é"):
        wrong_headers = {"Authorization": wrong.encode("latin-1").decode("latin-1")}
        assert admin.get("/status", wrong_headers).status == 401
    right = admin.get("/status", {"Authorization": f"Bearer {TOKEN}"})
    assert right.status == 200
    assert TOKEN.encode() not in right.body
    assert TOKEN.encode() not in server.invoke(b"environment").body
