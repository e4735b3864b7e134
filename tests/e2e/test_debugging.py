"""isoruntime invoke --debug: a debugger stops in the handler of a real worker."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Command, a_free_port, run, without
from tests.waiting import wait_until

HANDLER = """\
def handler(event, context):
    answer = event.decode()
    return answer
"""


class Client:
    """As much of a debug adapter's client as stops at one line and goes on."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rwb")
        self._sequence = 0

    def close(self) -> None:
        self._file.close()

    def send(self, command: str, **arguments: Any) -> None:
        self._sequence += 1
        message = {"seq": self._sequence, "type": "request", "command": command}
        data = json.dumps({**message, "arguments": arguments}).encode()
        self._file.write(b"Content-Length: %d\r\n\r\n%b" % (len(data), data))
        self._file.flush()

    def wait_for(self, key: str, name: str) -> Any:
        """Return the next message that has this value."""
        while True:
            length = 0
            while line := self._file.readline().strip():
                field, _, value = line.partition(b":")
                if field.lower() == b"content-length":
                    length = int(value)
            assert length, "the worker hung up"
            message = json.loads(self._file.read(length))
            if message.get(key) == name:
                return message


@contextmanager
def client_of(port: int) -> Iterator[Client]:
    connections: list[socket.socket] = []

    def connect() -> bool:
        try:
            connections.append(socket.create_connection(("127.0.0.1", port), 20))
        except OSError:
            return False
        return True

    wait_until(connect, 20, "a debugger to connect to")
    client = Client(connections[0])
    try:
        yield client
    finally:
        client.close()
        connections[0].close()


@pytest.mark.parametrize("sandbox", ["off", "standard"])
def test_a_debugger_stops_in_the_handler(code_dir: Path, sandbox: str) -> None:
    source = code_dir / "index.py"
    source.write_text(HANDLER)
    port = a_free_port()
    words = ("invoke", "-e", "asked", "--debug", str(port), "--sandbox", sandbox)
    # A limit that would be over long before anybody has looked at anything.
    command = Command(*words, cwd=code_dir, env={"ISORUNTIME_TIMEOUT": "0.01"})
    with client_of(port) as client:
        client.send("initialize", adapterID="test", linesStartAt1=True)
        client.wait_for("command", "initialize")
        client.send("attach")
        client.wait_for("event", "initialized")
        client.send(
            "setBreakpoints", source={"path": str(source)}, breakpoints=[{"line": 3}]
        )
        client.send("configurationDone")
        stopped = client.wait_for("event", "stopped")["body"]
        client.send("stackTrace", threadId=stopped["threadId"])
        frames = client.wait_for("command", "stackTrace")["body"]["stackFrames"]
        assert (frames[0]["name"], frames[0]["line"]) == ("handler", 3)
        client.send("evaluate", expression="answer", frameId=frames[0]["id"])
        assert client.wait_for("command", "evaluate")["body"]["result"] == "'asked'"
        client.send("continue", threadId=stopped["threadId"])
        done = command.end()
    assert (done.code, done.stdout) == (0, b"asked")
    assert f"waiting for a debugger on 127.0.0.1:{port}" in done.lines[0]


def test_a_port_that_is_taken_is_told_at_once(code_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("invoke", "--debug", str(port), cwd=code_dir)
    assert done.code == 2
    assert f"--debug {port} cannot be listened on" in done.stderr


def test_what_no_debugger_can_reach_is_told_at_once(code_dir: Path) -> None:
    done = run("invoke", "--debug", "5678", "--network", "none", cwd=code_dir)
    assert done.code == 2
    assert "give --network host" in done.stderr


def test_without_debugpy_the_extra_is_named(tmp_path: Path) -> None:
    done = run("invoke", "--debug", "5678", env=without("debugpy", tmp_path))
    assert done.code == 2
    assert done.lines == [
        "isoruntime: --debug needs debugpy, which is not installed: "
        "pip install 'isoruntime[debug]'"
    ]
