"""What each request means, and what it is answered.

`x-fc-control-path: /http-invoke` wins over the path: there the path is the
client's own (fc-contract.md 1.1). The rest is decided by path and method.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from waitress.utilities import BadRequest

from isoruntime.contract import headers as fc
from isoruntime.contract.answer import Answer, answer_of
from isoruntime.dispatch.invocation import Invocation, Outcome, Phase
from isoruntime.errors import EventTooLarge, InvocationError

if TYPE_CHECKING:
    from isoruntime.contract.answer import Details, Mode
    from isoruntime.dispatch.dispatcher import Dispatcher
    from isoruntime.frontend.http import Exchange

_JSON: Final = "application/json"
_GET: Final = ("GET", "HEAD")

_EXPLANATION: Final = (
    "This is an event function. It is invoked with POST /invoke and the event as the "
    'body, for example: curl --data-binary \'{"key": "value"}\' '
    "http://HOST:PORT/invoke. On Function Compute the platform calls /invoke for you: "
    "invoke the function through the API, an SDK or a trigger. A browser or cURL "
    "reaches a function only through an HTTP trigger, best at its *.fcapp.run address "
    "or a custom domain: at https://ACCOUNT.REGION.fc.aliyuncs.com the whole path "
    "/2016-08-15/proxy/SERVICE/FUNCTION/... is passed on."
)
_KNOWN_REQUESTS: Final = {
    "POST /invoke": "run the handler on the body",
    "POST /initialize": "run the initializer",
    "GET or POST /pre-stop": "run the pre-stop hook",
    "GET or POST /pre-freeze": "run the pre-freeze hook",
    "GET /health": "200 while the runtime can serve or will soon",
    "GET /live": "200 while the front end runs",
}


class Health:
    """What `/health` says, put together by whoever knows."""

    __slots__ = ("is_up", "reason", "status")

    def __init__(self, is_up: bool, status: str, reason: str = "") -> None:
        self.is_up = is_up
        self.status = status
        self.reason = reason


class Routes:
    """Answers every request that comes in."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        health: Callable[[], Health],
        *,
        max_event_bytes: int,
        error_mode: Mode = "fc",
        error_details: Details = "summary",
    ) -> None:
        self._dispatcher = dispatcher
        self._health = health
        self._max_event_bytes = max_event_bytes
        self._error_mode = error_mode
        self._error_details = error_details
        hooks = ("GET", "POST")
        self._paths: dict[str, tuple[tuple[str, ...], Callable[[Exchange], None]]] = {
            "/invoke": (("POST",), self._work(Phase.INVOKE)),
            "/initialize": (("POST",), self._work(Phase.INITIALIZE)),
            "/pre-stop": (hooks, self._work(Phase.PRE_STOP)),
            "/pre-freeze": (hooks, self._work(Phase.PRE_FREEZE)),
            "/health": (_GET, self._answer_health),
            "/live": (_GET, self._answer_live),
        }

    def route(self, exchange: Exchange) -> None:
        """Answer a request, now or when its outcome is known."""
        request = exchange.request
        if request.error is not None:
            self._answer_malformed(exchange, request.error)
            return
        if request.version not in ("1.0", "1.1"):
            self._answer_malformed(
                exchange, BadRequest("HTTP/1.1 or 1.0 is spoken here")
            )
            return
        if fc.control_path(request.headers) == "/http-invoke":
            self._answer_not_found(exchange)
            return
        known = self._paths.get(request.path)
        if known is None:
            self._answer_not_found(exchange)
            return
        methods, serve = known
        if request.command in methods:
            serve(exchange)
        else:
            self._answer_wrong_method(exchange, methods)

    # Work for a worker.

    def _work(self, phase: Phase) -> Callable[[Exchange], None]:
        def serve(exchange: Exchange) -> None:
            self._submit(exchange, phase)

        return serve

    def _submit(self, exchange: Exchange, phase: Phase) -> None:
        request = exchange.request
        headers = request.headers
        request_id = fc.request_id(headers)

        def done(outcome: Outcome) -> None:
            self._answer_outcome(exchange, request_id, outcome)

        if request.is_too_large:
            size = request.content_length or None
            done(EventTooLarge(self._max_event_bytes, size))
            return
        dispatcher = self._dispatcher
        timeout_s = (
            fc.function_timeout_s(headers)
            if phase is Phase.INVOKE
            else fc.initialization_timeout_s(headers)
        )
        invocation = Invocation(
            phase,
            request_id,
            fc.encode_context(headers),
            request.event() if phase is Phase.INVOKE else b"",
            done,
            dispatcher.now(),
            timeout_s,
        )
        exchange.on_client_left = lambda: dispatcher.abandon(invocation)
        dispatcher.submit(invocation)

    def _answer_outcome(
        self, exchange: Exchange, request_id: str, outcome: Outcome
    ) -> None:
        answer = answer_of(outcome, self._error_mode, self._error_details)
        answer.headers.append(("x-fc-status", answer.fc_status))
        answer.headers.append(("x-fc-request-id", request_id))
        if self._dispatcher.is_draining:
            answer.close = True
        exchange.answer(answer)

    # What the front end knows by itself.

    def _answer_health(self, exchange: Exchange) -> None:
        health = self._health()
        body: dict[str, Any] = {"status": health.status}
        if health.reason:
            body["reason"] = health.reason
        extra = [] if health.is_up else [("Retry-After", "1")]
        self._answer_json(exchange, 200 if health.is_up else 503, body, extra)

    def _answer_live(self, exchange: Exchange) -> None:
        self._answer_json(exchange, 200, {"status": "live"})

    def _answer_not_found(self, exchange: Exchange) -> None:
        body = {
            "errorType": "NotFound",
            "errorMessage": _EXPLANATION,
            "requests": _KNOWN_REQUESTS,
        }
        self._answer_json(exchange, 404, body)

    def _answer_wrong_method(
        self, exchange: Exchange, methods: tuple[str, ...]
    ) -> None:
        request, allowed = exchange.request, ", ".join(methods)
        body = {
            "errorType": "MethodNotAllowed",
            "errorMessage": f"{request.path} takes {allowed}, not {request.command}",
        }
        self._answer_json(exchange, 405, body, [("Allow", allowed)])

    def _answer_malformed(self, exchange: Exchange, error: Any) -> None:
        body = {
            "errorType": error.reason.title().replace(" ", ""),
            "errorMessage": f"{error.reason}: {error.body}",
        }
        self._answer_json(exchange, error.code, body, close=True)

    def _answer_json(
        self,
        exchange: Exchange,
        status: int,
        body: Mapping[str, Any],
        extra: list[tuple[str, str]] | None = None,
        *,
        close: bool = False,
    ) -> None:
        answer = Answer(
            status,
            json.dumps(body, indent=4).encode() + b"\n",
            _JSON,
            "200" if status == 200 else "404",
            [
                *(extra or []),
                ("x-fc-request-id", fc.request_id(exchange.request.headers)),
            ],
            close or self._dispatcher.is_draining,
        )
        answer.headers.append(("x-fc-status", answer.fc_status))
        exchange.answer(answer)


def load_failure(error: InvocationError) -> str:
    """Return one line that says why the handler does not load."""
    body = getattr(error, "body", None)
    if isinstance(body, bytes):
        try:
            return f"{error.error_type}: {json.loads(body)['errorMessage']}"
        except (ValueError, KeyError, TypeError):
            pass
    return f"{error.error_type}: {error}"
