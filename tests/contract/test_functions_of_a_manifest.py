"""Several functions from one s.yaml, each with its own pool, behind one gateway."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_gateway import assert_refused, call
from tests.support.admin import Admin
from tests.support.server import Serve, Server, temp_folder
from tests.waiting import wait_until

MANIFEST = """\
edition: 3.0.0
name: shop
vars:
  region: cn-shanghai
resources:
  orders:
    component: fc3
    props:
      region: ${vars.region}
      functionName: take-order
      runtime: custom.debian12
      code: ./orders
      handler: index.handler
      timeout: 7
      memorySize: 256
      instanceConcurrency: 2
      instanceLifecycleConfig:
        initializer:
          handler: index.prepare
          timeout: 9
      environmentVariables:
        SHOP: open
        SHOP_SECRET: sesame
        ISORUNTIME_MAX_INVOCATIONS: 1
        ISORUNTIME_PORT: 9
        ALIBABA_CLOUD_ACCESS_KEY_SECRET: hush
      asyncInvokeConfig:
        maxAsyncRetryAttempts: 1
  bills:
    component: fc3
    props:
      region: ${vars.region}
      functionName: bill
      runtime: custom.debian11
      code: ./bills
      handler: whatever the console had
  plain:
    component: fc3@0.1.0
    props:
      runtime: python3.12
      code: ./plain
      handler: main.handler
  other:
    component: fc3
    props:
      functionName: other
      runtime: nodejs20
      code: ./other
  bucket:
    component: oss
    props: {}
"""
PAGE = """\
  page:
    component: fc3
    props:
      functionName: page
      runtime: custom.debian12
      code: ./page
      customRuntimeConfig:
        command: ["/usr/bin/python3"]
        args: ["/code/server.py"]
        port: 8000
      triggers:
        - triggerName: web
          triggerType: http
          triggerConfig: {authType: anonymous, methods: [GET]}
"""
ORDERS = """\
import json, os
prepared = False
def prepare(context):
    global prepared
    prepared = True
def handler(event, context):
    if event == b"raise":
        raise ValueError("no")
    return json.dumps({"prepared": prepared, "pid": os.getpid(), "cwd": os.getcwd(),
        "name": context.function.name, "memory": context.function.memory,
        "timeout": context.function.timeout, "region": context.region,
        "environment": dict(os.environ)})
"""
SERVER = """\
import http.server, os
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = f"{self.path} of {self.headers['x-fc-function-name']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()
"""


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    folder = write(
        temp_folder(),
        {
            "s.yaml": MANIFEST,
            "orders/index.py": ORDERS,
            "bills/bootstrap": "#!/bin/sh\nexec python3 -m isoruntime serve "
            '--timeout 5 "$@" --command -- sed s/^/billed:/\n',
            "plain/main.py": "def handler(event, context): return b'plain ' + event\n",
        },
    )
    folder.chmod(0o755)
    options = ("--gateway", "--admin", "127.0.0.1:0")
    with Server(None, *options, code_dir=folder) as started:
        started.wait_for_line("runtime inited", within=20)
        yield started
    shutil.rmtree(folder)


def path_of(name: str) -> str:
    return f"/2023-03-30/functions/{name}/invocations"


def order(server: Server) -> Any:
    return call(server, "x", path_of("take-order")).json()


def test_every_function_is_reached_by_its_name(server: Server) -> None:
    assert order(server)["name"] == "take-order"
    assert call(server, "me", path_of("bill")).body.strip() == b"billed:me"
    # Where there is no functionName it is called as its resource.
    assert call(server, "me", path_of("plain")).body == b"plain me"


def test_what_the_manifest_says_of_a_function_holds(server: Server) -> None:
    seen = order(server)
    assert (seen["memory"], seen["timeout"], seen["region"]) == (256, 7, "cn-shanghai")
    assert seen["prepared"] is True
    assert seen["cwd"].endswith("/orders")
    # ISORUNTIME_MAX_INVOCATIONS is for the runtime: each has a process of its own.
    assert order(server)["pid"] != seen["pid"]


def test_a_function_has_its_own_variables_and_no_credentials(server: Server) -> None:
    environment = order(server)["environment"]
    assert (environment["SHOP"], environment["SHOP_SECRET"]) == ("open", "sesame")
    assert environment["FC_FUNCTION_NAME"] == "take-order"
    assert not [name for name in environment if name.startswith("ISORUNTIME")]
    assert "ALIBABA_CLOUD_ACCESS_KEY_SECRET" not in environment


def test_the_status_shows_every_function_with_its_own_limits(server: Server) -> None:
    functions = {
        one["name"]: one for one in Admin(server).get("/status").json()["functions"]
    }
    assert sorted(functions) == ["bill", "plain", "take-order"]
    orders = functions["take-order"]
    assert (orders["maxWorkers"], orders["memoryLimitMB"]) == (2, 256)
    assert functions["bill"]["handler"] == {"command": ["sed", "s/^/billed:/"]}
    assert functions["bill"]["timeoutSeconds"] == 5
    assert all(one["workers"] for one in functions.values())
    assert len(server.zygotes) == 3


def test_how_often_a_task_is_tried_is_the_functions_to_say(server: Server) -> None:
    path = path_of("take-order")
    rid = call(server, "raise", path, x_fc_invocation_type="Async").request_id
    admin = Admin(server)

    def task() -> Any:
        return admin.get(f"/async-invocations/{rid}").json()

    wait_until(lambda: task()["status"] == "Failed", 10, "its end")
    assert task()["retryCount"] == 1


def test_an_unknown_function_is_told_all_there_are(server: Server) -> None:
    reply = call(server, "x", path_of("function"))
    assert_refused(reply, 404, "FunctionNotFound")
    assert reply.json()["Message"].endswith("Served here: bill, plain, take-order")


def test_without_a_name_nobody_is_asked(server: Server) -> None:
    reply = server.invoke(b"x")
    assert reply.status == 404
    assert "take-order" in reply.json()["errorMessage"]
    assert server.request("GET", "/health").status == 200


def test_what_is_not_served_is_said_at_the_start(server: Server) -> None:
    said = server.stderr.read().decode()
    assert "other in " in said
    assert "is not served: its runtime is nodejs20" in said
    assert "bucket in " in said


def test_a_crash_of_one_function_is_nothing_to_the_others(server: Server) -> None:
    pids = {zygote.pid for zygote in server.zygotes}
    server.zygote.kill()
    for name in ("bill", "plain", "take-order"):
        assert call(server, "x", path_of(name)).status == 200
    wait_until(lambda: len({one.pid for one in server.zygotes} - pids) == 1, 10)


def test_a_start_command_that_is_not_ours_is_a_server_behind_us(
    serve: Serve, tmp_path: Path
) -> None:
    folder = one_function(tmp_path)
    with (folder / "s.yaml").open("a") as manifest:
        manifest.write(PAGE)
    write(folder, {"page/server.py": SERVER})
    server = serve(None, "--gateway", "--admin", "127.0.0.1:0", code_dir=folder)
    proxied = server.request("GET", "/2016-08-15/proxy/svc/page/a?b=1")
    assert proxied.body == b"/2016-08-15/proxy/svc/page/a?b=1 of page"
    page = Admin(server).get("/status").json()["functions"][1]
    assert page["handler"]["upstream"] == [
        "/usr/bin/python3",
        str(folder / "page" / "server.py"),
    ]


# What the operator says, and what is wrong.


def one_function(
    folder: Path, props: str = "", runtime: str = "custom.debian12"
) -> Path:
    text = (
        "edition: 3.0.0\nresources:\n  one:\n    component: fc3\n    props:\n"
        f"      functionName: one\n      runtime: {runtime}\n      code: ./code\n"
        f"      handler: index.handler\n      timeout: 7\n{props}"
    )
    write(folder, {"s.yaml": text, "code/index.py": ORDERS})
    (folder / "code" / "other.py").write_text("def handler(e, c): return b'other'\n")
    return folder


def test_flags_win_over_the_manifest(serve: Serve, tmp_path: Path) -> None:
    folder = one_function(tmp_path)
    server = serve(None, "--gateway", "--timeout", "3", code_dir=folder)
    assert call(server, "x", path_of("one")).json()["timeout"] == 3
    # One function is also asked without its name.
    assert server.invoke(b"x").status == 200


def test_a_handler_named_by_flag_is_the_only_functions(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve("other.handler", "--gateway", code_dir=one_function(tmp_path))
    assert call(server, "x", path_of("one")).body == b"other"


def test_a_manifest_in_json_needs_nothing_installed(
    serve: Serve, tmp_path: Path
) -> None:
    props = {
        "functionName": "one",
        "runtime": "python3.12",
        "code": "./code",
        "handler": "index.handler",
    }
    manifest = {"resources": {"one": {"component": "fc3", "props": props}}}
    files = {"s.json": json.dumps(manifest), "code/index.py": ORDERS}
    server = serve(None, "--gateway", code_dir=write(tmp_path, files))
    assert call(server, "x", path_of("one")).json()["name"] == "one"


def test_without_the_gateway_a_manifest_is_not_looked_at(
    serve: Serve, tmp_path: Path
) -> None:
    files = {"s.yaml": "resources: [", "index.py": "def handler(e, c): return e\n"}
    server = serve("index.handler", code_dir=write(tmp_path, files))
    assert server.invoke(b"x").body == b"x"
