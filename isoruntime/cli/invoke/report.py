"""What is told of invocations: the result, the summary line, latencies, exit codes."""

from __future__ import annotations

import json
import math
import os
import sys
from base64 import b64encode

from isoruntime.cli.text import GREY, RED, coloured
from isoruntime.typed import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Exit codes, those of interface.md section 7.
RETURNED: Final = 0
FUNCTION_ERROR: Final = 1
EXITED: Final = 3
TIMED_OUT: Final = 4
OUT_OF_MEMORY: Final = 5
#: What a shell adds to the number of a signal.
BY_SIGNAL: Final = 128
#: `errorType` of what ended a worker, and the exit code that says so.
EXIT_CODES: Final[Mapping[str, int]] = {
    "ProcessExitedError": EXITED,
    "FunctionTimeoutError": TIMED_OUT,
    "FunctionOOMError": OUT_OF_MEMORY,
}
_OUTCOMES: Final = {
    RETURNED: "returned",
    FUNCTION_ERROR: "error",
    EXITED: "exited",
    TIMED_OUT: "timeout",
    OUT_OF_MEMORY: "out-of-memory",
}
_PERCENTILES: Final = (50, 90, 99)


class Result(NamedTuple):
    """One invocation as it ended. What is None, nobody knows."""

    request_id: str
    #: what a caller of the function is answered
    body: bytes
    exit_code: int = RETURNED
    error_type: str | None = None
    duration_ms: float = 0.0
    #: from the start of the command to the beginning of the first invocation
    start_ms: float | None = None
    #: the limit, 0 = none
    memory_mb: int | None = None
    max_memory_mb: float | None = None
    log: str | None = None

    @property
    def billed_ms(self) -> int:
        """What the platform would charge for: whole milliseconds, rounded up."""
        return max(1, math.ceil(self.duration_ms))


class Report:
    """Tells of results as they come, and of all of them at the end."""

    def __init__(self, *, as_json: bool, repeat: int) -> None:
        self._as_json = as_json
        self._repeat = repeat
        self._durations_ms: list[float] = []
        self._failures: dict[str, int] = {}
        self._max_memory_mb = 0.0
        self.exit_code = RETURNED
        #: writes a line to stderr, after all that was printed before
        self.say: Callable[[str], object] = say
        #: has what was printed before on stderr, where both are one terminal
        self.flush: Callable[[], object] = sys.stderr.flush

    def tell(self, result: Result) -> None:
        """Write a result to stdout, and its summary to stderr."""
        self._durations_ms.append(result.duration_ms)
        self._max_memory_mb = max(self._max_memory_mb, result.max_memory_mb or 0.0)
        if result.exit_code != RETURNED:
            self.exit_code = self.exit_code or result.exit_code
            named = result.error_type or _OUTCOMES[result.exit_code]
            self._failures[named] = self._failures.get(named, 0) + 1
        self.flush()
        if self._as_json:
            _write(json.dumps(_as_object(result), ensure_ascii=False).encode() + b"\n")
        else:
            _write(self._ended(result.body))
        if self._repeat == 1:
            colour = GREY if result.exit_code == RETURNED else RED
            self.say(coloured(_summary(result), colour, sys.stderr))

    def tell_all(self) -> None:
        """Write what many invocations came to."""
        if self._repeat > 1 and self._durations_ms:
            for line in latencies(self._durations_ms, self._failures):
                self.say(line)
            if self._max_memory_mb:
                self.say(f"Max Memory Used: {self._max_memory_mb:.2f} MB")

    def _ended(self, body: bytes) -> bytes:
        # As it is, so that binary data can be piped on; but a prompt, the next result,
        # or the summary beside it begins on a line of its own.
        is_own_line = self._repeat > 1 or sys.stdout.isatty() or _is_beside_stderr()
        return body + b"\n" if is_own_line and body[-1:] != b"\n" else body


def _summary(result: Result) -> str:
    """Return the line that the platform's own tools print (fc-contract.md 3.3)."""
    told = [
        f"Duration: {result.duration_ms:.2f} ms",
        f"Billed Duration: {result.billed_ms} ms",
    ]
    if result.memory_mb is not None:
        limit = f"{result.memory_mb} MB" if result.memory_mb else "no limit"
        told.append(f"Memory Size: {limit}")
    if result.max_memory_mb is not None:
        told.append(f"Max Memory Used: {result.max_memory_mb:.2f} MB")
    return f"RequestId: {result.request_id}  {', '.join(told)}"


def latencies(durations_ms: Sequence[float], failures: Mapping[str, int]) -> list[str]:
    """Return lines on how long invocations took, and on how many failed of what."""
    ranked = sorted(durations_ms)
    points = [("min", ranked[0])]
    points += [(f"p{share}", _percentile(ranked, share)) for share in _PERCENTILES]
    points.append(("max", ranked[-1]))
    told = "  ".join(f"{name} {value:.2f} ms" for name, value in points)
    failed = sum(failures.values())
    of_what = ", ".join(f"{count} {kind}" for kind, count in failures.items())
    return [
        f"{len(ranked)} invocations, {failed} failed"
        + (f" ({of_what})" * bool(failed)),
        f"Duration: {told}",
    ]


def _percentile(ranked: Sequence[float], share: int) -> float:
    """Return the smallest value that so many per cent do not exceed."""
    return ranked[max(0, math.ceil(len(ranked) * share / 100) - 1)]


def _as_object(result: Result) -> dict[str, Any]:
    try:
        text, encoding = result.body.decode(), "text"
    except UnicodeDecodeError:
        text, encoding = b64encode(result.body).decode(), "base64"
    return {
        "requestId": result.request_id,
        "outcome": _OUTCOMES[result.exit_code],
        "errorType": result.error_type,
        "result": text,
        "resultEncoding": encoding,
        "durationMs": round(result.duration_ms, 2),
        "billedDurationMs": result.billed_ms,
        "startMs": None if result.start_ms is None else round(result.start_ms, 2),
        "memorySizeMB": result.memory_mb,
        "maxMemoryUsedMB": _rounded(result.max_memory_mb),
        "exitCode": result.exit_code,
        "log": result.log,
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 2)


def _write(data: bytes) -> None:
    """Write to stdout, all of it or what its reader takes."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # `| head` has read enough. Python would complain once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _is_beside_stderr() -> bool:
    try:
        return os.path.sameopenfile(1, 2)
    except OSError:
        return False


def say(line: str) -> None:
    """Print a line to stderr."""
    print(line, file=sys.stderr, flush=True)
