"""Messages: the runtime's own records, on stderr, in one form."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from isoruntime.observe.messages import SinkHandler, configure
from isoruntime.observe.sink import LogSink


class Pipe:
    """A pipe that can be read without waiting."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)

    def read(self) -> bytes:
        try:
            return os.read(self.read_fd, 65536)
        except BlockingIOError:
            return b""

    def close_reader(self) -> None:
        os.close(self.read_fd)
        self.read_fd = -1

    def close(self) -> None:
        for fd in (self.read_fd, self.write_fd):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def quiet_logging() -> Iterator[None]:
    """Give logging back as it was, without closing what pytest put there."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("quiet_logging")
def test_a_message_names_its_time_the_runtime_and_its_level(pipe: Pipe) -> None:
    with closing(LogSink(pipe.write_fd)) as sink:
        configure("INFO", "fc", sink)
        logging.getLogger("isoruntime.pool").info("a worker %s", "died")
        logging.getLogger("waitress").debug("not wanted")
        message = pipe.read()
    assert re.fullmatch(
        rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z isoruntime \[INFO\] a worker died\n",
        message,
    )


@pytest.mark.usefixtures("quiet_logging")
def test_a_message_as_json_has_the_five_keys(pipe: Pipe) -> None:
    with closing(LogSink(pipe.write_fd)) as sink:
        configure("INFO", "json", sink)
        try:
            os.environ["GONE"]
        except KeyError:
            logging.getLogger("isoruntime").exception("it broke \udcff")
        output = pipe.read()
    (line,) = output.decode().splitlines()
    message = json.loads(line)
    assert list(message) == ["time", "level", "requestId", "stream", "message"]
    assert message["level"] == "ERROR"
    assert message["requestId"] is None
    assert message["stream"] == "runtime"
    assert message["message"].startswith("it broke \udcff\nTraceback")
    assert message["message"].endswith("KeyError: 'GONE'")


@pytest.mark.usefixtures("quiet_logging")
def test_a_message_of_another_thread_waits_for_the_loop_s(pipe: Pipe) -> None:
    woken: list[int] = []
    with closing(LogSink(pipe.write_fd)) as sink:
        handler = configure("INFO", "fc", sink)
        handler.wake = lambda: woken.append(threading.get_ident())
        other = threading.Thread(target=logging.getLogger("x").info, args=("hello",))
        other.start()
        other.join()
        assert pipe.read() == b""
        assert woken == [other.ident]
        handler.flush()
        assert pipe.read().endswith(b" hello\n")


def test_a_call_that_cannot_be_formatted_harms_nobody(
    pipe: Pipe, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(LogSink(pipe.write_fd)) as sink:
        handler = SinkHandler(sink)
        handler.handle(
            logging.LogRecord("x", logging.INFO, "f.py", 1, "%d", ("no number",), None)
        )
        assert sink.backlog == 0
        handler.close()
    assert "no number" in capsys.readouterr().err


@pytest.mark.usefixtures("quiet_logging")
def test_a_sink_that_carries_its_own_bad_news_does_not_loop(pipe: Pipe) -> None:
    sink = LogSink(pipe.write_fd)
    configure("INFO", "fc", sink)
    pipe.close_reader()
    logging.getLogger("isoruntime").info("lost")
    assert sink.is_gone
    assert sink.dropped_bytes > len("lost")
    sink.close()


def test_last_words_reach_a_slow_stderr() -> None:
    script = (
        "import logging\n"
        "from isoruntime.observe.messages import configure\n"
        "from isoruntime.observe.sink import LogSink\n"
        "configure('INFO', 'fc', LogSink(2))\n"
        "logging.error('x' * 300_000)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        output = process.stderr.read()
    assert process.returncode == 0
    assert output.endswith(b"x" * 300_000 + b"\n")
