"""Answers the invocation API: finds the function, checks the signature, has it run."""

from __future__ import annotations

from isoruntime.contract import headers as fc
from isoruntime.frontend.gateway import answers, paths
from isoruntime.frontend.gateway.calls import Call
from isoruntime.frontend.gateway.refusals import Refusal
from isoruntime.frontend.routes import target_of
from isoruntime.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from isoruntime.contract.answer import Details
    from isoruntime.frontend.gateway.functions import Functions
    from isoruntime.frontend.gateway.signatures import Verifier
    from isoruntime.frontend.gateway.tasks import Tasks
    from isoruntime.frontend.http import Exchange


class Gateway:
    """The API, for as many functions as there are."""

    def __init__(
        self,
        functions: Functions,
        tasks: Tasks,
        *,
        details: Details = "summary",
        verifier: Verifier | None = None,
    ) -> None:
        self._functions = functions
        self._tasks = tasks
        self._details: Details = details
        self._verifier = verifier
        #: ids of the calls that are not answered yet, so that each has its own
        self._open: set[str] = set()

    def takes(self, exchange: Exchange) -> bool:
        """Tell whether a request is one of the API's."""
        request = exchange.request
        if request.error is not None or request.version not in ("1.0", "1.1"):
            return False
        return paths.is_of_api(target_of(exchange))

    def route(self, exchange: Exchange) -> None:
        """Answer a request of the API, now or when its outcome is known."""
        request_id = fc.request_id(exchange.request.headers)
        if request_id in self._open:
            # Two at once must not share a log.
            request_id = fc.request_id({})
        try:
            self._begin(exchange, request_id)
        except Refusal as refusal:
            answer = refusal.answer(request_id)
            answer.headers.append(("X-Fc-Request-Id", request_id))
            answer.close = self._functions.is_draining
            exchange.answer(answer)

    def _begin(self, exchange: Exchange, request_id: str) -> None:
        request = exchange.request
        path, _, query = target_of(exchange).partition("?")
        target = paths.target_of(path, query)
        # Who is not known is not told which functions there are either.
        wanted = self._check_signature(exchange, path, query, target)
        function = self._functions.find(target.function)
        call = Call(exchange, target, function, request_id, self._details)
        if request.command != "POST" and not call.http_target:
            raise Refusal(
                "MethodNotAllowed", f"{path} takes POST, not {request.command}", "POST"
            )
        limit = function.max_event_bytes
        if request.is_too_large or len(call.event) > limit:
            raise answers.too_large(limit)
        if wanted:
            self._check_body(exchange, call, wanted)
        else:
            self._dispatch(call)

    def _check_signature(
        self, exchange: Exchange, path: str, query: str, target: paths.Target
    ) -> str:
        if self._verifier is None:
            return ""
        from isoruntime.frontend.gateway.signatures import Request

        request = exchange.request
        is_http = bool(target.base_path)
        return self._verifier.check(
            Request(request.command, path, query, request.headers, is_http)
        )

    def _check_body(self, exchange: Exchange, call: Call, wanted: str) -> None:
        from isoruntime.frontend.gateway.digest import BodyDigest
        from isoruntime.frontend.gateway.signatures import wrong_body

        def known(digest: str) -> None:
            if digest == wanted:
                self._dispatch_or_refuse(call)
            else:
                call.refuse(wrong_body())

        digest = BodyDigest(call.event, self._tasks.call_later, known)
        # The file of a large body goes with its client.
        exchange.on_client_left = digest.give_up
        digest.begin()

    def _dispatch_or_refuse(self, call: Call) -> None:
        try:
            self._dispatch(call)
        except Refusal as refusal:
            call.refuse(refusal)

    def _dispatch(self, call: Call) -> None:
        if call.is_async:
            call.become_task(self._tasks)
            return
        self._open.add(call.request_id)
        call.on_end = lambda: self._open.discard(call.request_id)
        if call.http_target:
            call.pass_on()
        else:
            call.invoke()
