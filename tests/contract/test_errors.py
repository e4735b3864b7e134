"""How failures of user code are told: fc-contract.md 4.5, row by row.

As in the sister module the bytes are written by hand. The vendor's habit of splitting
a stack at commas is not copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.calls import Calls
from tests.support.server import HANDLERS, Serve, Server
from tests.waiting import wait_until

FAILED = ", Error: Unhandled function error"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("raises.handler") as started:
        yield started


def test_an_exception_becomes_these_bytes(server: Server) -> None:
    reply = server.invoke("value", request_id="bytes")
    lines = (HANDLERS / "raises.py").read_text().splitlines()
    number = max(
        at
        for at, line in enumerate(lines, 1)
        if line.strip() == 'raise ValueError("bad \\u00e9")'
    )
    expected = (
        "{\n"
        '    "errorMessage": "bad \\u00e9",\n'
        '    "errorType": "ValueError",\n'
        '    "stackTrace": [\n'
        "        [\n"
        f'            "File \\"{HANDLERS}/raises.py\\"",\n'
        f'            "line {number}",\n'
        '            "in handler",\n'
        '            "raise ValueError(\\"bad \\\\u00e9\\")"\n'
        "        ]\n"
        "    ]\n"
        "}"
    )
    assert reply.body.decode() == expected
    assert reply.status == 404
    assert reply.headers["x-fc-status"] == "404"
    assert reply.headers["Content-Type"] == "application/json"
    assert server.log_of("bytes")[-1] == f"FC Invoke End RequestId: bytes{FAILED}"


def test_the_error_stands_in_the_log_as_one_record_of_its_request(
    server: Server,
) -> None:
    reply = server.invoke("key", request_id="record")
    log = server.log_of("record")
    (first,) = (at for at, line in enumerate(log) if " record [ERROR] " in line)
    assert "\n".join(log[first:-1]).endswith(reply.body.decode())


def test_a_key_error_is_quoted_as_python_does(server: Server) -> None:
    failure = server.invoke("key").json()
    assert failure["errorMessage"] == "'k'"
    assert failure["errorType"] == "KeyError"
    assert len(failure["stackTrace"]) == 1
    assert failure["stackTrace"][0][2:] == ["in handler", 'raise KeyError("k")']


def test_an_exception_without_text_has_an_empty_message(server: Server) -> None:
    failure = server.invoke("empty").json()
    assert (failure["errorType"], failure["errorMessage"]) == ("ValueError", "")


def test_a_very_long_message_is_told(server: Server) -> None:
    reply = server.invoke("long")
    assert (reply.status, reply.error_type) == (404, "ValueError")
    assert reply.json()["errorMessage"].startswith("x" * 1000)


def test_an_exception_that_cannot_be_text_is_told_by_its_type(server: Server) -> None:
    reply = server.invoke("odd")
    assert (reply.status, reply.error_type) == (404, "Odd")
    assert isinstance(reply.json()["errorMessage"], str)


def test_a_lone_surrogate_in_a_message_is_escaped(server: Server) -> None:
    reply = server.invoke("surrogate")
    assert (reply.status, reply.error_type) == (404, "ValueError")
    assert b"\\ud800" in reply.body


def test_an_interrupt_is_this_caller_s_failure_alone(server: Server) -> None:
    reply = server.invoke("interrupt")
    assert reply.status == 404
    assert reply.error_type in ("KeyboardInterrupt", "ProcessExitedError")
    assert server.invoke("fine").body == b"null"


def test_a_raising_handler_keeps_its_worker(serve: Serve) -> None:
    server = serve("ways_to_die.handler", "--max-workers", "1")
    pid = server.invoke("pid").body
    assert server.invoke("raise ValueError").status == 404
    assert server.invoke("pid").body == pid


def test_only_the_last_of_chained_exceptions_is_told(serve: Serve) -> None:
    failure = serve("raises.chained").invoke().json()
    assert (failure["errorType"], failure["errorMessage"]) == ("LookupError", "a, b")
    assert [frame[2] for frame in failure["stackTrace"]] == ["in chained"]


def test_frames_stand_outermost_first(serve: Serve, code_dir: Path) -> None:
    (code_dir / "index.py").write_text(
        "def inner():\n    raise ValueError('deep')\n\n"
        "def handler(event, context):\n    inner()\n"
    )
    failure = serve("index.handler", code_dir=code_dir).invoke().json()
    assert failure["stackTrace"] == [
        [f'File "{code_dir}/index.py"', "line 5", "in handler", "inner()"],
        [
            f'File "{code_dir}/index.py"',
            "line 2",
            "in inner",
            "raise ValueError('deep')",
        ],
    ]


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ("args0", "args0() takes 0 positional arguments but 2 were given"),
        ("args1", "args1() takes 1 positional argument but 2 were given"),
        ("not_callable", "'int' object is not callable"),
    ],
)
def test_a_call_that_cannot_be_made_has_no_stack(
    serve: Serve, handler: str, message: str
) -> None:
    reply = serve(f"raises.{handler}").invoke()
    assert reply.body.decode() == (
        f'{{\n    "errorMessage": "{message}",\n    "errorType": "TypeError"\n}}'
    )


LOAD_ERRORS: list[Any] = [
    pytest.param(
        "",
        "index",
        "InvalidHandleName",
        "Invalid handler 'index'",
        [
            "ValueError: not enough values to unpack (expected 2, got 1)",
            "Found in the code directory: index.py",
        ],
        id="a name without a dot",
    ),
    pytest.param(
        "",
        "index.nope",
        "HandlerNotFound",
        "Handler 'nope' is missing on module 'index'",
        ["AttributeError: module 'index' has no attribute 'nope'"],
        id="a missing function",
    ),
    pytest.param(
        "",
        "nomod.handler",
        "ImportModuleError",
        "Unable to import module 'nomod'",
        [
            "ModuleNotFoundError: No module named 'nomod'",
            "Found in the code directory: index.py",
        ],
        id="a missing module",
    ),
    pytest.param(
        "import not_installed\n",
        "index.handler",
        "ImportModuleError",
        "Unable to import module 'index'",
        ["ModuleNotFoundError: No module named 'not_installed'"],
        id="a missing dependency",
    ),
    pytest.param(
        "raise Exception('at import')\n",
        "index.handler",
        "UserCodeError",
        "Module initialization error: 'at import'",
        ["Exception: at import"],
        id="a module that raises",
    ),
]


@pytest.mark.parametrize(("source", "handler", "kind", "message", "stack"), LOAD_ERRORS)
def test_a_handler_that_does_not_load_says_why(
    serve: Serve,
    code_dir: Path,
    source: str,
    handler: str,
    kind: str,
    message: str,
    stack: list[str],
) -> None:
    (code_dir / "index.py").write_text(source)
    server = serve(handler, code_dir=code_dir)
    reply = server.invoke(request_id="load")
    assert reply.json() == {
        "errorMessage": message,
        "errorType": kind,
        "stackTrace": stack,
    }
    assert reply.status == 404
    assert reply.headers["x-fc-status"] == "404"
    assert server.log_of("load")[-1] == f"FC Invoke End RequestId: load{FAILED}"


def test_a_syntax_error_is_shown_where_it_is(serve: Serve, code_dir: Path) -> None:
    (code_dir / "index.py").write_text("fine = 1\ndef broken(:\n")
    failure = serve("index.handler", code_dir=code_dir).invoke().json()
    assert failure["errorType"] == "UserCodeSyntaxError"
    assert failure["errorMessage"] == "Syntax error in module 'index'"
    shown = "\n".join(failure["stackTrace"])
    assert f'File "{code_dir}/index.py"' in shown
    assert "line 2" in shown
    assert "def broken(:" in shown
    assert "SyntaxError: invalid syntax" in shown


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("import sys; sys.exit(3)\n", {"ProcessExitedError", "UserCodeError"}),
        ("import os; os._exit(0)\n", {"ProcessExitedError"}),
        ("import os; os.kill(os.getpid(), 11)\n", {"ProcessExitedError"}),
    ],
    ids=["exits", "exits at once", "segfaults"],
)
@pytest.mark.parametrize("preload", ["auto", "never"])
def test_an_import_that_ends_the_process_is_answered(
    serve: Serve, code_dir: Path, source: str, kind: set[str], preload: str
) -> None:
    (code_dir / "index.py").write_text(source)
    server = serve("index.handler", "--preload", preload, code_dir=code_dir)
    for _ in range(2):
        reply = server.invoke()
        assert reply.status == 404
        assert reply.error_type in kind
    assert server.request("GET", "/live").status == 200


def test_a_hanging_import_is_answered_at_its_limit(
    serve: Serve, code_dir: Path
) -> None:
    (code_dir / "index.py").write_text("import time; time.sleep(600)\n")
    server = serve("index.handler", "--init-timeout", "1", code_dir=code_dir)
    reply = server.invoke()
    assert (reply.status, reply.error_type) == (404, "FunctionTimeoutError")
    assert server.request("GET", "/live").status == 200


def test_calls_that_meet_a_hanging_import_are_all_answered(
    serve: Serve, code_dir: Path
) -> None:
    (code_dir / "index.py").write_text("import time; time.sleep(600)\n")
    server = serve("index.handler", "--init-timeout", "1", code_dir=code_dir)
    calls = Calls(server)
    calls.start(5, "")
    assert {reply.error_type for reply in calls.finish()} == {"FunctionTimeoutError"}


@pytest.mark.parametrize("handler", ["sys.handler", "json.handler", "posix.handler"])
def test_a_module_of_python_s_own_has_no_handler(serve: Serve, handler: str) -> None:
    reply = serve(handler).invoke()
    module = handler.partition(".")[0]
    assert (reply.status, reply.error_type) == (404, "HandlerNotFound")
    assert reply.json()["errorMessage"] == (
        f"Handler 'handler' is missing on module '{module}'"
    )


def test_a_fixed_file_is_served_without_a_restart(serve: Serve, code_dir: Path) -> None:
    index = code_dir / "index.py"
    index.write_text("raise Exception('not yet')\n")
    server = serve("index.handler", code_dir=code_dir)
    assert server.invoke().error_type == "UserCodeError"
    index.write_text("def handler(event, context):\n    return 'fixed'\n")
    wait_until(lambda: server.invoke().body == b"fixed", 20, "the fixed handler")


def test_it_listens_before_a_slow_import_is_done(serve: Serve, code_dir: Path) -> None:
    gate = code_dir / "gate"
    (code_dir / "index.py").write_text(
        "import os, time\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
        "def handler(event, context): return 'ready'\n"
    )
    server = serve("index.handler", code_dir=code_dir)
    assert server.request("GET", "/live").status == 200
    gate.touch()
    assert server.invoke().body == b"ready"


@pytest.mark.parametrize("handler", ["pkg.mod.handler", "pkg/mod.handler"])
def test_a_handler_in_a_package_is_found(serve: Serve, handler: str) -> None:
    assert serve(handler).invoke().body in (b"from pkg.mod", b"from pkg/mod")


def test_a_handler_in_a_folder_is_found(serve: Serve) -> None:
    assert serve("a/b/main.handler").invoke().body in (
        b"from a/b/main",
        b"from a.b.main",
    )


@pytest.mark.parametrize(
    ("event", "status"),
    [("raise ValueError", 500), ("exit 7", 502), ("signal SIGKILL", 502)],
)
def test_http_errors_have_http_statuses(serve: Serve, event: str, status: int) -> None:
    server = serve("ways_to_die.handler", "--errors", "http")
    reply = server.invoke(event)
    assert reply.status == status
    assert reply.headers["x-fc-status"] == "404"
    assert server.invoke("hello").status == 200
