"""Command handlers: a program for each event (interface.md sections 3 and 4)."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.calls import Calls
from tests.support.server import Reply, Serve, Server, lives
from tests.waiting import wait_until

EVERY_BYTE = bytes(range(256))


def command(*words: str, options: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the options that run a command."""
    return (*options, "--command", "--", *words)


def shell(script: str, *options: str) -> tuple[str, ...]:
    """Return the options that run a script of a test's own, with the event as stdin."""
    return command("/bin/sh", "-c", script, options=options)


@pytest.fixture(scope="module")
def cat() -> Iterator[Server]:
    with Server(None, *command("cat")) as server:
        yield server


@pytest.fixture(scope="module")
def sh() -> Iterator[Server]:
    """Run what the event says, as no function should."""
    with Server(None, *command("sh", options=("--max-workers", "4"))) as server:
        yield server


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"hello", id="a word"),
        pytest.param(EVERY_BYTE * 16, id="every byte there is"),
        pytest.param("❄ ☃ ❄".encode(), id="snow"),
        pytest.param(os.urandom(64 * 1024), id="a pipe full"),
        pytest.param(os.urandom(64 * 1024 + 1), id="more than a pipe holds"),
        pytest.param(os.urandom(5 << 20), id="five megabytes"),
    ],
)
def test_the_event_is_stdin_and_stdout_is_the_answer(cat: Server, event: bytes) -> None:
    reply = cat.invoke(event)
    assert (reply.status, reply.headers["x-fc-status"]) == (200, "200")
    assert reply.headers["Content-Type"] == "application/octet-stream"
    assert reply.body == event


def test_an_event_that_is_not_read_keeps_nobody(sh: Server, serve: Serve) -> None:
    server = serve(None, *command("true"))
    assert server.invoke(os.urandom(5 << 20)).body == b""
    assert server.invoke(b"next").status == 200


def test_input_that_is_closed_early_is_no_failure(serve: Serve) -> None:
    server = serve(None, *shell("exec <&-; sleep 0.2; echo done"))
    reply = server.invoke(os.urandom(5 << 20))
    assert (reply.status, reply.body) == (200, b"done\n")


def test_stderr_is_the_log_of_its_invocation(sh: Server) -> None:
    reply = sh.invoke("echo words >&2; echo answer", request_id="logged-1")
    assert reply.body == b"answer\n"
    assert sh.log_of("logged-1") == [
        "FC Invoke Start RequestId: logged-1",
        "words",
        "FC Invoke End RequestId: logged-1",
    ]


@pytest.mark.parametrize("code", [1, 2, 126, 127, 137, 255])
def test_another_exit_code_than_0_is_the_callers_error(sh: Server, code: int) -> None:
    reply = sh.invoke(
        f"echo lost; echo first >&2; echo 'the reason' >&2; exit {code}",
        request_id=f"exit-{code}",
    )
    assert (reply.status, reply.headers["x-fc-status"]) == (404, "404")
    failure = reply.json()
    assert failure["errorType"] == "CommandFailed"
    assert (
        failure["errorMessage"]
        == f"The command exited with code {code}: first\nthe reason"
    )
    details = failure["details"]
    assert (details["cause"], details["exitCode"]) == ("exit", code)
    assert details["maxMemoryMB"] > 0.1
    log = sh.log_of(f"exit-{code}")
    assert log[1:3] == ["first", "the reason"]
    assert log[-1].endswith("Error: Unhandled function error")
    assert sh.invoke("echo next").body == b"next\n"


def test_a_failing_command_keeps_its_worker(serve: Serve) -> None:
    server = serve(None, *shell("exit 3", "--max-workers", "1"))
    server.invoke()
    (before,) = server.pids
    server.invoke()
    assert server.pids == [before]


def test_a_failure_without_a_word_says_so(sh: Server) -> None:
    message = sh.invoke("exit 4").json()["errorMessage"]
    assert message == "The command exited with code 4 and wrote nothing to stderr"


def test_of_many_last_words_the_last_are_told(sh: Server) -> None:
    message = sh.invoke("seq 1 5000 >&2; exit 1").json()["errorMessage"]
    assert message.startswith("The command exited with code 1: ... ")
    assert message.endswith("\n4999\n5000")
    assert len(message) < 1200


def test_http_statuses_are_those_of_a_failing_function(serve: Serve) -> None:
    server = serve(None, *shell("exit 1", "--errors", "http"))
    assert server.invoke().status == 500


@pytest.mark.parametrize("name", ["SEGV", "KILL", "TERM", "ABRT", "PIPE", "INT"])
def test_a_signal_is_a_crash_and_the_next_one_is_served(
    sh: Server, gate: Path, name: str
) -> None:
    neighbour = Calls(sh)
    since = sh.stdout.size()
    neighbour.start(
        1, f"echo waiting >&2; until [ -e {gate} ]; do sleep 0.02; done; echo done"
    )
    sh.wait_for_line("waiting", since)
    failure = sh.invoke(f"kill -{name} $$; sleep 5").json()
    assert failure["errorType"] == "ProcessExitedError"
    assert failure["details"]["signal"] == f"SIG{name}"
    assert failure["details"]["cause"] == "signal"
    assert sh.invoke("echo next").body == b"next\n"
    gate.touch()
    (reply,) = neighbour.finish()
    assert (reply.status, reply.body) == (200, b"done\n")


def test_the_deadline_ends_it_with_all_it_started(serve: Serve, tmp_path: Path) -> None:
    late = tmp_path / "late"
    script = f"(sleep 1; touch {late}) & trap '' TERM; sleep 60"
    server = serve(None, *shell(script, "--timeout", "0.3"))
    began = time.monotonic()
    failure = server.invoke().json()
    assert time.monotonic() - began < 5
    assert failure["errorType"] == "FunctionTimeoutError"
    wait_until(lambda: not server.strays(), 5, "an end of what it started")
    wait_until(lambda: time.monotonic() - began > 1.2, 5, "the time it would be late")
    assert not late.exists()


def test_a_process_in_the_background_does_not_delay_the_answer(serve: Serve) -> None:
    # It holds stdout open: nobody waits for the end of that.
    server = serve(None, *shell("sleep 60 & echo at once"))
    began = time.monotonic()
    assert server.invoke().body == b"at once\n"
    assert time.monotonic() - began < 5
    wait_until(lambda: not server.strays(), 5, "an end of what was left")
    assert server.invoke().body == b"at once\n"


def test_what_is_left_running_may_be_allowed(serve: Serve) -> None:
    server = serve(
        None, *shell("sleep 60 >/dev/null & echo $!", "--leftovers", "allow")
    )
    pid = int(server.invoke().body)
    assert pid in [one.pid for one in server.strays()]
    os.kill(pid, 9)
    # Its worker need not know of it.
    wait_until(lambda: not any(map(lives, server.strays())), 5, "an end of it")


def test_too_much_memory_is_told_as_such(serve: Serve) -> None:
    eats = "import sys; x = bytearray(300 << 20); sys.stdin.read(); print(len(x))"
    server = serve(None, *command("python3", "-c", eats, options=("--memory", "100")))
    failure = server.invoke().json()
    assert failure["errorType"] == "FunctionOOMError"
    assert failure["details"]["memoryLimitMB"] == 100
    assert server.once("GET", "/health").status == 200


def test_an_answer_without_an_end_is_cut_short(serve: Serve) -> None:
    server = serve(None, *command("yes", options=("--max-response", "1")))
    failure = server.invoke().json()
    assert failure["errorType"] == "ResponseTooLarge"
    assert server.invoke().error_type == "ResponseTooLarge"
    assert not server.strays()


def test_a_killed_command_costs_no_other_caller_anything(serve: Serve) -> None:
    server = serve(None, *command("sh", options=("--max-workers", "2")))
    for _ in range(20):
        assert server.invoke("kill -9 $$").error_type == "ProcessExitedError"
        assert server.invoke("echo ok").body == b"ok\n"


# What it is told, and what it is not.


def environment(reply: Reply) -> dict[str, str]:
    """Return what `env -0` has printed."""
    pairs = reply.body.decode().split("\0")[:-1]
    return dict(pair.split("=", 1) for pair in pairs)


def test_its_environment_names_the_invocation_and_the_function(serve: Serve) -> None:
    server = serve(None, *command("env", "-0", options=("--timeout", "30")))
    headers = {
        "x-fc-function-name": "greet",
        "x-fc-function-memory": "256",
        "x-fc-access-key-id": "AKID",
        "x-fc-access-key-secret": "secret",
        "x-fc-security-token": "token",
        "x-evil": "$(reboot)",
        "proxy": "http://evil",
    }
    before_ms = time.time() * 1000
    seen = environment(server.invoke(b"event", headers, request_id="the-id"))
    assert seen["FC_REQUEST_ID"] == "the-id"
    assert seen["FC_FUNCTION_NAME"] == "greet"
    assert seen["FC_FUNCTION_MEMORY_SIZE"] == "256"
    left_ms = int(seen["ISORUNTIME_DEADLINE_MS"]) - before_ms
    assert 29_000 < left_ms <= 32_000
    text = json.dumps(seen)
    for hidden in ("AKID", "secret", "token", "evil", "reboot"):
        assert hidden not in text


def test_credentials_are_those_of_the_invocation_where_they_are_asked_for(
    serve: Serve,
) -> None:
    server = serve(
        None,
        *command("env", "-0", options=("--env", "ALIBABA_CLOUD_CREDENTIALS")),
    )
    headers = {
        "x-fc-access-key-id": "AKID",
        "x-fc-access-key-secret": "secret",
        "x-fc-security-token": "token",
    }
    seen = environment(server.invoke(b"", headers))
    assert seen["ALIBABA_CLOUD_ACCESS_KEY_ID"] == "AKID"
    assert seen["ALIBABA_CLOUD_ACCESS_KEY_SECRET"] == "secret"
    assert seen["ALIBABA_CLOUD_SECURITY_TOKEN"] == "token"
    assert "ALIBABA_CLOUD_ACCESS_KEY_ID" not in environment(server.invoke())


@pytest.mark.parametrize(
    "event",
    [b"; rm -rf /", b"$(reboot)", b"`id`", b"a\nb", b"\xff\xfe", b"-rf", b"'\""],
)
def test_nothing_of_an_event_is_ever_an_argument(serve: Serve, event: bytes) -> None:
    server = serve(None, *command("echo", "$HOME", "; id", "{event}", "%s", "*"))
    reply = server.invoke(event, {"x-fc-function-name": "; id"})
    assert reply.body == b"$HOME ; id {event} %s *\n"


@pytest.mark.parametrize(
    ("request_id", "shown"),
    [
        ("1-6b014c2e-e3b9", "1-6b014c2e-e3b9"),
        ("-rf", "_rf"),
        ("$(id);`x`", "__id___x_"),
        ("../../etc", ".._.._etc"),
    ],
)
def test_the_request_id_in_an_argument_is_no_option_and_no_path(
    serve: Serve, request_id: str, shown: str
) -> None:
    server = serve(None, *command("printf", "%s|", "id={request_id}", "{request_id}"))
    reply = server.invoke(b"", request_id=request_id)
    assert reply.body.decode() == f"id={shown}|{shown}|"


def test_it_runs_in_the_code_folder_with_no_descriptor_of_ours(
    serve: Serve, code_dir: Path
) -> None:
    server = serve(
        None, *shell("pwd; ls /proc/self/fd | tr '\\n' ' '"), code_dir=code_dir
    )
    folder, descriptors = server.invoke().body.decode().splitlines()
    assert folder == str(code_dir)
    # The last one is that of `ls` itself, looking.
    assert descriptors.split() == ["0", "1", "2", "3"]


def test_words_of_a_variable_are_split_as_a_shell_would(serve: Serve) -> None:
    server = serve(env={"ISORUNTIME_COMMAND": "printf '%s,' 'a b' c"})
    assert server.invoke().body == b"a b,c,"


def test_a_list_in_the_variable_is_taken_as_it_is(serve: Serve) -> None:
    server = serve(env={"ISORUNTIME_COMMAND": '["printf", "%s,", "a b", "$c"]'})
    assert server.invoke().body == b"a b,$c,"


def test_hooks_and_initializer_are_nothing_to_a_command(cat: Server) -> None:
    for method, path in (
        ("POST", "/initialize"),
        ("GET", "/pre-stop"),
        ("GET", "/pre-freeze"),
    ):
        reply = cat.request(method, path)
        assert (reply.status, reply.body) == (200, b"")


def test_http_requests_are_told_that_it_takes_events(cat: Server) -> None:
    reply = cat.request("GET", "/", headers={"x-fc-control-path": "/http-invoke"})
    assert reply.status == 404
    assert "This is an event function" in reply.json()["errorMessage"]


def test_fresh_mode_has_a_worker_for_each_run(serve: Serve) -> None:
    server = serve(None, *shell("echo $PPID", "--fresh"))
    parents = {server.invoke().body for _ in range(5)}
    assert len(parents) == 5


def test_it_runs_under_every_wall(serve: Serve) -> None:
    server = serve(None, *command("cat", options=("--sandbox", "strict")))
    assert server.invoke(b"inside").body == b"inside"


# Programs that cannot be run.

ELF_OF_ARM = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, 183) + bytes(64)


def broken(path: Path, content: bytes, mode: int = 0o755) -> None:
    """Write a program that cannot be run."""
    path.write_bytes(content)
    path.chmod(mode)


@pytest.mark.parametrize(
    ("content", "mode", "kind", "reason"),
    [
        pytest.param(
            b"#!/bin/sh\n", 0o644, "UserCodeError", "chmod 755", id="no exec bit"
        ),
        pytest.param(
            b"#!/bin/sh\r\necho\r\n", 0o755, "UserCodeError", "CRLF", id="CRLF"
        ),
        pytest.param(
            b"#!/no/such/interpreter\n",
            0o755,
            "UserCodeError",
            "its interpreter /no/such/interpreter does not exist here",
            id="a bad shebang",
        ),
        pytest.param(
            b"#!/usr/bin/env no-such-language\n",
            0o755,
            "UserCodeError",
            "its interpreter no-such-language is not in PATH",
            id="a bad shebang by env",
        ),
        pytest.param(
            b"echo hello\n", 0o755, "UserCodeError", "begins with #!", id="no shebang"
        ),
        pytest.param(
            b"\xef\xbb\xbf#!/bin/sh\n",
            0o755,
            "UserCodeError",
            "byte order mark",
            id="a byte order mark",
        ),
        pytest.param(b"", 0o755, "UserCodeError", "it is empty", id="an empty file"),
        pytest.param(
            b"MZ\x90\x00", 0o755, "UserCodeError", "for Windows", id="for Windows"
        ),
        pytest.param(
            b"\xcf\xfa\xed\xfe",
            0o755,
            "UserCodeError",
            "for macOS",
            id="for macOS",
        ),
        pytest.param(
            ELF_OF_ARM,
            0o755,
            "UserCodeError",
            f"a program for aarch64, and this is {os.uname().machine}",
            id="for another machine",
            marks=pytest.mark.skipif(
                os.uname().machine == "aarch64", reason="it is for this one"
            ),
        ),
    ],
)
def test_a_program_that_cannot_be_run_is_told_why(
    serve: Serve, code_dir: Path, content: bytes, mode: int, kind: str, reason: str
) -> None:
    broken(code_dir / "run", content, mode)
    server = serve(None, *command("./run"), code_dir=code_dir)
    failure = server.invoke().json()
    assert failure["errorType"] == kind
    assert failure["errorMessage"].startswith("Unable to run './run': ")
    assert reason in failure["errorMessage"]


def test_a_missing_program_is_a_missing_handler(serve: Serve, code_dir: Path) -> None:
    (code_dir / "tool").write_bytes(b"#!/bin/sh\n")
    server = serve(None, *command("tool"), code_dir=code_dir)
    failure = server.invoke().json()
    assert failure["errorType"] == "HandlerNotFound"
    assert failure["errorMessage"] == (
        "There is no program 'tool' in PATH: to run the file of the code, say ./tool"
    )


def test_a_program_that_is_mended_is_served_without_a_restart(
    serve: Serve, code_dir: Path
) -> None:
    server = serve(None, *command("./run"), code_dir=code_dir)
    assert server.invoke().error_type == "HandlerNotFound"
    broken(code_dir / "run", b"#!/bin/sh\necho mended\n")
    wait_until(lambda: server.invoke().status == 200, 10, "the next attempt")
    assert server.invoke().body == b"mended\n"


def test_a_program_that_is_lost_meanwhile_is_told_as_such(
    serve: Serve, code_dir: Path
) -> None:
    shutil.copy("/bin/cat", code_dir / "run")
    server = serve(None, *command("./run"), code_dir=code_dir)
    assert server.invoke(b"there").body == b"there"
    (code_dir / "run").unlink()
    failure = server.invoke().json()
    assert failure["errorType"] == "HandlerNotFound"
    assert "there is no such file" in failure["errorMessage"]
