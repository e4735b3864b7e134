"""One fault in one server: what everybody concerned saw of it.

The server is started afresh. A neighbour is in flight when the fault strikes, another
call follows, and what the faulty call started is looked for at the end.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from benchmarks.hosted.crashes import LATE_S, NEIGHBOUR_S
from benchmarks.measure.peers import LIMIT_S, Peer
from benchmarks.measure.servers import (
    Server,
    ServerFailed,
    free_port,
    wait_until,
)

#: How long a caller waits; all that is going to happen has happened by then.
PATIENCE_S: Final = 6.0
_BEGIN_S: Final = 10.0
#: The next call is given so long to succeed, again and again.
_RECOVER_S: Final = 8.0
_AT_ONCE_S: Final = 0.5
_GONE_S: Final = 2.0
#: An answer to a hang may come so much after the limit: some look once a second.
_PUNCTUAL_S: Final = 1.5

#: Faults that a limit has to end, as opposed to those that end by themselves.
_HANGS: Final = frozenset({"hang", "fork_and_hang"})


class Seen(NamedTuple):
    """What one caller saw: an HTTP status (0: none), what came with it, and when."""

    status: int
    what: str
    after_s: float

    @property
    def is_ok(self) -> bool:
        """Whether it got what it asked for."""
        return self.status == http.client.OK and self.what == "text"

    def __str__(self) -> str:
        when = f", {self.after_s:.1f} s" if self.after_s >= _AT_ONCE_S else ""
        if not self.status:
            return f"{self.what}{when}"
        return f"{self.status}{'' if self.is_ok else f' {self.what}'}{when}"


class Consequences(NamedTuple):
    """What one fault did."""

    caller: Seen
    neighbour: Seen
    next_calls: tuple[Seen, Seen]
    left: str
    is_told: bool

    @property
    def next_call(self) -> str:
        """What the next caller saw, and what came of it."""
        first, last = self.next_calls
        if first is last:
            return str(first)
        if last.is_ok:
            return f"{first}; 200 after {last.after_s:.1f} s"
        then = "" if first.what == last.what else f"; then {last.what}"
        return f"{first}{then}, for good"

    @property
    def broken(self) -> list[str]:
        """What did not go as anybody would wish."""
        first = self.next_calls[0]
        is_late = first.is_ok and first.after_s > _AT_ONCE_S
        lost = {
            "caller": not self.is_told,
            "neighbour": not self.neighbour.is_ok,
            "next call": not first.is_ok,
            "next call late": is_late,
            "left behind": bool(self.left),
        }
        return [name for name, is_lost in lost.items() if is_lost]


class Call(threading.Thread):
    """One call on a connection of its own."""

    def __init__(self, port: int, way: str | None, file: Path) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._event = json.dumps({"way": way, "file": str(file)}).encode()
        self.file = file
        self.seen = Seen(0, "no answer", PATIENCE_S)

    def run(self) -> None:
        """Call and wait."""
        began = time.monotonic()
        status, what = self._exchange()
        self.seen = Seen(status, what, time.monotonic() - began)

    def _exchange(self) -> tuple[int, str]:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._port, timeout=PATIENCE_S
        )
        try:
            connection.request("POST", "/invoke", self._event)
            answer = connection.getresponse()
            return answer.status, _kind(answer, answer.read())
        except TimeoutError:
            return 0, "no answer"
        except ConnectionRefusedError:
            return 0, "refused"
        except (OSError, http.client.HTTPException):
            # Reset, or closed without a byte: the same to whoever called.
            return 0, "connection lost"
        finally:
            connection.close()

    @property
    def has_begun(self) -> bool:
        """Whether the handler runs, or has run."""
        return self.file.exists()

    @property
    def has_lived_on(self) -> bool:
        """Whether the handler came to its end."""
        return self.has_begun and self.file.read_text() == "ended"


def _kind(answer: http.client.HTTPResponse, body: bytes) -> str:
    if body == b"still here":
        return "text"
    if not body:
        return "empty"
    try:
        return str(json.loads(body)["errorType"])
    except (ValueError, KeyError, TypeError):
        pass
    kind = answer.headers.get_content_subtype()
    return "HTML" if kind == "html" else "other text"


def probe(peer: Peer, way: str) -> Consequences:
    """Start a server, do this to it, and look.

    Raises:
        ServerFailed: it does not serve even before the fault.
    """
    port = free_port()
    with Server(peer.argv(port), port, env=peer.env) as server:
        folder = server.temp_dir
        server.connect().close()
        _warm_up(server, folder)
        caller, neighbour = _strike(port, way, folder)
        next_calls = _call_next(port, folder)
        neighbour.join()
        left = _left_behind(server, caller, way)
        return Consequences(
            caller=caller.seen,
            neighbour=neighbour.seen,
            next_calls=next_calls,
            left=left,
            is_told=_is_told(caller.seen, way),
        )


def _warm_up(server: Server, folder: Path) -> None:
    """Wait until it serves two calls at once, which some do only after a while."""

    def serves_two() -> bool:
        calls = [Call(server.port, None, folder / "none") for _ in range(2)]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
        return all(call.seen.is_ok for call in calls)

    if not wait_until(serves_two, _BEGIN_S, every_s=0.1):
        raise ServerFailed(f"it does not serve: {server.said()}")


def _strike(port: int, way: str, folder: Path) -> tuple[Call, Call]:
    """Have a fault happen while a neighbour is in flight; return both calls."""
    caller = Call(port, way, folder / "caller")
    neighbour = Call(port, "neighbour", folder / "neighbour")
    if way in _HANGS:
        # In flight when the limit strikes, and within its own.
        caller.start()
        wait_until(lambda: caller.has_begun, _BEGIN_S)
        time.sleep(LIMIT_S - NEIGHBOUR_S / 2)
        neighbour.start()
        wait_until(lambda: neighbour.has_begun, _BEGIN_S)
    else:
        neighbour.start()
        wait_until(lambda: neighbour.has_begun, _BEGIN_S)
        caller.start()
    caller.join()
    return caller, neighbour


def _call_next(port: int, folder: Path) -> tuple[Seen, Seen]:
    """Return what the next caller saw, and the last one after asking again and again."""
    began = time.monotonic()
    first: Seen | None = None
    while True:
        call = Call(port, None, folder / "none")
        call.start()
        call.join()
        first = first or call.seen
        took_s = time.monotonic() - began
        if call.seen is first and first.is_ok:
            return first, first
        if call.seen.is_ok or took_s > _RECOVER_S:
            return first, call.seen._replace(after_s=took_s)
        time.sleep(0.05)


def _left_behind(server: Server, caller: Call, way: str) -> str:
    """Return what the faulty call left, now that it is over."""
    found = []
    if way == "hang" and not caller.seen.is_ok:
        # It would have come to its end by now if nobody had ended it.
        wait_until(lambda: caller.has_lived_on, LATE_S - LIMIT_S + 1)
        if caller.has_lived_on:
            found.append("handler ran on")
    children = [each for each in server.left_over() if _is_sleep(each)]
    for child in children:
        found.append("its child")
        child.kill()
    # What a server that has to be killed leaves is not the faulty call's doing.
    if server.stop() is not None:
        wait_until(lambda: not server.left_over(), _GONE_S)
        found += ["a process of the server"] * len(server.left_over())
    return ", ".join(found)


def _is_sleep(process: psutil.Process) -> bool:
    try:
        return bool(process.name() == "sleep")
    except psutil.NoSuchProcess:
        return False


def _is_told(seen: Seen, way: str) -> bool:
    """Whether the caller got an answer that says failure, when it was due."""
    limit_s = LIMIT_S + _PUNCTUAL_S if way in _HANGS else _AT_ONCE_S
    return seen.status >= http.client.BAD_REQUEST and seen.after_s < limit_s
