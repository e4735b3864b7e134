"""Tasks: events nobody waits for, tried again as the platform does, their ends kept.

    Enqueued ──▶ Running ──returned──▶ Succeeded
                   │ ▲
            failed │ │ at once; 1, 2, 4, … seconds later where no worker was free
                   ▼ │
                 Retrying ──tried too often──▶ Failed
                     └──────waited too long──▶ Expired

They live in memory, and end with the runtime.
"""

from __future__ import annotations

import base64
import enum
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from isoruntime.dispatch.invocation import Outcome, is_failure
from isoruntime.errors import Draining, NoWorkerAvailable
from isoruntime.frontend.gateway import answers
from isoruntime.frontend.gateway.invocations import CALLERS, event_invocation
from isoruntime.frontend.gateway.refusals import Refusal
from isoruntime.pool.backoff import Backoff
from isoruntime.typed import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from isoruntime.contract.answer import Details
    from isoruntime.dispatch.invocation import Invocation
    from isoruntime.frontend.gateway.functions import Reachable
    from isoruntime.frontend.gateway.paths import Target
    from isoruntime.loop import Loop, Timer

#: The platform's limit for the event of an asynchronous invocation.
MAX_EVENT_BYTES: Final = 128 * 1024
#: What may wait, in number and bytes; more is refused as if all workers were busy.
_MAX_PENDING: Final = 10_000
_MAX_PENDING_BYTES: Final = 64 << 20
#: What is kept of tasks that are over, the last of them.
_MAX_KEPT: Final = 1000
_MAX_KEPT_BYTES: Final = 16 << 20
#: Of one result.
_MAX_RESULT_BYTES: Final = 1 << 20

#: The platform's rule for the ids that callers choose.
_is_task_id: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}").fullmatch

_log = logging.getLogger("isoruntime.gateway")


class Status(enum.Enum):
    """How far a task is, in the platform's words."""

    ENQUEUED = "Enqueued"
    RUNNING = "Running"
    RETRYING = "Retrying"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    EXPIRED = "Expired"


_OVER: Final = frozenset({Status.SUCCEEDED, Status.FAILED, Status.EXPIRED})


class Task:
    """One event, and what has come of it so far."""

    __slots__ = (
        "accepted_at",
        "accepted_clock",
        "backoff",
        "duration_ms",
        "ended_clock",
        "error_type",
        "event",
        "function",
        "given",
        "is_cut",
        "is_id_chosen",
        "peak_memory_mb",
        "request_id",
        "result",
        "retries",
        "status",
        "target",
        "task_id",
        "timer",
    )

    def __init__(
        self,
        task_id: str,
        request_id: str,
        function: Reachable,
        target: Target,
        event: bytes,
        given: Mapping[str, str],
    ) -> None:
        """`given` are the caller's headers; without an id it is that of the request."""
        self.task_id = task_id or request_id
        self.is_id_chosen = bool(task_id)
        self.request_id = request_id
        self.function = function
        self.target = target
        self.event = event
        self.given = {name: given[name] for name in CALLERS if name in given}
        self.status = Status.ENQUEUED
        self.retries = 0
        self.backoff = Backoff()
        self.timer: Timer | None = None
        self.accepted_at = 0.0
        self.accepted_clock = time.time()
        self.ended_clock: float | None = None
        self.result = b""
        self.is_cut = False
        self.error_type = ""
        self.duration_ms = 0
        self.peak_memory_mb = 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status in _OVER

    @property
    def function_name(self) -> str:
        """What its caller called the function."""
        return self.function.name or self.target.function

    def summary(self) -> dict[str, Any]:
        """Return what a list shows of it."""
        return {
            "id": self.task_id,
            "requestId": self.request_id,
            "functionName": self.function_name,
            "qualifier": self.target.qualifier,
            "status": self.status.value,
            "retryCount": self.retries,
            "acceptedTime": _shown_time(self.accepted_clock),
            "endedTime": _shown_time(self.ended_clock),
            "errorType": self.error_type or None,
        }

    def details(self) -> dict[str, Any]:
        """Return all that is known of it."""
        shown = self.summary()
        shown["durationMs"] = self.duration_ms
        shown["maxMemoryMB"] = round(self.peak_memory_mb, 2) or None
        if self.is_over:
            shown["resultIsCut"] = self.is_cut
            try:
                shown["result"] = self.result.decode()
            except UnicodeDecodeError:
                shown["resultBase64"] = base64.b64encode(self.result).decode("ascii")
        return shown


def _shown_time(clock: float | None) -> str | None:
    if clock is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock))


class Tasks:
    """Runs tasks beside what is waited for, and remembers how they ended."""

    def __init__(self, loop: Loop, details: Details = "summary") -> None:
        self._now = loop.now
        self.call_later: Callable[[float, Callable[[], object]], Timer] = (
            loop.call_later
        )
        self._details: Details = details
        self._known: dict[str, Task] = {}
        #: those that are over, the oldest first
        self._over: deque[Task] = deque()
        self._kept_bytes = 0
        self._pending = 0
        self._pending_bytes = 0
        #: by function: those that wait for their turn, and how many run
        self._waiting: dict[str, deque[Task]] = {}
        self._running: dict[str, int] = {}

    # What is asked for by others.

    def accept(self, task: Task) -> None:
        """Take a task, to begin it as soon as its turn comes.

        Raises:
            Refusal: its id is no id, or another's; or there are too many.
        """
        if task.function.dispatcher.is_draining:
            raise Refusal("ServiceUnavailable", str(Draining()))
        if task.is_id_chosen and not _is_task_id(task.task_id):
            raise Refusal(
                "InvalidArgument",
                f"'{task.task_id[:200]}' is no id of a task: a letter or _ first, then "
                "letters, digits, _ and -, 128 at most",
            )
        if task.task_id in self._known:
            raise Refusal(
                "StatefulAsyncInvocationAlreadyExists",
                f"a task with the id '{task.task_id}' has been submitted before",
            )
        size = self._pending_bytes + len(task.event)
        if self._pending >= _MAX_PENDING or size > _MAX_PENDING_BYTES:
            raise Refusal(
                "ResourceExhausted", f"{self._pending} tasks are waiting already"
            )
        self._pending += 1
        self._pending_bytes = size
        self._known[task.task_id] = task
        task.accepted_at = self._now()
        name = task.function.name
        self._waiting.setdefault(name, deque()).append(task)
        self._begin_next(name)

    def find(self, task_id: str) -> Task | None:
        """Return the task with this id, if it is known still."""
        return self._known.get(task_id)

    def newest_first(self) -> Iterator[Task]:
        """Yield every task that is known, the last one accepted first."""
        return reversed(self._known.values())

    @property
    def unfinished(self) -> int:
        """How many are not over."""
        return self._pending

    def stop(self) -> None:
        """Begin none any more; those that run are let finish."""
        waiting = self._pending - sum(self._running.values())
        if waiting:
            _log.warning("%d asynchronous invocations that wait are lost", waiting)
        for queue in self._waiting.values():
            queue.clear()
        for task in self._known.values():
            if task.timer is not None:
                task.timer.cancel()

    # Their turns: as many at once as there may be workers, so that they wait here and
    # leave the queue to those who are waited for.

    def _begin_next(self, name: str) -> None:
        queue = self._waiting[name]
        while queue:
            limit = queue[0].function.dispatcher.pool.size.max_workers
            if self._running.get(name, 0) >= limit:
                break
            self._begin(queue.popleft())

    def _begin(self, task: Task) -> None:
        name = task.function.name
        self._running[name] = self._running.get(name, 0) + 1
        task.timer = None
        task.status = Status.RUNNING

        def done(outcome: Outcome) -> None:
            self._running[name] -= 1
            self._judge(task, invocation, outcome)
            self._begin_next(name)

        invocation = event_invocation(
            task.function,
            task.target,
            task.request_id,
            task.event,
            task.given,
            done,
            task.retries,
        )
        task.function.dispatcher.submit(invocation)

    def _judge(self, task: Task, invocation: Invocation, outcome: Outcome) -> None:
        if isinstance(outcome, (NoWorkerAvailable, Draining)):
            self._wait_for_room(task, outcome)
            return
        if invocation.began_at:
            task.duration_ms = round((self._now() - invocation.began_at) * 1000)
        task.peak_memory_mb = answers.peak_memory_mb(invocation, outcome)
        if not is_failure(outcome):
            self._end(task, Status.SUCCEEDED, outcome)
            return
        task.error_type = answers.error_type_of(invocation)
        if task.retries >= task.function.max_retries:
            self._end(task, Status.FAILED, outcome)
        elif self._has_waited_s(task) > task.function.max_age_s:
            self._end(task, Status.EXPIRED, outcome)
        else:
            task.retries += 1
            task.status = Status.RETRYING
            self._waiting[task.function.name].appendleft(task)

    def _wait_for_room(self, task: Task, outcome: Outcome) -> None:
        if isinstance(outcome, Draining):
            self._end(task, Status.FAILED, outcome)
            return
        if self._has_waited_s(task) > task.function.max_age_s:
            self._end(task, Status.EXPIRED, outcome)
            return
        task.status = Status.RETRYING
        delay_s = task.backoff.fail(self._now())

        def again() -> None:
            self._waiting[task.function.name].append(task)
            self._begin_next(task.function.name)

        task.timer = self.call_later(delay_s, again)

    def _has_waited_s(self, task: Task) -> float:
        return self._now() - task.accepted_at

    # What is kept.

    def _end(self, task: Task, status: Status, outcome: Outcome) -> None:
        result = bytes(answers.body_of(outcome, self._details))
        task.is_cut = len(result) > _MAX_RESULT_BYTES
        task.result = result[:_MAX_RESULT_BYTES]
        task.status = status
        if status is Status.SUCCEEDED:
            task.error_type = ""
        else:
            _log.warning(
                "the asynchronous invocation %s of %s has failed for good after %d "
                "retries",
                task.task_id,
                task.function_name,
                task.retries,
            )
        task.ended_clock = time.time()
        self._pending -= 1
        self._pending_bytes -= len(task.event)
        task.event = b""
        self._over.append(task)
        self._kept_bytes += len(task.result)
        while len(self._over) > _MAX_KEPT or self._kept_bytes > _MAX_KEPT_BYTES:
            oldest = self._over.popleft()
            self._kept_bytes -= len(oldest.result)
            del self._known[oldest.task_id]
