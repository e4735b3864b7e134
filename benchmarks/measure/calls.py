"""Calls of the soak: what is sent, what must come back, and whether it did.

Every fault names the answers its caller may get; anything else, and anything at all
that happens to a call without a fault, is a violation.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from benchmarks.measure.servers import ServerFailed

_PATIENCE_S: Final = 30.0
#: A client that gets no answer so often in a row goes home: there is nobody there.
_MAX_SILENCE: Final = 3
_PER_FAULT: Final = 10
#: Answers come no later than this after a deadline, on a machine that is not quiet.
LATE_S: Final = 0.25
MAX_RESPONSE_MB: Final = 2
_LARGE: Final = 1 << 20
_TOO_LARGE: Final = 3 << 20
#: waitress keeps smaller events in memory, and writes larger ones to a file.
_LARGE_EVENT: Final = 700_000

_EXITED: Final = "ProcessExitedError"


class Fault(NamedTuple):
    """One thing that may happen to a call, and what its caller must see.

    Without an `error_types` the call succeeds. `details` are fields that the failure
    must carry. `weight` is how often it is drawn, next to the others.
    """

    weight: float
    error_types: frozenset[str] = frozenset()
    details: Mapping[str, object] = {}
    event: Mapping[str, object] = {}
    is_timeout: bool = False


def _dies(**details: object) -> Fault:
    return Fault(1, frozenset({_EXITED}), details)


#: The names are those of `hosted/faults.py`, but for the last few.
FAULTS: Final[dict[str, Fault]] = {
    "do_raise": Fault(1, frozenset({"ValueError"})),
    "sys_exit": _dies(cause="exit", exitCode=7),
    "exit_0": _dies(cause="exit", exitCode=0),
    "exit_3": _dies(cause="exit", exitCode=3),
    "kill_9": _dies(cause="signal", signal="SIGKILL"),
    "segfault": _dies(cause="signal", signal="SIGSEGV"),
    "abort": _dies(cause="signal", signal="SIGABRT"),
    "daemon": Fault(1),
    "close_everything": Fault(1, frozenset({_EXITED, "RuntimeFault"})),
    "write_rubbish": Fault(1, frozenset({"RuntimeFault"})),
    "forge_reply": Fault(1, frozenset({"RuntimeFault"})),
    "print_1_mb": Fault(0.5),
    "execute": _dies(cause="exit", exitCode=0),
    "leave_thread": Fault(1),
    "exit_in_thread": _dies(cause="exit", exitCode=5),
    "recurse": Fault(1, frozenset({"RecursionError"})),
    # Some versions of Python notice before the stack is used up, others do not.
    "overflow": Fault(1, frozenset({"RecursionError", _EXITED})),
    "hang": Fault(0.1, frozenset({"FunctionTimeoutError"}), is_timeout=True),
    "stop_self": Fault(0.1, frozenset({"FunctionTimeoutError"}), is_timeout=True),
    "large event": Fault(0.5, event={"filler": "e" * _LARGE_EVENT}),
    "large answer": Fault(0.5, event={"answerBytes": _LARGE}),
    "oversized answer": Fault(
        0.5, frozenset({"ResponseTooLarge"}), event={"answerBytes": _TOO_LARGE}
    ),
}

_WITHOUT_FAULT: Final = Fault(1)


class Violation(NamedTuple):
    """A call that got something else than it must get."""

    fault: str
    wrong: str
    request_id: str


class Tally:
    """What all clients together have seen. Safe to use from every thread."""

    def __init__(self) -> None:
        # Guards everything below; nothing is sent or waited for while it is held.
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.violations: list[Violation] = []
        self.failures = 0
        self.latest_timeout_s = 0.0
        self.slowest_s = 0.0
        self.is_closed = False

    def add(
        self, name: str, answer: Answer, taken_s: float, violation: Violation | None
    ) -> None:
        """Count one call."""
        fault = FAULTS.get(name, _WITHOUT_FAULT)
        with self._lock:
            if self.is_closed:
                return
            self.calls[name] += 1
            self.failures += answer.status != http.client.OK
            if violation is not None:
                self.violations.append(violation)
            if fault.is_timeout:
                self.latest_timeout_s = max(self.latest_timeout_s, taken_s)
            elif name not in FAULTS:
                self.slowest_s = max(self.slowest_s, taken_s)

    @property
    def total(self) -> int:
        """How many calls were made."""
        return sum(self.calls.values())


class Answer(NamedTuple):
    """An HTTP answer, or (with status 0) why there was none."""

    status: int
    body: bytes
    request_id: str = ""


class Client(threading.Thread):
    """Calls again and again on one keep-alive connection."""

    def __init__(
        self,
        port: int,
        calls: int,
        tally: Tally,
        timeout_s: float,
        seed: str,
        only: Sequence[str],
    ) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=_PATIENCE_S
        )
        self._calls = calls
        self._tally = tally
        self._timeout_s = timeout_s
        # A run must be repeatable, and nothing here is a secret.
        self._random = random.Random(seed)  # noqa: S311
        self._names = list(only) or list(FAULTS)
        self._weights = [FAULTS[name].weight for name in self._names]

    def run(self) -> None:
        """Make all calls, unless nobody answers any more."""
        silence = 0
        for _ in range(self._calls):
            is_answered = self._call(self._draw())
            silence = 0 if is_answered else silence + 1
            if silence == _MAX_SILENCE or self._tally.is_closed:
                break
        self._connection.close()

    def _draw(self) -> str:
        if self._random.randrange(_PER_FAULT):
            return "no fault"
        return self._random.choices(self._names, self._weights)[0]

    def _call(self, name: str) -> bool:
        """Make one call and judge it; return whether anybody answered."""
        fault = FAULTS.get(name, _WITHOUT_FAULT)
        token = uuid.UUID(int=self._random.getrandbits(128)).hex
        is_event = bool(fault.event) or name not in FAULTS
        event = {"token": token, "fault": None if is_event else name, **fault.event}
        began = time.monotonic()
        answer = self._exchange(json.dumps(event).encode(), token)
        taken_s = time.monotonic() - began
        wrong = judge(fault, token, answer, fault.event)
        if not wrong and fault.is_timeout:
            wrong = self._judge_time(taken_s)
        violation = Violation(name, wrong, token) if wrong else None
        self._tally.add(name, answer, taken_s, violation)
        return answer.status != 0

    def _judge_time(self, taken_s: float) -> str:
        late_s = taken_s - self._timeout_s
        return (
            "" if 0 <= late_s <= LATE_S else f"answered {late_s:+.3f} s off its limit"
        )

    def _exchange(self, body: bytes, token: str) -> Answer:
        headers = {"x-fc-request-id": token, "x-fc-control-path": "/invoke"}
        try:
            self._connection.request("POST", "/invoke", body, headers)
            response = self._connection.getresponse()
            request_id = response.headers.get("x-fc-request-id", "")
            return Answer(response.status, response.read(), request_id)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Answer(0, repr(error).encode())


def judge(fault: Fault, token: str, answer: Answer, event: Mapping[str, object]) -> str:
    """Return what is wrong with an answer, or nothing."""
    if not answer.status:
        return f"no answer: {answer.body.decode()}"
    if answer.request_id != token:
        return f"the answer to {answer.request_id!r}"
    try:
        value = json.loads(answer.body)
    except ValueError:
        return f"{answer.status} {answer.body[:80]!r} is not JSON"
    if not isinstance(value, dict):
        return f"{answer.status} {answer.body[:80]!r} is no object"
    if fault.error_types:
        return _judge_failure(fault, token, answer.status, value)
    return _judge_success(token, answer.status, value, event)


def _judge_success(
    token: str, status: int, value: dict[str, Any], event: Mapping[str, object]
) -> str:
    if status != http.client.OK:
        return f"{status} {_short(value)}"
    if value.get("token") != token or value.get("requestId") != token:
        return f"somebody else's answer: {_short(value)}"
    if not isinstance(value.get("pid"), int) or "forged" in value:
        return f"a forged answer: {_short(value)}"
    if len(value.get("filler", "")) != event.get("answerBytes", 0):
        return f"an answer cut to {len(value.get('filler', ''))} bytes"
    if value.get("fillerBytes", 0) != len(str(event.get("filler", ""))):
        return f"an event cut to {value.get('fillerBytes')} bytes"
    return ""


def _judge_failure(fault: Fault, token: str, status: int, value: dict[str, Any]) -> str:
    if status != http.client.NOT_FOUND:
        return f"{status} instead of a failure: {_short(value)}"
    if value.get("errorType") not in fault.error_types:
        return f"{status} {_short(value)}"
    if value["errorType"] == "ValueError" and value.get("errorMessage") != token:
        return f"somebody else's error: {_short(value)}"
    details = value.get("details") or {}
    wrong = {
        name: details.get(name)
        for name, wanted in fault.details.items()
        if details.get(name) != wanted
    }
    return f"{value['errorType']} with {wrong}" if wrong else ""


def _short(value: dict[str, Any]) -> str:
    wanted = ("errorType", "errorMessage", "token", "pid")
    parts = {name: value[name] for name in wanted if name in value}
    details = value.get("details") or {}
    parts |= {name: details[name] for name in ("cause", "signal") if name in details}
    return json.dumps(parts)[:240]


def call_all(
    port: int,
    calls: int,
    clients: int,
    tally: Tally,
    timeout_s: float,
    seed: str,
    only: Sequence[str],
    until: float,
) -> None:
    """Make so many calls from so many clients at once; return when all are answered.

    Raises:
        ServerFailed: they are not, at this point in monotonic time.
    """
    share, rest = divmod(calls, clients)
    threads = [
        Client(port, share + (n < rest), tally, timeout_s, f"{seed}/{n}", only)
        for n in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        # What they see from now on is the server's end.
        tally.is_closed = True
        raise ServerFailed("it takes far too long to answer all calls")
