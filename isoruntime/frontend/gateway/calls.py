"""A call: one request of the API, from the function it is for to its answer."""

from __future__ import annotations

from isoruntime.contract import headers as fc
from isoruntime.contract.answer import Answer
from isoruntime.dispatch.invocation import Invocation, Outcome, Phase
from isoruntime.errors import NotAnHttpFunction
from isoruntime.frontend.gateway import answers
from isoruntime.frontend.gateway.invocations import event_invocation, http_headers
from isoruntime.frontend.gateway.refusals import Refusal
from isoruntime.frontend.gateway.tasks import MAX_EVENT_BYTES, Task
from isoruntime.frontend.routes import HttpReply, as_http, target_of
from isoruntime.typed import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from isoruntime.contract.answer import Details
    from isoruntime.frontend.gateway.functions import Reachable
    from isoruntime.frontend.gateway.paths import Target
    from isoruntime.frontend.gateway.tasks import Tasks
    from isoruntime.frontend.http import Exchange
    from isoruntime.wire.pipes import Body

_SYNC, _ASYNC = "sync", "async"
#: What `s local` marks a request with that the function is to see as it is.
_HTTP_EVENT: Final = "http"
_OCTETS: Final = "application/octet-stream"


class Call:
    """One request of the API, whose function is known and who may be answered."""

    __slots__ = (
        "_dispatcher",
        "_exchange",
        "_function",
        "_invocation",
        "_target",
        "_wants_tail",
        "details",
        "event",
        "http_target",
        "is_async",
        "on_end",
        "request_id",
    )

    def __init__(
        self,
        exchange: Exchange,
        target: Target,
        function: Reachable,
        request_id: str,
        details: Details,
    ) -> None:
        """Read what is asked for beside the function.

        Raises:
            Refusal: it is asked for in a way that is not known.
        """
        self._exchange = exchange
        self._target = target
        self._function = function
        self._dispatcher = function.dispatcher
        self._invocation: Invocation | None = None
        self.request_id = request_id
        self.details: Details = details
        self.event: Body = exchange.request.event()
        #: called when it is over, whatever came of it
        self.on_end: Callable[[], object] | None = None
        #: what an HTTP function is asked for; empty where it is given an event
        self.http_target = self._http_target()
        #: whether nobody waits for the outcome
        self.is_async = self._is_async()
        self._wants_tail = self._said("X_FC_LOG_TYPE").lower() == "tail"

    def _said(self, name: str) -> str:
        """Return what a header says, in CGI's spelling of its name."""
        value: str = self._exchange.request.headers.get(name, "")
        return value.strip()

    def _http_target(self) -> str:
        if self._target.base_path:
            return target_of(self._exchange)
        if self._said("X_FC_EVENT_TYPE").lower() == _HTTP_EVENT:
            path = self._said("X_FC_HTTP_PATH")
            return path if path.startswith("/") else "/" + path
        return ""

    def _is_async(self) -> bool:
        said = self._said("X_FC_INVOCATION_TYPE").lower() or _SYNC
        if said not in (_SYNC, _ASYNC):
            raise Refusal(
                "InvalidArgument",
                f"x-fc-invocation-type '{said}' is not known: give Sync or Async",
            )
        return said == _ASYNC and not self.http_target

    def answer(self, answer: Answer) -> None:
        """Answer, once."""
        self._exchange.answer(self.complete(answer))

    def refuse(self, refusal: Refusal) -> None:
        """Answer without the function."""
        self.answer(refusal.answer(self.request_id))

    def complete(self, answer: Answer) -> Answer:
        """Add what every answer carries."""
        answer.headers.append(("X-Fc-Request-Id", self.request_id))
        answer.close = answer.close or self._dispatcher.is_draining
        return answer

    # A task.

    def become_task(self, tasks: Tasks) -> None:
        """Have the event dealt with later, and say so.

        Raises:
            Refusal: there can be no such task.
        """
        if len(self.event) > MAX_EVENT_BYTES:
            raise answers.too_large(MAX_EVENT_BYTES)
        given = self._said("X_FC_ASYNC_TASK_ID") or self._said(
            "X_FC_STATEFUL_ASYNC_INVOCATION_ID"
        )
        task = Task(
            given,
            self.request_id,
            self._function,
            self._target,
            bytes(cast("bytes", self.event)),
            self._exchange.request.headers,
        )
        tasks.accept(task)
        answer = Answer(202, b"", _OCTETS, "200", [])
        answer.headers.append(answers.task_header(self._target.version, task.task_id))
        self.answer(answer)

    # An event whose outcome is waited for.

    def invoke(self) -> None:
        """Have the function take the event."""
        self._submit(
            event_invocation(
                self._function,
                self._target,
                self.request_id,
                self.event,
                self._exchange.request.headers,
                self.done,
            )
        )

    def _submit(self, invocation: Invocation) -> None:
        dispatcher = self._dispatcher
        self._invocation = invocation
        invocation.is_measured = True
        if self._wants_tail:
            dispatcher.journal.keep_tail(self.request_id)
        self._exchange.on_client_left = lambda: dispatcher.abandon(invocation)
        dispatcher.submit(invocation)

    def done(self, outcome: Outcome) -> None:
        """Answer with what came of the event."""
        assert self._invocation is not None
        self.answer_with(
            outcome, answers.event_answer(self._invocation, outcome, self.details)
        )
        self.end()

    def answer_with(self, outcome: Outcome, answer: Answer) -> None:
        """Answer with an outcome, and with what is known of its invocation."""
        refusal = answers.refusal_of(outcome)
        invocation = self._invocation
        assert invocation is not None
        if refusal is not None:
            answer = refusal.answer(self.request_id)
        else:
            now, qualifier = self._dispatcher.now(), self._target.qualifier
            answers.add_facts(answer, invocation, outcome, now, qualifier)
        if self._wants_tail:
            tail = self._dispatcher.journal.take_tail(self.request_id)
            answers.add_tail(answer, tail)
        self.answer(answer)

    def end(self) -> None:
        """Forget it: nothing more comes of it."""
        if self._wants_tail:
            self._dispatcher.journal.take_tail(self.request_id)
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end()

    # A request to an HTTP function.

    def pass_on(self) -> None:
        """Have the function answer the request itself."""
        exchange, request = self._exchange, self._exchange.request
        reply = _Reply(self, exchange)
        headers = http_headers(
            self._function, self._target, self.request_id, request.headers
        )
        # The end of the log is a header: with it no body can go ahead of its end.
        may_stream = not self._wants_tail
        invocation = Invocation(
            Phase.INVOKE,
            self.request_id,
            fc.encode_context(headers),
            self.event,
            reply.done,
            self._dispatcher.now(),
            None,
            as_http(exchange, self.http_target, headers, self.event, may_stream),
            reply,
        )
        dispatcher = self._dispatcher
        exchange.on_relief = lambda: dispatcher.stream_relieved(invocation)
        self._submit(invocation)


class _Reply(HttpReply):
    """The answer of an HTTP function to somebody who asked the gateway for it."""

    __slots__ = ("_call",)

    def __init__(self, call: Call, exchange: Exchange) -> None:
        super().__init__(exchange, on_platform=True)
        self._call = call

    def done(self, outcome: Outcome) -> None:
        super().done(outcome)
        self._call.end()

    def complete(self, answer: Answer) -> Answer:
        return self._call.complete(answer)

    def answer_whole(self, outcome: Outcome) -> None:
        call = self._call
        if isinstance(outcome, NotAnHttpFunction):
            text = "the function takes events, and no HTTP requests"
            call.refuse(Refusal("InvalidArgument", text))
        else:
            call.answer_with(outcome, answers.http_answer(outcome, call.details))
