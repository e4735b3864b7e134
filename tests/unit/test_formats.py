"""Formats: the lines the platform looks for, and the same facts as JSON."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoruntime.observe.formats import FcFormat, JsonFormat, LogFormat, UtcClock
from isoruntime.observe.lines import CUT_MARK, MAX_LINE_BYTES, LineSplitter

#: 2026-11-20T15:52:59.457Z
NOW_NS = 1_795_189_979_457_999_999
NOW = "2026-11-20T15:52:59.457Z"

RECORD = "2026-11-20T15:52:58.001Z rid [ERROR] it broke"


@pytest.fixture
def fc() -> FcFormat:
    return FcFormat(UtcClock(lambda: NOW_NS))


@pytest.fixture
def as_json() -> JsonFormat:
    return JsonFormat(UtcClock(lambda: NOW_NS))


def objects(lines: bytes) -> list[dict[str, str | None]]:
    assert lines.endswith(b"\n") or not lines
    return [json.loads(line) for line in lines.split(b"\n") if line]


def fields(lines: bytes) -> list[tuple[str | None, ...]]:
    """Level, request id, stream and message of each object."""
    return [tuple(one.values())[1:] for one in objects(lines)]


@pytest.mark.parametrize("phase", ["Invoke", "Initialize", "PreStop", "PreFreeze"])
def test_start_and_end_are_spelt_as_the_platform_expects(
    fc: FcFormat, phase: str
) -> None:
    assert fc.start(phase, "1-2") == f"FC {phase} Start RequestId: 1-2\n".encode()
    assert fc.end(phase, "1-2", False) == f"FC {phase} End RequestId: 1-2\n".encode()


def test_a_failure_stands_right_after_the_id(fc: FcFormat) -> None:
    assert (
        fc.end("Invoke", "rid-index.exc", True)
        == b"FC Invoke End RequestId: rid-index.exc, Error: Unhandled function error\n"
    )


def test_the_cold_start_line_names_no_official_language(fc: FcFormat) -> None:
    assert fc.inited() == b"FunctionCompute isoruntime runtime inited.\n"


def test_user_output_is_untouched(fc: FcFormat) -> None:
    block = b"\xff\x00 raw\r\n"
    assert fc.output("rid", "stderr", block) is block


def test_a_record_has_the_built_in_form(fc: FcFormat) -> None:
    assert fc.record("rid", "ERROR", '{\n  "errorType": "X"\n}') == (
        f'{NOW} rid [ERROR] {{\n  "errorType": "X"\n}}\n'.encode()
    )


def test_a_record_about_no_invocation_says_so(
    fc: FcFormat, as_json: JsonFormat
) -> None:
    assert fc.record(None, "ERROR", "x") == f"{NOW} - [ERROR] x\n".encode()
    assert fields(as_json.record(None, "ERROR", "x")) == [
        ("ERROR", None, "platform", "x")
    ]


def test_a_long_record_is_cut_like_any_line(fc: FcFormat) -> None:
    lines = fc.record("rid", "ERROR", "short\n" + "x" * 100_000)
    assert max(map(len, lines.splitlines(keepends=True))) == MAX_LINE_BYTES
    assert lines.replace(CUT_MARK + b"\n", b"").endswith(b"x" * 100_000 + b"\n")


def test_the_clock_rounds_down_and_crosses_seconds() -> None:
    clock = UtcClock()
    assert clock.text(1_795_189_979_457) == NOW
    assert clock.text(1_795_189_979_999) == "2026-11-20T15:52:59.999Z"
    assert clock.text(1_795_189_980_000) == "2026-11-20T15:53:00.000Z"


def test_an_object_has_exactly_the_five_keys_in_order(as_json: JsonFormat) -> None:
    assert as_json.output("rid", "stdout", b"hello\n") == (
        b'{"time":"2026-11-20T15:52:59.457Z","level":"INFO","requestId":"rid",'
        b'"stream":"stdout","message":"hello"}\n'
    )


def test_start_and_end_come_from_the_platform_stream(as_json: JsonFormat) -> None:
    start = "FC Invoke Start RequestId: rid"
    end = "FC Invoke End RequestId: rid"
    assert fields(
        as_json.start("Invoke", "rid")
        + as_json.end("Invoke", "rid", False)
        + as_json.end("Invoke", "rid", True)
        + as_json.inited()
    ) == [
        ("INFO", "rid", "platform", start),
        ("INFO", "rid", "platform", end),
        ("ERROR", "rid", "platform", end + ", Error: Unhandled function error"),
        ("INFO", None, "platform", "FunctionCompute isoruntime runtime inited."),
    ]


def test_every_line_becomes_one_object_with_its_stream_s_level(
    as_json: JsonFormat,
) -> None:
    assert fields(as_json.output("rid", "stderr", b"one\n\ntwo\r\n")) == [
        ("WARNING", "rid", "stderr", "one"),
        ("WARNING", "rid", "stderr", ""),
        ("WARNING", "rid", "stderr", "two\r"),
    ]


def test_a_logger_s_record_gives_its_level_time_and_message(
    as_json: JsonFormat,
) -> None:
    block = f"{RECORD}\n  continued\n".encode()
    record, continued = objects(as_json.output("rid", "stdout", block))
    assert record == {
        "time": "2026-11-20T15:52:58.001Z",
        "level": "ERROR",
        "requestId": "rid",
        "stream": "stdout",
        "message": "it broke",
    }
    assert (continued["level"], continued["message"]) == ("INFO", "  continued")


@pytest.mark.parametrize("request_id", ["another", None], ids=["another id", "no id"])
def test_a_record_of_another_request_keeps_its_prefix(
    as_json: JsonFormat, request_id: str | None
) -> None:
    lines = as_json.output(request_id, "stdout", f"{RECORD}\n".encode())
    assert fields(lines) == [("ERROR", request_id, "stdout", RECORD)]


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_what_the_built_in_formatter_writes_is_recognised(
    as_json: JsonFormat, level: str
) -> None:
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(request_id)s [%(levelname)s] %(message)s",
        "%Y-%m-%dT%H:%M:%S",
    )
    record = logging.LogRecord(
        "x", getattr(logging, level), "f.py", 1, "text", None, None
    )
    record.request_id = "rid"
    line = formatter.format(record).encode() + b"\n"
    assert fields(as_json.output("rid", "stderr", line)) == [
        (level, "rid", "stderr", "text")
    ]


@pytest.mark.parametrize(
    "line",
    [
        RECORD.replace("ERROR", "LOUD"),
        RECORD.replace("Z rid", " rid"),
        " " + RECORD,
        RECORD.replace("2026", "٢٠٢٦"),
    ],
    ids=["unknown level", "no zone", "indented", "foreign digits"],
)
def test_what_only_resembles_a_record_is_plain_output(
    as_json: JsonFormat, line: str
) -> None:
    lines = as_json.output("rid", "stdout", f"{line}\n".encode())
    assert fields(lines) == [("INFO", "rid", "stdout", line)]


def test_bytes_that_are_no_text_are_escaped(as_json: JsonFormat) -> None:
    lines = as_json.output("rid", "stdout", b"caf\xc3\xa9 \xff\x00\n")
    assert fields(lines)[0][3] == "café \\xff\x00"
    assert "café".encode() in lines


def test_a_message_that_no_encoding_takes_is_still_logged(
    fc: FcFormat, as_json: JsonFormat
) -> None:
    assert b"\\udcff" in fc.record("rid", "ERROR", "\udcff")
    assert fields(as_json.record("rid", "ERROR", "\udcff")) == [
        ("ERROR", "rid", "platform", "\udcff")
    ]


def test_a_record_of_several_lines_is_one_object(as_json: JsonFormat) -> None:
    assert fields(as_json.record("rid", "ERROR", "{\n}")) == [
        ("ERROR", "rid", "platform", "{\n}")
    ]


@given(st.binary(max_size=3000).filter(lambda output: CUT_MARK not in output))
def test_no_object_is_longer_than_a_line_may_be(output: bytes) -> None:
    splitter = LineSplitter(400)
    block = splitter.feed(output) + splitter.end()
    lines = JsonFormat(max_line=400).output("rid", "stdout", block)
    assert all(len(line) < 400 for line in lines.split(b"\n"))
    messages = [str(one["message"]) for one in objects(lines)]
    mark = CUT_MARK.decode()
    text = "".join(
        message[: -len(mark)] if message.endswith(mark) else message + "\n"
        for message in messages
    )
    assert text == (
        output.decode("utf-8", "backslashreplace")
        + ("" if not output or output.endswith(b"\n") else "\n")
    )


def test_the_limit_of_an_object_counts_bytes_not_characters() -> None:
    lines = JsonFormat(max_line=400).record("rid", "INFO", "中" * 200)
    assert all(len(line) < 400 for line in lines.split(b"\n"))
    assert lines.count("中".encode()) == 200


def test_a_request_id_longer_than_a_line_does_not_multiply_it(
    as_json: JsonFormat,
) -> None:
    lines = as_json.record("r" * 100_000, "ERROR", "x" * 10_000)
    assert len(lines) < 120_000


@pytest.mark.parametrize("log_format", [FcFormat(), JsonFormat()], ids=["fc", "json"])
def test_both_formats_do_the_same_things(log_format: LogFormat) -> None:
    for lines in (
        log_format.inited(),
        log_format.start("Invoke", "rid"),
        log_format.end("Invoke", "rid", True),
        log_format.output(None, "stdout", b"out\n"),
        log_format.record("rid", "ERROR", "text"),
    ):
        assert lines.endswith(b"\n")
        assert lines.count(b"\n") == 1
