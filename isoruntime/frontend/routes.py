"""What each request means, and what it is answered.

`x-fc-control-path: /http-invoke` wins over the path: there the path is the
client's own (fc-contract.md 1.1). The rest is decided by path and method.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from urllib.parse import unquote_to_bytes

from waitress.utilities import BadRequest

from isoruntime.contract import headers as fc
from isoruntime.contract.answer import (
    Answer,
    answer_of,
    answer_with,
    http_answer_of,
)
from isoruntime.contract.http import Request as HttpRequest
from isoruntime.contract.http import Response, ResponseHead, split_target
from isoruntime.dispatch.invocation import Invocation, Outcome, Phase
from isoruntime.errors import EventTooLarge, InvocationError, NotAnHttpFunction
from isoruntime.typed import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from isoruntime.contract.answer import Details, Mode
    from isoruntime.dispatch.dispatcher import Dispatcher
    from isoruntime.frontend.http import Exchange, Parser
    from isoruntime.wire.pipes import Body

_JSON: Final = "application/json"
_GET: Final = ("GET", "HEAD")
# As in `dispatch.lease`: for what every invocation asks.
_INVOKE: Final = Phase.INVOKE

_EXPLANATION: Final = (
    "This is an event function. It is invoked with POST /invoke and the event as the "
    'body, for example: curl --data-binary \'{"key": "value"}\' '
    "http://HOST:PORT/invoke. On Function Compute the platform calls /invoke for you: "
    "invoke the function through the API, an SDK or a trigger. A browser or cURL "
    "reaches a function only through an HTTP trigger, best at its *.fcapp.run address "
    "or a custom domain: at https://ACCOUNT.REGION.fc.aliyuncs.com the whole path "
    "/2016-08-15/proxy/SERVICE/FUNCTION/... is passed on."
)
_HTTP_ONLY_EXPLANATION: Final = (
    "This is an HTTP function, which takes no events: ask it by a path of its own. Name a "
    "handler to have it take events as well."
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


class Speaks(NamedTuple):
    """What a function can be asked."""

    #: whether it takes events, by `/invoke`
    events: bool = True
    #: whether it is asked what the platform passes on from HTTP triggers. A handler may
    #: turn out to be for events only; then it says so itself.
    http_by_platform: bool = True
    #: whether it gets every path that is not the runtime's own
    http_by_path: bool = False
    #: whether it is a server that wants its events and hooks as HTTP requests, too
    only_http: bool = False


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
        speaks: Speaks | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._speaks = speaks = speaks or Speaks()
        self._health = health
        self._max_event_bytes = max_event_bytes
        self._error_mode = error_mode
        self.error_details = error_details
        hooks = ("GET", "POST")
        self._paths: dict[str, tuple[tuple[str, ...], Callable[[Exchange], None]]] = {
            "/invoke": (
                ("POST",),
                self._work(Phase.INVOKE) if speaks.events else self.answer_not_found,
            ),
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
            if self._speaks.http_by_platform:
                self._pass_on(exchange, on_platform=True)
            else:
                self.answer_not_found(exchange)
            return
        known = self._paths.get(request.path)
        if known is None:
            if self._speaks.http_by_path:
                self._pass_on(exchange, on_platform=False)
            else:
                self.answer_not_found(exchange)
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
        context, timeout_s = _told(request, phase)
        event = request.event() if phase is _INVOKE else b""
        invocation = Invocation(
            phase,
            request_id,
            context,
            event,
            done,
            dispatcher.now(),
            timeout_s,
            _as_http(exchange, event, may_stream=False)
            if self._speaks.only_http
            else None,
        )
        exchange.on_client_left = lambda: dispatcher.abandon(invocation)
        dispatcher.submit(invocation)

    def _pass_on(self, exchange: Exchange, *, on_platform: bool) -> None:
        """Have an HTTP function answer a request, whatever its method and path."""
        request = exchange.request
        headers = request.headers
        reply = _RoutesReply(self, exchange, fc.request_id(headers), on_platform)
        if request.is_too_large:
            size = request.content_length or None
            reply.done(EventTooLarge(self._max_event_bytes, size))
            return
        dispatcher, event = self._dispatcher, request.event()
        context, timeout_s = _told(request, Phase.INVOKE)
        invocation = Invocation(
            Phase.INVOKE,
            reply.request_id,
            context,
            event,
            reply.done,
            dispatcher.now(),
            timeout_s,
            _as_http(exchange, event, may_stream=True),
            reply,
        )
        exchange.on_client_left = lambda: dispatcher.abandon(invocation)
        exchange.on_relief = lambda: dispatcher.stream_relieved(invocation)
        dispatcher.submit(invocation)

    def _answer_outcome(
        self, exchange: Exchange, request_id: str, outcome: Outcome
    ) -> None:
        self.send(
            exchange,
            request_id,
            answer_of(outcome, self._error_mode, self.error_details),
        )

    def send(self, exchange: Exchange, request_id: str, answer: Answer) -> None:
        """Answer with what every answer carries."""
        exchange.answer(self.complete(answer, request_id))

    def complete(self, answer: Answer, request_id: str) -> Answer:
        """Add what every answer carries."""
        answer.headers.append(("x-fc-status", answer.fc_status))
        answer.headers.append(("x-fc-request-id", request_id))
        if self._dispatcher.is_draining:
            answer.close = True
        return answer

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

    def answer_not_found(self, exchange: Exchange, why: str = "") -> None:
        """Say what can be asked for here, or else `why` it cannot."""
        usual = _EXPLANATION if self._speaks.events else _HTTP_ONLY_EXPLANATION
        body: dict[str, Any] = {"errorType": "NotFound", "errorMessage": why or usual}
        if not why:
            body["requests"] = _KNOWN_REQUESTS
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


class HttpReply:
    """The answer of an HTTP function on its way to the client: a `dispatch` stream."""

    __slots__ = ("_exchange", "_has_begun", "_on_platform")

    def __init__(self, exchange: Exchange, on_platform: bool) -> None:
        self._exchange = exchange
        self._on_platform = on_platform
        self._has_begun = False

    def begin(self, head: ResponseHead) -> None:
        """Send status and headers, ahead of the body."""
        self._has_begun = True
        answer = answer_with(
            Response(head, is_streamed=True), on_platform=self._on_platform
        )
        self._exchange.begin(self.complete(answer))

    def send(self, data: bytes | bytearray) -> bool:
        """Send a piece of the body; return whether there is room for the next one."""
        return self._exchange.send(data)

    def done(self, outcome: Outcome) -> None:
        """Send what is left to be sent, or have the client see that something is not."""
        exchange = self._exchange
        if not self._has_begun:
            self.answer_whole(outcome)
        elif isinstance(outcome, Response):
            exchange.end()
        else:
            exchange.cut_off()

    def complete(self, answer: Answer) -> Answer:
        """Add what every answer carries."""
        raise NotImplementedError

    def answer_whole(self, outcome: Outcome) -> None:
        """Answer with an outcome of which nothing has been sent."""
        raise NotImplementedError


class _RoutesReply(HttpReply):
    """One to somebody who asked the runtime itself."""

    __slots__ = ("_routes", "request_id")

    def __init__(
        self, routes: Routes, exchange: Exchange, request_id: str, on_platform: bool
    ) -> None:
        super().__init__(exchange, on_platform)
        self._routes = routes
        self.request_id = request_id

    def complete(self, answer: Answer) -> Answer:
        return self._routes.complete(answer, self.request_id)

    def answer_whole(self, outcome: Outcome) -> None:
        if isinstance(outcome, NotAnHttpFunction):
            self._routes.answer_not_found(self._exchange)
            return
        answer = http_answer_of(
            outcome, self._routes.error_details, on_platform=self._on_platform
        )
        self._exchange.answer(self.complete(answer))


def _told(request: Parser, phase: Phase) -> tuple[bytes, float | None]:
    """Return the context of a request and the platform's limit, worked out once."""
    told: tuple[bytes, float | None] | None = request.notes.get(phase)
    if told is None:
        headers = request.headers
        limit_of = (
            fc.function_timeout_s
            if phase is Phase.INVOKE
            else fc.initialization_timeout_s
        )
        told = fc.encode_context(headers), limit_of(headers)
        request.notes[phase] = told
    return told


def _as_http(exchange: Exchange, body: Body, *, may_stream: bool) -> bytes:
    """Return a request as a worker that speaks HTTP gets it."""
    headers = exchange.request.headers
    return as_http(exchange, target_of(exchange), headers, body, may_stream)


def target_of(exchange: Exchange) -> str:
    """Return what a request asks for, path and query as they were sent."""
    request = exchange.request
    target: str = request.request_uri
    if not target.startswith("/"):
        # A proxy's form, or `*`: what it leads to is what counts here.
        target = request.path + ("?" + request.query if request.query else "")
    return target


def as_http(
    exchange: Exchange,
    target: str,
    headers: dict[str, str],
    body: Body,
    may_stream: bool,
) -> bytes:
    """Return a request with another target and other headers, as a worker gets it."""
    request = exchange.request
    path, query = request.path, request.query
    if target != request.request_uri:
        path, query = split_target(target)
        path = unquote_to_bytes(path).decode("latin-1")
    return HttpRequest.with_headers(
        headers,
        len(body),
        method=request.command,
        target=target,
        path=path,
        query=query,
        scheme=request.url_scheme,
        client=exchange.client,
        may_stream=may_stream,
    ).encode()


def load_failure(error: InvocationError) -> str:
    """Return one line that says why the handler does not load."""
    body = getattr(error, "body", None)
    if isinstance(body, bytes):
        try:
            return f"{error.error_type}: {json.loads(body)['errorMessage']}"
        except (ValueError, KeyError, TypeError):
            pass
    return f"{error.error_type}: {error}"
