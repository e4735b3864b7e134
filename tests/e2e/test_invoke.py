"""isoruntime invoke: one event through a real worker, as a person or a script has it."""

from __future__ import annotations

import http.server
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.support.command import Command, Done, environment, on_a_terminal, run
from tests.support.server import EXAMPLES, MARK, Serve, temp_folder
from tests.waiting import wait_until

SUMMARY = re.compile(
    r"RequestId: \S+  Duration: [\d.]+ ms, Billed Duration: (\d+) ms, "
    r"Memory Size: (\d+) MB, Max Memory Used: ([\d.]+) MB"
)

HANDLER = """\
import json, os, subprocess, sys, time

def initializer(context):
    print("initialized")

def broken(context):
    raise RuntimeError("no database")

def handler(event, context):
    print("called with", event)
    return event

def eat(event, context):
    return len(bytearray(int(event) << 20))

def child(event, context):
    code = "import time; x = bytearray(60 << 20); time.sleep(0.2)"
    subprocess.run([sys.executable, "-c", code], check=True)

def describe(event, context):
    return context.to_json()

def variables(event, context):
    return dict(os.environ)

def raises(event, context):
    class ProcessExitedError(Exception):
        pass
    raise ProcessExitedError("not really")

def exits(event, context):
    sys.exit(7)

def sleeps(event, context):
    print("asleep")
    time.sleep(60)

def every_other(event, context):
    flag = "/tmp/" + event.decode()
    if os.path.exists(flag):
        os.unlink(flag)
        raise ValueError("odd")
    open(flag, "w").close()
    return "even"

def binary(event, context):
    return bytes(range(256))
"""


@pytest.fixture
def folder(code_dir: Path) -> Path:
    """Return a folder with the handlers above in index.py."""
    (code_dir / "index.py").write_text(HANDLER)
    return code_dir


def summary(done: Done) -> tuple[int, int, float]:
    """Return billed milliseconds, the limit, and the peak of the last line."""
    found = SUMMARY.fullmatch(done.lines[-1])
    assert found, done.stderr
    return int(found[1]), int(found[2]), float(found[3])


def test_in_a_folder_with_an_index_it_just_works(folder: Path) -> None:
    done = run("invoke", "-e", "hello", cwd=folder)
    assert (done.code, done.stdout) == (0, b"hello")
    start, printed, end, _ = done.lines
    assert start.startswith("FC Invoke Start RequestId: ")
    assert printed == "called with b'hello'"
    assert end == start.replace("Start", "End")
    billed_ms, memory_mb, peak_mb = summary(done)
    assert billed_ms >= 1
    assert memory_mb == 512
    assert 5 < peak_mb < 60


def test_without_an_event_nothing_is_read_from_stdin(folder: Path) -> None:
    # The other end stays open: a read would never return.
    command = Command("invoke", cwd=folder, stdin=subprocess.PIPE)
    command.process.wait(20)
    done = command.end()
    assert (done.code, done.stdout) == (0, b"")


def test_an_event_comes_from_stdin_a_file_or_the_saved_ones(folder: Path) -> None:
    (folder / "events").mkdir()
    (folder / "events" / "order.json").write_bytes(b'{"order": "\xff"}')
    for given in ("@events/order.json", "@order", f"@{folder}/events/order.json"):
        done = run("invoke", "-e", given, "--code-dir", str(folder))
        assert done.stdout == b'{"order": "\xff"}'
    assert run("invoke", "-e", "-", cwd=folder, given=b"\x00\xff").stdout == b"\x00\xff"
    wrong = run("invoke", "-e", "@ordr", cwd=folder)
    assert wrong.code == 2
    assert "did you mean order? saved are events/order.json" in wrong.stderr


def test_a_result_is_passed_on_byte_for_byte(folder: Path) -> None:
    done = run("invoke", "index.binary", cwd=folder)
    assert done.stdout == bytes(range(256))
    assert run("invoke", "index.binary", "--raw", cwd=folder).stdout == done.stdout


@pytest.mark.parametrize(
    ("words", "code", "error_type"),
    [
        (("index.handler",), 0, None),
        (("index.raises",), 1, "ProcessExitedError"),
        (("index.nope",), 1, "HandlerNotFound"),
        (("index.handler", "--initializer", "index.broken"), 1, "RuntimeError"),
        (("index.handler", "--max-event", "1", "-e", "@large"), 1, "EventTooLarge"),
        (("index.exits",), 3, "ProcessExitedError"),
        (("index.sleeps", "--timeout", "0.3"), 4, "FunctionTimeoutError"),
        (("index.eat", "-e", "200", "--memory", "64"), 5, "FunctionOOMError"),
    ],
)
def test_the_exit_code_says_how_it_ended(
    folder: Path, words: tuple[str, ...], code: int, error_type: str | None
) -> None:
    (folder / "large").write_bytes(b"x" * (1 << 20) + b"x")
    done = run("invoke", *words, "--json", cwd=folder)
    told = done.json()
    assert (done.code, told["exitCode"]) == (code, code)
    assert told["errorType"] == error_type
    assert (told["outcome"] == "returned") == (code == 0)


def test_a_failure_s_answer_is_the_caller_s(folder: Path) -> None:
    done = run("invoke", "index.exits", "--error-details", "full", cwd=folder)
    answer = done.json()
    assert answer["errorType"] == "ProcessExitedError"
    assert answer["details"]["exitCode"] == 7
    assert "logTail" in answer["details"]
    # The log has it too, as that of the platform has.
    assert "[ERROR] {" in done.stderr
    assert "Error: Unhandled function error" in done.stderr


def test_the_peak_memory_is_the_real_one(folder: Path) -> None:
    small = summary(run("invoke", "index.eat", "-e", "1", cwd=folder))[2]
    large = summary(run("invoke", "index.eat", "-e", "100", cwd=folder))[2]
    assert 95 < large - small < 105
    with_child = summary(run("invoke", "index.child", cwd=folder))[2]
    assert with_child > 60
    killed = run("invoke", "index.eat", "-e", "300", "--memory", "100", cwd=folder)
    assert 100 <= summary(killed)[2] < 310


def test_json_tells_all_of_it(folder: Path) -> None:
    done = run("invoke", "-e", "hi", "--json", "--memory", "128", cwd=folder)
    told = done.json()
    assert told["result"] == "hi"
    assert told["resultEncoding"] == "text"
    assert told["memorySizeMB"] == 128
    assert told["billedDurationMs"] >= told["durationMs"] > 0
    assert told["startMs"] > told["durationMs"]
    assert told["log"].splitlines()[1:-1] == ["called with b'hi'"]
    assert told["requestId"] in told["log"]
    binary = run("invoke", "index.binary", "--json", cwd=folder).json()
    assert binary["resultEncoding"] == "base64"


def test_the_initializer_runs_before_and_by_itself(folder: Path) -> None:
    done = run("invoke", "--initializer", "index.initializer", cwd=folder)
    assert done.code == 0
    assert [line.split(" RequestId")[0] for line in done.lines[:-1]] == [
        "FC Initialize Start",
        "initialized",
        "FC Initialize End",
        "FC Invoke Start",
        "called with b''",
        "FC Invoke End",
    ]


def test_headers_and_context_reach_the_handler(folder: Path) -> None:
    done = run(
        *("invoke", "index.describe", "--header", "x-fc-request-id=mine"),
        *("--header", "X-Fc-Region: cn-hangzhou"),
        *("--context", '{"accountId": "42", "function": {"name": "thumbs"}}'),
        *("--timeout", "7", "--memory", "256"),
        cwd=folder,
    )
    context = done.json()
    assert context["requestId"] == "mine"
    assert context["region"] == "cn-hangzhou"
    assert context["accountId"] == "42"
    assert context["function"] == {
        "name": "thumbs",
        "handler": "index.describe",
        "memory": 256,
        "timeout": 7,
    }


def test_an_env_file_s_variables_reach_the_handler(folder: Path) -> None:
    (folder / "local.env").write_text("export API_KEY='s e'\nMODE=a#b # say\n")
    done = run("invoke", "index.variables", "--env-file", "local.env", cwd=folder)
    variables = done.json()
    # A name like a credential's too: it was listed for the handler.
    assert variables["API_KEY"] == "s e"
    assert variables["MODE"] == "a#b"
    # What a flag and a variable of the environment name as well.
    assert MARK in variables
    assert "ISORUNTIME_ENV" not in variables


def test_a_failure_is_told_with_the_variables_that_were_withheld(folder: Path) -> None:
    secret = {"MY_API_KEY": "s"}
    failed = run("invoke", "index.raises", cwd=folder, env=secret)
    assert "as they look like credentials: MY_API_KEY (pass one" in failed.lines[-1]
    assert "MY_API_KEY" not in run("invoke", cwd=folder, env=secret).stderr


def test_variables_are_settings_here_as_well(folder: Path) -> None:
    done = run("invoke", "index.sleeps", cwd=folder, env={"ISORUNTIME_TIMEOUT": "0.2"})
    assert done.code == 4
    assert "timed out after 0.2 seconds" in done.stderr


def test_repeating_tells_latencies_and_failures(folder: Path, tmp_path: Path) -> None:
    flag = f"invoke-{tmp_path.name}-{id(tmp_path)}"
    done = run(
        *("invoke", "index.every_other", "-e", flag, "--repeat", "6", "--json"),
        cwd=folder,
    )
    told = [line for line in done.stdout.splitlines() if line]
    assert len(told) == 6
    assert done.code == 1
    count, durations, memory = done.lines[-3:]
    assert count == "6 invocations, 3 failed (3 ValueError)"
    assert re.fullmatch(
        r"Duration: min [\d.]+ ms  p50 [\d.]+ ms  p90 [\d.]+ ms  p99 [\d.]+ ms  "
        r"max [\d.]+ ms",
        durations,
    )
    assert re.fullmatch(r"Max Memory Used: \d+\.\d\d MB", memory)


@pytest.mark.parametrize("how", [(), ("--fresh",)], ids=["one worker", "fresh"])
def test_a_repeated_crash_costs_only_itself(folder: Path, how: tuple[str, ...]) -> None:
    done = run("invoke", "index.exits", "--repeat", "3", *how, cwd=folder)
    assert done.code == 3
    assert "3 invocations, 3 failed (3 ProcessExitedError)" in done.lines
    assert done.stdout.count(b'"exitCode": 7') == 3


def test_a_handler_that_does_not_load_is_not_tried_again(folder: Path) -> None:
    done = run("invoke", "indx.handler", "--repeat", "5", cwd=folder)
    assert done.code == 1
    assert done.stdout.count(b"ImportModuleError") == 1
    assert (
        b"Found in the code directory: index.py. Did you mean 'index'?" in done.stdout
    )
    assert "trying again" not in done.stderr


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_nothing_left(folder: Path, by: signal.Signals) -> None:
    command = Command("invoke", "index.sleeps", cwd=folder)
    assert command.process.stderr is not None
    seen = b""
    while b"asleep" not in seen:
        seen += os.read(command.process.stderr.fileno(), 4096)
    command.process.send_signal(by)
    done = command.end(within=10)
    assert (done.code, done.stdout) == (128 + by, b"")
    assert f"isoruntime: ended by {by.name}" in done.lines


def test_a_signal_during_a_slow_import_ends_it_too(folder: Path) -> None:
    (folder / "slow.py").write_text("print('importing')\nimport time\ntime.sleep(60)\n")
    command = Command("invoke", "slow.handler", cwd=folder)
    assert command.process.stderr is not None
    seen = b""
    while b"importing" not in seen:
        seen += os.read(command.process.stderr.fileno(), 4096)
    command.process.send_signal(signal.SIGINT)
    assert command.end(within=10).code == 130


def test_a_signal_while_an_event_is_typed_ends_it_too(folder: Path) -> None:
    command = Command("invoke", "-e", "-", cwd=folder, stdin=subprocess.PIPE)
    wait_until(lambda: reads_stdin(command.process.pid), 10, "a read of stdin")
    command.process.send_signal(signal.SIGINT)
    done = command.end(within=10)
    assert (done.code, done.lines) == (130, ["isoruntime: ended by SIGINT"])


def reads_stdin(pid: int) -> bool:
    """Return whether a process waits for its descriptor 0."""
    # The number of the call, which is 0 for `read` on x86-64, and its arguments.
    return Path(f"/proc/{pid}/syscall").read_text().split()[:2] in (
        ["0", "0x0"],
        ["63", "0x0"],
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_nobody_else_s(folder: Path, closed: str) -> None:
    line = f"exec {sys.executable} -m isoruntime invoke -e x {closed}"
    temp = temp_folder()
    try:
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=folder,
            env=environment("closed", temp),
            capture_output=True,
            check=False,
            timeout=20,
        )
    finally:
        temp.rmdir()
    assert done.returncode == 0
    assert done.stdout == (b"" if " >" in f" {closed}" else b"x")


def test_all_problems_come_at_once(folder: Path) -> None:
    (folder / "bad.env").write_text("1=2\nOK=1\nISORUNTIME_PORT=1\n")
    done = run(
        *("invoke", "--evnt", "x", "--repeat", "0", "--raw", "--json", "--async"),
        *("--env-file", "bad.env", "--header", "x-fc-regoin=1", "--timeout", "no"),
        *("--context", '{"function": {"nam": "x"}}', "--debug", "--network", "nne"),
        cwd=folder,
    )
    assert (done.code, done.stdout) == (2, b"")
    for told in (
        "--evnt is no option: did you mean --event? see isoruntime invoke --help",
        "--repeat '0' is too small",
        "--raw and --json exclude each other",
        "--async has no meaning without --target",
        "bad.env:1: is not KEY=VALUE",
        "bad.env:3: ISORUNTIME_PORT is the runtime's own",
        "--header x-fc-regoin does not reach a handler: did you mean x-fc-region?",
        "--timeout 'no' is not a number of seconds",
        "--context has function.nam, which is no field of context: did you mean "
        "function.name?",
        "--debug lacks its value: give --debug PORT",
        "--network 'nne' is not known: did you mean none?",
    ):
        assert any(line.startswith(f"isoruntime: {told}") for line in done.lines), told
    assert len(done.lines) == 11


def test_the_walls_are_those_of_serve(folder: Path) -> None:
    (folder / "walls.py").write_text(
        "def handler(event, context):\n    return open(event).read()\n"
    )
    secret = temp_folder()
    try:
        (secret / "secret").write_text("s")
        words = ("invoke", "walls.handler", "-e", str(secret / "secret"))
        assert run(*words, "--sandbox", "standard", cwd=folder).code == 1
        assert run(*words, "--sandbox", "off", cwd=folder).stdout == b"s"
    finally:
        (secret / "secret").unlink()
        secret.rmdir()


@pytest.mark.parametrize(
    ("seconds", "preload", "told"),
    [("0", "auto", False), ("1.3", "auto", True), ("1.3", "never", True)],
    ids=["fast", "slow", "slow in the worker"],
)
def test_a_terminal_gets_one_answer_and_hears_of_a_slow_import(
    code_dir: Path, seconds: str, preload: str, told: bool
) -> None:
    source = (
        f"import time\ntime.sleep({seconds})\ndef handler(e, c):\n    return 'fine'\n"
    )
    (code_dir / "index.py").write_text(source)
    words = ("invoke", "--preload", preload)
    shown = shown_to_a_person(*words, cwd=code_dir, NO_COLOR="1")
    assert shown.count("fine") == 1
    # It ends its line, so that the summary and the prompt begin on lines of their own.
    assert "fine\r\nRequestId: " in shown
    assert ("still importing index.handler" in shown) == told
    assert "\033" not in shown


def test_a_terminal_shows_a_failure_once(folder: Path) -> None:
    shown = shown_to_a_person("invoke", "index.exits", cwd=folder)
    assert shown.count('"errorType": "ProcessExitedError"') == 1
    assert "\033[31mRequestId: " in shown


def test_a_terminal_shows_problems_in_colour_and_a_pipe_does_not(folder: Path) -> None:
    words = ("invoke", "--bogus")
    assert "\033[31misoruntime:\033[0m --bogus" in shown_to_a_person(*words, cwd=folder)
    assert run(*words, cwd=folder).stderr.startswith("isoruntime: --bogus")


def shown_to_a_person(*words: str, cwd: Path, **variables: str) -> str:
    """Return what the command shows on a terminal."""
    temp = temp_folder()
    temp.chmod(0o1777)
    try:
        return on_a_terminal(
            *(sys.executable, "-m", "isoruntime", *words),
            cwd=cwd,
            env=environment("terminal", temp, variables),
        )
    finally:
        temp.rmdir()


def test_a_running_runtime_is_asked_the_same_way(serve: Serve) -> None:
    server = serve("crash.handler", code_dir=EXAMPLES)
    url = f"127.0.0.1:{server.port}"

    def ask(event: str, *more: str) -> Done:
        return run("invoke", "--target", url, "-e", event, *more)

    fine = ask("nothing", "--header", "x-fc-request-id=mine")
    assert fine.code == 0
    assert fine.stdout.startswith(b"still alive")
    assert fine.lines[-1].startswith("RequestId: mine  Duration: ")
    assert ask("raise").code == 1
    dead = ask("exit")
    assert (dead.code, dead.json()["errorType"]) == (3, "ProcessExitedError")
    assert ask("hang", "--timeout", "1").code == 4
    repeated = ask("nothing", "--repeat", "3", "--json")
    assert "3 invocations, 0 failed" in repeated.lines
    assert len(repeated.stdout.splitlines()) == 3
    refused = ask("x", "--async", "--memory", "3", "--env-file", "/dev/null")
    assert refused.code == 2
    assert "--memory has no meaning with --target" in refused.stderr
    assert "--env-file has no meaning with --target" in refused.stderr
    assert "give a gateway's URL that ends with /invocations" in refused.stderr


def test_a_target_that_is_not_there_is_bad_usage() -> None:
    done = run("invoke", "--target", "http://127.0.0.1:1", "-e", "x")
    assert (done.code, done.stdout) == (2, b"")
    assert "http://127.0.0.1:1/invoke cannot be reached" in done.stderr
    assert run("invoke", "--target", "http://127.0.0.1:9/else").code == 2


class Gateway(http.server.BaseHTTPRequestHandler):
    """Answers as the platform's invocation API does (fc-contract.md 7.2)."""

    asked: ClassVar[list[tuple[str, dict[str, str], bytes]]]
    answer: tuple[int, dict[str, str], bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        type(self).asked.append((self.path, headers, body))
        status, extra, answer = type(self).answer
        self.send_response(status)
        for name, value in {**extra, "content-length": str(len(answer))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""


@contextmanager
def gateway(
    status: int, headers: dict[str, str], body: bytes
) -> Iterator[tuple[str, type[Gateway]]]:
    class One(Gateway):
        asked: ClassVar[list[Any]] = []
        answer = (status, headers, body)

    server = http.server.HTTPServer(("127.0.0.1", 0), One)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        url = (
            f"http://127.0.0.1:{server.server_port}/2023-03-30/functions/f/invocations"
        )
        yield url, One
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_gateway_s_answer_is_understood() -> None:
    headers = {
        "X-Fc-Request-Id": "theirs",
        "X-Fc-Log-Result": "bGluZQo=",
        "X-Fc-Max-Memory-Usage": "33.5",
    }
    with gateway(200, headers, b"done") as (url, seen):
        done = run("invoke", "--target", f"{url}?qualifier=LATEST", "-e", "x")
    assert (done.code, done.stdout) == (0, b"done")
    assert done.lines[0] == "line"
    assert done.lines[1].startswith("RequestId: theirs")
    assert done.lines[1].endswith("Max Memory Used: 33.50 MB")
    ((path, sent, event),) = seen.asked
    assert path == "/2023-03-30/functions/f/invocations?qualifier=LATEST"
    assert sent["x-fc-invocation-type"] == "Sync"
    assert sent["x-fc-log-type"] == "Tail"
    assert event == b"x"


def test_a_gateway_with_a_key_is_sent_a_signature(serve: Serve) -> None:
    server = serve("awaited.handler", "--gateway", "--key", "mine:a secret")
    url = f"127.0.0.1:{server.port}/2023-03-30/functions/f/invocations?qualifier=LATEST"
    ask = ("invoke", "--target", url, "-e", "signed", "--header", "x-fc-request-id=a")
    key = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "mine"}
    secret = "ALIBABA_CLOUD_ACCESS_KEY_SECRET"
    done = run(*ask, env={**key, secret: "a secret"})
    assert (done.code, done.json()) == (0, {"awaited": "signed"})
    wrong = run(*ask, env={**key, secret: "another"})
    assert (wrong.code, wrong.json()["Code"]) == (1, "SignatureNotMatch")
    # Half of a key is none.
    assert run(*ask, env=key).json()["Code"] == "MissingRequiredHeader"


def test_a_gateway_is_asked_to_invoke_later() -> None:
    with gateway(202, {"X-Fc-Request-Id": "later"}, b"") as (url, seen):
        done = run("invoke", "--target", url, "--async", "-e", "x")
    assert (done.code, done.stdout) == (0, b"")
    assert seen.asked[0][1]["x-fc-invocation-type"] == "Async"


@pytest.mark.parametrize(
    ("status", "headers", "body", "code"),
    [
        (
            200,
            {"X-Fc-Error-Type": "UnhandledInvocationError"},
            b'{"errorMessage": "x"}',
            1,
        ),
        (
            200,
            {"X-Fc-Error-Type": "UnhandledInvocationError"},
            b'{"errorMessage": "Process exited unexpectedly before completing request"}',
            3,
        ),
        (
            200,
            {"X-Fc-Error-Type": "UnhandledInvocationError"},
            b'{"errorMessage": "Function timed out after 3 seconds"}',
            4,
        ),
        (404, {}, b'{"errorType": "FunctionOOMError", "errorMessage": "x"}', 5),
        (404, {}, b'{"errorType": "FunctionOOMError", "stackTrace": []}', 1),
        (403, {}, b"<html>", 1),
    ],
)
def test_failures_of_a_gateway_have_the_same_exit_codes(
    status: int, headers: dict[str, str], body: bytes, code: int
) -> None:
    with gateway(status, headers, body) as (url, _):
        done = run("invoke", "--target", url)
    assert (done.code, done.stdout) == (code, body)


def test_the_example_in_the_help_of_event_works() -> None:
    event = run("event", "oss", "--set", "events.0.oss.object.key=a.jpg")
    done = run(
        *("invoke", "hello.handler", "-e", "-"), cwd=EXAMPLES, given=event.stdout
    )
    assert done.stdout == b"Hello, World!"
    assert "a.jpg" in done.stderr


def test_nothing_of_it_is_imported_where_serve_starts(serve: Serve) -> None:
    command = (sys.executable, "-X", "importtime", "-m", "isoruntime", "serve")
    server = serve("index.handler", code_dir=EXAMPLES, command=command)
    server.wait_for_line("runtime inited")
    imported = server.stderr.read().decode()
    assert "isoruntime.runtime" in imported
    for module in ("cli.invoke", "cli.event", "completion", "argcomplete", "debugpy"):
        assert module not in imported
