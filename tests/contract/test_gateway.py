"""What callers of the platform's invocation API get from a runtime with `--gateway`."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Reply, Serve, Server
from tests.waiting import wait_until

FC3 = "/2023-03-30/functions/fn/invocations"
FC2 = "/2016-08-15/services/svc/functions/fn/invocations"
FC_OPEN = "/2021-04-06/services/svc/functions/fn/invocations"
EVERY_API = [
    pytest.param(FC3, id="FC 3.0"),
    pytest.param(FC2, id="FC 2.0"),
    pytest.param(FC_OPEN, id="FC-Open"),
]
BOTH_KEY_SETS = {"Code", "Message", "RequestId", "ErrorCode", "ErrorMessage"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    options = ("--gateway", "--timeout", "1", "--memory", "128")
    env = {"FC_REGION": "cn-hangzhou", "FC_ACCOUNT_ID": "1234"}
    with Server("called.handler", *options, env=env) as started:
        started.wait_for_line("runtime inited")
        yield started


@pytest.fixture(scope="module")
def site() -> Iterator[Server]:
    with Server(None, "--gateway", "--http", "called.app", "--timeout", "5") as started:
        started.wait_for_line("runtime inited")
        yield started


def call(server: Server, event: str = "", path: str = FC3, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.request("POST", path, event.encode(), named)


def context_of(server: Server, path: str = FC3, **headers: str) -> Any:
    return call(server, "context", path, **headers).json()


def tail_of(reply: Reply) -> list[str]:
    return base64.b64decode(reply.headers["X-Fc-Log-Result"]).decode().splitlines()


def assert_refused(reply: Reply, status: int, code: str) -> None:
    assert (reply.status, reply.json()["Code"]) == (status, code), reply.body
    body = reply.json()
    assert body.keys() == BOTH_KEY_SETS
    assert body["ErrorCode"] == body["Code"]
    assert body["ErrorMessage"] == body["Message"]
    assert body["RequestId"] == reply.request_id
    assert reply.headers["Content-Type"] == "application/json"


# What comes back.


@pytest.mark.parametrize("path", EVERY_API)
def test_an_event_comes_back_as_it_was_returned(server: Server, path: str) -> None:
    reply = call(server, "bytes", path)
    assert (reply.status, reply.body) == (200, bytes(range(256)))
    assert reply.headers["Content-Type"] == "application/octet-stream"
    assert "X-Fc-Error-Type" not in reply.headers


def test_a_chunked_event_is_an_event(server: Server) -> None:
    pieces = iter([b"in ", b"pieces"])
    reply = server.request("POST", FC3, pieces, {"Transfer-Encoding": "chunked"})
    assert reply.body == b"in pieces"


def test_an_answer_tells_what_is_true_of_its_invocation(server: Server) -> None:
    workers = set(server.pids)
    reply = call(server, "eat 40")
    headers = reply.headers
    assert reply.body == str(40 << 20).encode()
    assert 40 < float(headers["X-Fc-Max-Memory-Usage"]) < 128
    assert 0 <= int(headers["X-Fc-Invocation-Duration"]) < 1000
    assert headers["X-Fc-Invocation-Service-Version"] == "LATEST"
    assert int(headers["X-Fc-Instance-Id"].removeprefix("worker-")) in workers
    assert "x-fc-log-result" in headers["access-control-expose-headers"]
    assert "X-Fc-Log-Result" not in headers
    # There is no package here whose checksum it could be.
    assert "X-Fc-Code-Checksum" not in headers


def test_the_duration_is_that_of_the_invocation(serve: Serve, tmp_path: Path) -> None:
    server = serve("called.handler", "--gateway")
    gate = tmp_path / "gate"
    opener = threading.Timer(0.3, gate.touch)
    opener.start()
    reply = call(server, f"until {gate}")
    opener.join()
    assert 150 <= int(reply.headers["X-Fc-Invocation-Duration"]) < 5000


@pytest.mark.parametrize(
    ("event", "error_type", "message"),
    [
        pytest.param("raise oh", "ValueError", "oh", id="an exception"),
        pytest.param("exit", "ProcessExitedError", "Process exited", id="an exit"),
        pytest.param("hang", "FunctionTimeoutError", "timed out after 1", id="a hang"),
    ],
)
@pytest.mark.parametrize("path", EVERY_API)
def test_a_functions_failure_is_200_with_an_error_type(
    server: Server, path: str, event: str, error_type: str, message: str
) -> None:
    reply = call(server, event, path)
    assert reply.status == 200
    assert reply.headers["X-Fc-Error-Type"] == "UnhandledInvocationError"
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.error_type == error_type
    assert message in reply.json()["errorMessage"]
    assert float(reply.headers["X-Fc-Max-Memory-Usage"]) > 1


def test_memory_beyond_the_limit_is_the_functions_failure(server: Server) -> None:
    reply = call(server, "eat 300")
    assert (reply.status, reply.error_type) == (200, "FunctionOOMError")
    assert float(reply.headers["X-Fc-Max-Memory-Usage"]) > 100


def test_an_initializer_that_fails_is_called_so(serve: Serve, code_dir: Path) -> None:
    (code_dir / "index.py").write_text(
        "def handler(event, context): return event\n"
        "def initializer(context): raise ValueError('no database')\n"
    )
    options = ("--gateway", "--initializer", "index.initializer")
    reply = call(serve("index.handler", *options, code_dir=code_dir))
    assert (reply.status, reply.error_type) == (200, "ValueError")
    assert reply.headers["X-Fc-Error-Type"] == "InitializationError"


def test_code_that_does_not_load_is_the_functions_failure(
    serve: Serve, code_dir: Path
) -> None:
    (code_dir / "index.py").write_text("import nothing_of_the_kind\n")
    reply = call(serve("index.handler", "--gateway", code_dir=code_dir))
    assert (reply.status, reply.error_type) == (200, "ImportModuleError")
    assert reply.headers["X-Fc-Error-Type"] == "UnhandledInvocationError"


# The log.


def test_the_tail_is_the_log_of_the_invocation(server: Server) -> None:
    reply = call(server, "print here", x_fc_log_type="Tail")
    rid = reply.request_id
    assert tail_of(reply) == [
        f"FC Invoke Start RequestId: {rid}",
        "printed here",
        f"FC Invoke End RequestId: {rid}",
    ]


def test_the_tail_of_a_failure_says_why(server: Server) -> None:
    reply = call(server, "raise oh", x_fc_log_type="Tail")
    lines = tail_of(reply)
    assert lines[0] == f"FC Invoke Start RequestId: {reply.request_id}"
    assert any('"errorMessage": "oh"' in line for line in lines)
    assert lines[-1].endswith("Error: Unhandled function error")


def test_a_tail_is_the_last_4_kb(server: Server) -> None:
    reply = call(server, "print " + "x" * 9000, x_fc_log_type="Tail")
    tail = base64.b64decode(reply.headers["X-Fc-Log-Result"])
    assert len(tail) == 4096
    assert tail.endswith(f"End RequestId: {reply.request_id}\n".encode())


def test_every_tail_has_its_own_lines_alone(serve: Serve, tmp_path: Path) -> None:
    server = serve("called.handler", "--gateway")
    gate = tmp_path / "gate"
    replies: dict[str, Reply] = {}

    def run(name: str) -> None:
        # With the same request id, too: it is the callers' to choose.
        wanted = {"x-fc-log-type": "Tail", "x-fc-request-id": "same"}
        event = f"lines {name} {gate}".encode()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", FC3, event, wanted)
        response = connection.getresponse()
        replies[name] = Reply(response.status, response.headers, response.read())
        connection.close()

    threads = [threading.Thread(target=run, args=(name,)) for name in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for name in ("ann", "bob"):
        wait_until(Path(f"{gate}.{name}").exists, 10, f"{name}'s first lines")
    gate.touch()
    for thread in threads:
        thread.join(10)
    for name, reply in replies.items():
        wanted = [f"{name} {number}" for number in range(3)]
        assert tail_of(reply)[1:-1] == [*wanted, f"{name} last"]
    assert len({reply.request_id for reply in replies.values()}) == 2


# What the function sees.


def test_a_function_is_told_what_the_platform_tells_it(server: Server) -> None:
    seen = context_of(server, FC2, x_fc_request_id="rid-7")
    assert seen["requestId"] == "rid-7"
    assert (seen["name"], seen["service"]) == ("fn", "svc")
    assert (seen["handler"], seen["memory"], seen["timeout"]) == (
        *("called.handler", 128),
        1,
    )
    assert (seen["region"], seen["accountId"]) == ("cn-hangzhou", "1234")


@pytest.mark.parametrize(
    ("path", "qualifier", "version"),
    [
        pytest.param(FC3, "LATEST", "LATEST", id="none"),
        pytest.param(f"{FC3}?qualifier=LATEST", "LATEST", "LATEST", id="latest"),
        pytest.param(f"{FC3}?qualifier=prod", "prod", "LATEST", id="an alias"),
        pytest.param(f"{FC3}?qualifier=12", "12", "12", id="a version"),
        pytest.param(f"{FC_OPEN}?qualifier=prod", "prod", "LATEST", id="FC-Open"),
        pytest.param(FC2.replace("svc", "svc.3"), "3", "3", id="FC 2.0"),
    ],
)
def test_a_qualifier_reaches_the_function(
    server: Server, path: str, qualifier: str, version: str
) -> None:
    reply = call(server, "context", path)
    seen = reply.json()
    assert (seen["qualifier"], seen["versionId"]) == (qualifier, version)
    assert reply.headers["X-Fc-Invocation-Service-Version"] == version


def test_a_name_is_unquoted_before_it_is_looked_up(server: Server) -> None:
    seen = context_of(server, "/2023-03-30/functions/my%2Dfn%24/invocations")
    assert seen["name"] == "my-fn$"


def test_a_caller_may_bring_credentials_of_his_own(server: Server) -> None:
    brought = context_of(
        server,
        x_fc_access_key_id="id",
        x_fc_access_key_secret="hush",
        x_fc_security_token="sts",
    )
    assert (
        *(brought["accessKeyId"], brought["accessKeySecret"]),
        brought["securityToken"],
    ) == ("id", "hush", "sts")
    # A worker keeps what it has seen; a caller that brings none has none.
    assert not context_of(server)["accessKeySecret"]


def test_a_caller_cannot_pretend_to_be_the_platform(server: Server) -> None:
    seen = context_of(server, x_fc_function_name="other", x_fc_region="mars")
    assert (seen["name"], seen["region"]) == ("fn", "cn-hangzhou")


# What is refused.


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/2023-03-30/functions/fn", 400, "PathNotSupported"),
        ("POST", "/2023-03-30/functions//invocations", 400, "PathNotSupported"),
        ("GET", "/2016-08-15/services", 400, "PathNotSupported"),
        ("POST", "/2021-04-06/proxy/svc/fn/x", 400, "PathNotSupported"),
        ("POST", f"{FC3}?qualifier=a.b", 400, "InvalidArgument"),
        ("GET", FC3, 405, "MethodNotAllowed"),
    ],
)
def test_what_is_no_invocation_is_refused(
    server: Server, method: str, path: str, status: int, code: str
) -> None:
    assert_refused(server.request(method, path), status, code)


def test_a_wrong_method_is_told_the_right_one(server: Server) -> None:
    assert server.request("PUT", FC3).headers["Allow"] == "POST"


def test_a_kind_of_invocation_that_there_is_not_is_refused(server: Server) -> None:
    reply = call(server, x_fc_invocation_type="Later")
    assert_refused(reply, 400, "InvalidArgument")


def test_an_unknown_function_is_told_which_there_are(serve: Serve) -> None:
    server = serve("called.handler", "--gateway", env={"FC_FUNCTION_NAME": "real"})
    reply = call(server, "hi", "/2023-03-30/functions/reel/invocations")
    assert_refused(reply, 404, "FunctionNotFound")
    assert reply.json()["Message"] == (
        "function 'reel' does not exist. Served here: real"
    )
    assert call(server, "hi", "/2023-03-30/functions/real/invocations").body == b"hi"
    # What `s local` calls whatever it has started.
    assert (
        call(server, "hi", "/2023-03-30/functions/function/invocations").body == b"hi"
    )


def test_an_event_over_the_limit_is_refused(serve: Serve) -> None:
    server = serve("called.handler", "--gateway", "--max-event", "1")
    reply = server.request("POST", FC3, bytes((1 << 20) + 1))
    assert_refused(reply, 400, "EntityTooLarge")
    assert reply.json()["Message"] == (
        f"payload size exceeds maximum allowed size ({1 << 20} bytes)"
    )


def test_nobody_free_is_429(serve: Serve, gate: Path) -> None:
    options = ("--gateway", "--max-workers", "1", "--queue", "0")
    server = serve("called.handler", *options)
    holder = threading.Thread(
        target=server.once, args=("POST", FC3, f"until {gate}".encode())
    )
    holder.start()
    server.wait_for_line("waiting, ")
    reply = call(server)
    assert_refused(reply, 429, "ResourceExhausted")
    assert reply.headers["Retry-After"] == "1"
    gate.touch()
    holder.join(10)


def test_without_the_gateway_its_paths_are_unknown(serve: Serve) -> None:
    assert call(serve("called.handler")).status == 404


def test_beside_the_gateway_the_runtime_answers_as_ever(server: Server) -> None:
    assert server.invoke(b"hi").body == b"hi"
    assert server.request("GET", "/health").status == 200
    assert server.request("GET", "/else").status == 404


# HTTP functions.


def test_an_http_function_is_asked_by_the_proxys_path(site: Server) -> None:
    path = "/2016-08-15/proxy/svc.prod/fn"
    reply = site.request(
        "PUT",
        f"{path}/a%20b/c?x=1&y",
        b"body",
        {"Cookie": "c=1", "Authorization": "Bearer mine", "x-fc-region": "mars"},
    )
    seen = reply.json()
    assert (reply.status, reply.headers["X-Own"]) == (201, "1")
    assert (seen["REQUEST_METHOD"], seen["body"]) == ("PUT", "body")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == (path, "/a b/c")
    assert seen["QUERY_STRING"] == "x=1&y"
    assert (seen["HTTP_COOKIE"], seen["HTTP_AUTHORIZATION"]) == ("c=1", "Bearer mine")
    assert seen["HTTP_X_FC_BASE_PATH"] == path + "/"
    assert seen["HTTP_X_FC_CONTROL_PATH"] == "/http-invoke"
    assert seen["HTTP_X_FC_QUALIFIER"] == "prod"
    assert seen["HTTP_X_FC_REQUEST_ID"] == reply.request_id
    assert "HTTP_X_FC_REGION" not in seen


def test_a_failing_http_function_is_502(site: Server) -> None:
    reply = site.request("GET", "/2016-08-15/proxy/svc/fn/raise")
    assert (reply.status, reply.error_type) == (502, "ValueError")
    assert reply.headers["X-Fc-Error-Type"] == "UnhandledInvocationError"


def test_an_answer_in_pieces_passes_through(site: Server) -> None:
    reply = site.request("GET", "/2016-08-15/proxy/svc/fn/pieces")
    assert (reply.status, reply.body) == (200, b"one two")
    assert reply.request_id
    tailed = {"x-fc-log-type": "Tail"}
    reply = site.request("GET", "/2016-08-15/proxy/svc/fn/pieces", headers=tailed)
    assert reply.body == b"one two"
    assert tail_of(reply)[-1] == f"FC Invoke End RequestId: {reply.request_id}"


def test_a_request_of_s_local_is_passed_on_as_it_asks(site: Server) -> None:
    reply = site.request(
        "GET",
        "/2023-03-30/functions/function/invocations",
        headers={
            "X-Fc-Event-Type": "HTTP",
            "X-Fc-HTTP-Path": "/page?z=2",
            "X-Fc-Log-Type": "Tail",
        },
    )
    seen = reply.json()
    assert (seen["PATH_INFO"], seen["QUERY_STRING"]) == ("/page", "z=2")
    assert "page asked for" in tail_of(reply)


def test_an_event_function_takes_no_http_requests(server: Server) -> None:
    reply = server.request("GET", "/2016-08-15/proxy/svc/fn/")
    assert_refused(reply, 400, "InvalidArgument")


def test_a_server_gets_its_events_by_http(serve: Serve, code_dir: Path) -> None:
    (code_dir / "server.py").write_text(
        "import http.server, json, os\n"
        "class Page(http.server.BaseHTTPRequestHandler):\n"
        "    def do_POST(self):\n"
        "        body = self.rfile.read(int(self.headers['Content-Length']))\n"
        "        seen = {'path': self.path, 'body': body.decode(),\n"
        "                'headers': {k.lower(): v for k, v in self.headers.items()}}\n"
        "        answer = json.dumps(seen).encode()\n"
        "        self.send_response(400 if body == b'bad' else 200)\n"
        "        self.send_header('Content-Length', str(len(answer)))\n"
        "        self.end_headers()\n"
        "        self.wfile.write(answer)\n"
        "port = int(os.environ['PORT'])\n"
        "http.server.HTTPServer(('127.0.0.1', port), Page).serve_forever()\n"
    )
    words = ("--gateway", "--upstream", "--", "/usr/bin/python3", "server.py")
    server = serve(None, *words, code_dir=code_dir)
    good = call(server, "hi")
    assert good.json()["path"] == "/invoke"
    assert good.json()["body"] == "hi"
    seen = good.json()["headers"]
    assert (seen["x-fc-function-name"], seen["x-fc-control-path"]) == ("fn", "/invoke")
    assert seen["x-fc-request-id"] == good.request_id
    bad = call(server, "bad")
    assert (bad.status, bad.headers["X-Fc-Error-Type"]) == (
        200,
        "UnhandledInvocationError",
    )
    assert json.loads(bad.body)["body"] == "bad"
