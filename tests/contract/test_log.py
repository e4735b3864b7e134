"""What stands on stdout: Start, the invocation's own output, End; each exactly once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import HANDLERS, Serve, Server

FAILED = ", Error: Unhandled function error"
#: Ends every piece but the last of a line that was too long.
CUT = b" [cut, continues]\n"
LONGEST_LINE = 32 * 1024


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("prints.handler") as started:
        yield started


def output_of(server: Server, event: str, request_id: str) -> list[str]:
    """Invoke and return what stands between Start and End."""
    assert server.invoke(event, request_id=request_id).status == 200
    log = server.log_of(request_id)
    assert log[-1] == f"FC Invoke End RequestId: {request_id}"
    return log[1:-1]


def raw_output_of(server: Server, event: str, request_id: str) -> bytes:
    """Invoke and return the bytes between Start and End."""
    assert server.invoke(event, request_id=request_id).status == 200
    server.wait_for_line(f"FC Invoke End RequestId: {request_id}")
    everything = server.stdout.read()
    start = f"FC Invoke Start RequestId: {request_id}\n".encode()
    end = f"FC Invoke End RequestId: {request_id}\n".encode()
    assert everything.count(start) == everything.count(end) == 1
    return everything[everything.index(start) + len(start) : everything.index(end)]


def test_it_says_once_that_it_is_inited(server: Server) -> None:
    server.invoke("")
    assert server.lines()[0] == "FunctionCompute isoruntime runtime inited."
    assert server.lines().count("FunctionCompute isoruntime runtime inited.") == 1


@pytest.mark.parametrize(
    ("event", "output"),
    [
        pytest.param("raise why", "before the raise", id="raises"),
        pytest.param("exit 7", "before the exit", id="exits"),
        pytest.param("kill", "before the kill", id="is killed"),
    ],
)
def test_a_failure_is_framed_once_around_its_output(
    server: Server, event: str, output: str
) -> None:
    request_id = f"fail-{event.split()[0]}"
    assert server.invoke(event, request_id=request_id).status == 404
    log = server.log_of(request_id)
    assert output in log
    assert log[-1] == f"FC Invoke End RequestId: {request_id}{FAILED}"
    assert sum(line.startswith("FC ") for line in log) == 2


def test_a_timeout_is_framed_once_around_its_output(serve: Serve) -> None:
    server = serve("slow.handler", "--timeout", "0.3")
    assert server.invoke("sleep", request_id="late").status == 404
    log = server.log_of("late")
    assert log[-1] == f"FC Invoke End RequestId: late{FAILED}"
    assert sum(line.startswith("FC ") for line in log) == 2


def test_printed_lines_stand_bare_and_in_order(server: Server) -> None:
    assert output_of(server, "print this", "bare") == ["printed this", "complained"]


def test_log_records_have_the_built_in_form(server: Server) -> None:
    first, *rest = output_of(server, "log it", "form")
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(stamp + r" form \[INFO\] info it", first)
    forms = [
        r" form \[WARNING\] careful",
        r" form \[ERROR\] bad",
        r" form \[INFO\] first",
    ]
    for form, line in zip(forms, rest, strict=False):
        assert re.fullmatch(stamp + form, line)
    assert rest[3:] == ["second"]


def test_the_log_level_reaches_the_handler(serve: Serve) -> None:
    server = serve("prints.handler", "--log-level", "ERROR")
    (line,) = output_of(server, "log it", "level")
    assert line.endswith(" level [ERROR] bad")


def test_what_children_and_raw_writes_say_is_in_the_log(server: Server) -> None:
    assert output_of(server, "child", "child") == [
        "from a child",
        "and its stderr",
        "from a process",
        "raw write",
    ]


def test_a_partial_line_is_ended_before_the_end_line(server: Server) -> None:
    assert output_of(server, "partial", "part") == ["no newline at the end"]


def test_a_ten_megabyte_line_is_cut_and_not_lost(server: Server) -> None:
    size = 10 * 1024 * 1024
    output = raw_output_of(server, f"long {size}", "long")
    assert max(len(line) for line in output.splitlines(keepends=True)) <= LONGEST_LINE
    assert output.replace(CUT, b"") == b"<" + b"x" * size + b">\n"


def test_every_line_of_a_large_output_arrives(server: Server) -> None:
    lines = output_of(server, "many 20000", "many")
    assert len(lines) == 20000
    assert set(lines) == {"y" * 99}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_hundred_megabytes_of_output_arrive(serve: Serve) -> None:
    server = serve("prints.handler")
    assert server.request("POST", "/invoke", b"many 2000000", timeout=100).status == 200
    server.wait_for_line("FC Invoke End", within=30)
    assert server.stdout.count(b"y" * 99 + b"\n") == 2_000_000


def test_binary_output_passes_unchanged(server: Server) -> None:
    output = raw_output_of(server, "binary", "binary")
    assert output == bytes(range(256)) + b"\xe2\x9d\n"


def test_text_that_is_no_utf8_does_not_break_print(server: Server) -> None:
    assert b"lone \xff surrogate\n" in raw_output_of(server, "surrogate", "sur")


def test_a_forged_end_line_ends_nothing(server: Server) -> None:
    assert output_of(server, "fake", "fake") == ["FC Invoke End RequestId: fakex"]


def test_concurrent_invocations_never_share_a_line(serve: Serve) -> None:
    from concurrent.futures import ThreadPoolExecutor

    server = serve("prints.handler", "--max-workers", "4")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: server.invoke(f"print {n}"), range(40)))
    server.close_connections()
    lines = server.lines()
    assert sorted(line for line in lines if line.startswith("printed")) == sorted(
        f"printed {n}" for n in range(40)
    )
    assert sum(line.startswith("FC Invoke Start") for line in lines) == 40
    assert sum(line.startswith("FC Invoke End") for line in lines) == 40


def test_as_json_every_line_is_an_object_of_its_request(serve: Serve) -> None:
    server = serve("prints.handler", "--log-format", "json")
    events = ["print x", "log x", "child", "partial", "binary", "raise why", "kill"]
    for number, event in enumerate(events):
        server.invoke(event, request_id=f"json-{number}")
    server.wait_for_line(f"FC Invoke End RequestId: json-{len(events) - 1}")
    records = [json.loads(line) for line in server.lines()]
    for record in records:
        assert {"time", "level", "requestId", "stream", "message"} <= record.keys()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])
    messages = [
        (record["requestId"], record["stream"], record["message"])
        for record in records
        if record["requestId"] == "json-0"
    ]
    assert ("json-0", "stdout", "printed x") in messages
    assert ("json-0", "stderr", "complained") in messages
    (logged,) = (r for r in records if r["message"] == "careful")
    assert (logged["level"], logged["requestId"]) == ("WARNING", "json-1")
    assert {r["requestId"] for r in records[1:]} == {
        f"json-{number}" for number in range(len(events))
    }


RECORD = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z it \[INFO\] said "


@pytest.mark.parametrize("preload", ["always", "never"])
@pytest.mark.parametrize(
    ("handler", "said"),
    [("inside", "inside"), ("through_context", "through the context")],
)
def test_records_look_the_same_however_late_logging_is_imported(
    serve: Serve, handler: str, said: str, preload: str
) -> None:
    server = serve(f"logs.{handler}", "--preload", preload)
    assert server.invoke("", request_id="it").status == 200
    _, record, _ = server.log_of("it")
    assert re.fullmatch(RECORD + said, record)


def test_a_handler_that_does_not_log_does_not_import_logging(
    serve: Serve, code_dir: Path
) -> None:
    source = "import sys\n\ndef handler(event, context):\n    return str('logging' in sys.modules)\n"
    (code_dir / "index.py").write_text(source)
    assert serve("index.handler", code_dir=code_dir).invoke("").body == b"False"


def test_logging_is_there_before_the_fork_for_who_takes_it_from_the_context(
    serve: Serve,
) -> None:
    assert serve("logs.through_context").invoke("").body == b"true"


def test_a_logger_nobody_could_foresee_is_in_the_context_all_the_same(
    serve: Serve, code_dir: Path
) -> None:
    source = (HANDLERS / "logs.py").read_text()
    unforeseen = (
        source[: source.index("def is_imported")]
        + source[source.index("def unforeseen") :]
    )
    (code_dir / "index.py").write_text(unforeseen)
    server = serve("index.unforeseen", code_dir=code_dir)
    answer = server.invoke("", request_id="it")
    assert "logger" in json.loads(answer.body)
    _, record, _ = server.log_of("it")
    assert re.fullmatch(RECORD + "info", record)


def test_a_file_of_the_user_s_is_never_taken_for_logging(
    serve: Serve, code_dir: Path
) -> None:
    (code_dir / "logging.py").write_text("raise SystemExit('read')\n")
    (code_dir / "index.py").write_text(
        "import logging\n\ndef handler(event, context):\n    logging.info('said so')\n"
    )
    server = serve("index.handler", code_dir=code_dir)
    assert server.invoke("", request_id="it").status == 200
    _, record, _ = server.log_of("it")
    assert re.fullmatch(RECORD + "so", record)
