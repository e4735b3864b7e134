"""Running an ASGI application (version 3) for one HTTP request after the other.

The application lives on the worker's event loop, which outlives the request: tasks and
connections that it keeps go on when the next one comes. Its lifespan begins with the
first request of the worker, since a loop cannot be taken along through a fork, and ends
with the worker.
"""

from __future__ import annotations

import asyncio
import atexit
import traceback
from urllib.parse import unquote

from isoruntime.contract.http import Request, encode_head
from isoruntime.typed import TYPE_CHECKING, Any, Final
from isoruntime.wire.frames import Kind
from isoruntime.worker.coroutines import DeadlinePassed, event_loop, wait_for
from isoruntime.worker.wsgi import client_of, scheme_of, split_base

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from isoruntime.worker.functions import Call, Reply, Runner

    Message = dict[str, Any]
    Application = Callable[..., Coroutine[Any, Any, object]]

#: How often to look whether the client of an answer in pieces has gone.
_LOOK_S: Final = 0.1
#: What the application gets to end its lifespan; the pool waits no longer than 1 s.
_SHUTDOWN_S: Final = 0.8
#: What an application has to return after its answer is complete, before that is sent
#: ahead of whatever it still has to do.
_AHEAD_S: Final = 0.002


def asgi_runner(application: Application) -> Runner:
    """Return what answers a call with an ASGI application."""
    lifespan = _Lifespan(application)

    def run(call: Call) -> Reply:
        exchange = _Exchange(call, application, lifespan)
        try:
            wait_for(exchange.run(), call.deadline, call.note_cancellation)
        except DeadlinePassed:
            return Kind.CANCELLED, b"", b""
        return exchange.reply()

    return run


class _Lifespan:
    """Start and end of the application in one worker, if it cares to know."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._is_begun = False
        self._task: asyncio.Task[object] | None = None
        self.state: dict[str, Any] = {}

    async def begin(self) -> None:
        """Tell the application to start, once.

        Raises:
            RuntimeError: it says that it cannot.
        """
        if self._is_begun:
            return
        self._to_application: asyncio.Queue[Message] = asyncio.Queue()
        self._from_application: asyncio.Queue[Message] = asyncio.Queue()
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        self._task = asyncio.ensure_future(
            self._application(
                scope, self._to_application.get, self._from_application.put
            )
        )
        message = await self._told("lifespan.startup")
        if message.get("type") == "lifespan.startup.failed":
            raise RuntimeError(
                f"the application does not start: {message.get('message') or 'no reason'}"
            )
        self._is_begun = True
        if self._task is not None:
            atexit.register(self._end)

    async def _told(self, what: str) -> Message:
        """Tell it something; return its answer, none if it does not listen."""
        assert self._task is not None
        await self._to_application.put({"type": what})
        answer = asyncio.ensure_future(self._from_application.get())
        await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        # Many know no lifespan and say so by raising.
        self._task.exception()
        self._task = None
        return {}

    def _end(self) -> None:
        loop = event_loop()
        if self._task is None or self._task.done() or loop.is_running():
            return
        ending = asyncio.wait_for(self._told("lifespan.shutdown"), _SHUTDOWN_S)
        try:
            loop.run_until_complete(ending)
        except (asyncio.TimeoutError, RuntimeError):
            return


class _Exchange:
    """One request, and what the application answers."""

    def __init__(
        self, call: Call, application: Application, lifespan: _Lifespan
    ) -> None:
        self._call = call
        self._request = Request.decode(call.http_request)
        self._application = application
        self._lifespan = lifespan
        self._is_body_taken = False
        self._start: Message | None = None
        self._held: list[bytes] = []
        self._has_begun = False
        self._is_complete = False
        self._is_over = False
        #: sends an answer that is complete ahead of what the application still does
        self._ahead: asyncio.TimerHandle | None = None
        #: wakes whoever listens for the client to go
        self._listener: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Have the application answer."""
        await self._lifespan.begin()
        scope = _scope_of(self._call, self._request, self._lifespan.state)
        try:
            await self._application(scope, self._receive, self._send)
        except Exception:
            if not self._is_complete:
                raise
            # Frameworks answer with a page of their own and then raise, for the log.
            traceback.print_exc()
        finally:
            self._end()

    def _end(self) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
        self._is_over = True
        self._wake()

    async def _receive(self) -> Message:
        if not self._is_body_taken:
            self._is_body_taken = True
            return {
                "type": "http.request",
                "body": self._call.body,
                "more_body": False,
            }
        # Nothing more comes of the client but its going away.
        loop = asyncio.get_running_loop()
        while not (self._is_over or self._is_complete or self._call.is_cancelled):
            self._listener = loop.create_future()
            look = loop.call_later(_LOOK_S, self._wake)
            try:
                await self._listener
            finally:
                look.cancel()
        return {"type": "http.disconnect"}

    def _wake(self) -> None:
        if self._listener is not None and not self._listener.done():
            self._listener.set_result(None)

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start" and self._start is None:
            self._start = message
            # Now, where the application can be blamed for it.
            self._head()
        elif kind == "http.response.body" and self._start is not None:
            self._take(bytes(message.get("body", b"")), message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind} is out of turn here")

    def _take(self, piece: bytes, has_more: bool) -> None:
        if self._is_complete:
            raise RuntimeError("the body was complete already")
        if self._request.method == "HEAD":
            piece = b""
        if self._has_begun:
            self._call.send(piece)
        else:
            self._held.append(piece)
            if has_more and piece and self._request.may_stream:
                self._begin(-1)
        if not has_more:
            self._is_complete = True
            self._wake()
            if self._request.may_stream and not self._has_begun:
                loop = asyncio.get_running_loop()
                self._ahead = loop.call_later(_AHEAD_S, self._send_ahead)

    def _send_ahead(self) -> None:
        """Send the whole answer: its client need not wait for what is done after it."""
        self._begin(sum(map(len, self._held)))

    def _begin(self, length: int) -> None:
        self._has_begun = True
        self._call.begin(self._head(length))
        held, self._held = b"".join(self._held), []
        if held:
            self._call.send(held)

    def _head(self, length: int = -1) -> bytes:
        assert self._start is not None
        headers = [
            (bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
            for name, value in self._start.get("headers", ())
        ]
        if length >= 0 and not any(
            name.lower() == "content-length" for name, _ in headers
        ):
            headers.append(("content-length", str(length)))
        return encode_head(self._start["status"], "", headers, with_length=True)

    def reply(self) -> Reply:
        """Return the frame that ends the answer."""
        if not self._is_complete:
            raise RuntimeError(
                "the application returned before its answer was complete"
            )
        if self._has_begun:
            return Kind.END, b"", b""
        body = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        return Kind.RESPONSE, self._head(), body


def _scope_of(call: Call, request: Request, state: dict[str, Any]) -> dict[str, Any]:
    headers = request.headers()
    base, _ = split_base(request.path, headers)
    host, _, port = headers.get("HOST", "").rpartition(":")
    client = client_of(request, headers)
    raw_path = request.target.partition("?")[0]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": scheme_of(request, headers),
        "path": unquote(raw_path),
        "raw_path": raw_path.encode("latin-1"),
        "query_string": request.query.encode("latin-1"),
        "root_path": unquote(base),
        "headers": [
            (name.lower(), value)
            for name, _, value in (
                line.partition(b": ") for line in request.fields.split(b"\r\n")[:-1]
            )
        ],
        "client": (client, 0) if client else None,
        "server": (host, int(port)) if port.isdigit() else None,
        "state": state.copy(),
        "extensions": {
            "fc": {"context": call.context, "request_uri": request.target},
        },
    }
