"""The admin port: answers operators, on a port of its own and the same loop.

GET /status                   what is served, by which workers, with which settings
GET /async-invocations        what became of asynchronous invocations
GET /async-invocations/ID     all that is known of one of them
"""

from __future__ import annotations

import hmac
import json
import logging
from urllib.parse import parse_qs, unquote

from isoruntime.admin.status import status_of
from isoruntime.contract import headers as fc
from isoruntime.contract.answer import Answer
from isoruntime.frontend.http import HttpServer
from isoruntime.typed import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from isoruntime.admin.status import Subject
    from isoruntime.frontend.gateway.tasks import Tasks
    from isoruntime.frontend.http import Exchange
    from isoruntime.loop import Loop

_JSON: Final = "application/json"
_TASKS: Final = "/async-invocations"
#: Nobody has anything to send here.
_MAX_BODY_BYTES: Final = 64 * 1024
_MAX_CONNECTIONS: Final = 64
#: What one list shows, unless told otherwise.
_LISTED: Final = 100
_MOST_LISTED: Final = 1000

_log = logging.getLogger("isoruntime")


class AdminPort:
    """Serves what an operator asks for; nothing here changes anything."""

    def __init__(
        self,
        loop: Loop,
        sockets: Sequence[socket.socket],
        subject: Subject,
        tasks: Tasks | None,
        token: str,
    ) -> None:
        """`tasks` are the gateway's, if there is one; an empty token lets everybody in."""
        self._subject = subject
        self._tasks = tasks
        self._token = token.encode()
        self._http = HttpServer(
            loop,
            sockets,
            self._route,
            max_event_bytes=_MAX_BODY_BYTES,
            connection_limit=_MAX_CONNECTIONS,
        )
        host, port = sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        _log.info("the admin port is http://%s:%d", shown, port)

    def close(self) -> None:
        """Stop listening, and let everybody go."""
        self._http.stop_listening()
        self._http.close_connections()

    def _route(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.error is not None:
            problem = f"{request.error.reason}: {request.error.body}"
            _refuse(exchange, request.error.code, problem, close=True)
        elif not self._may_ask(request.headers.get("AUTHORIZATION", "")):
            challenge = ("WWW-Authenticate", "Bearer")
            text = "give the token in ISORUNTIME_ADMIN_TOKEN as Authorization: Bearer TOKEN"
            _refuse(exchange, 401, text, challenge)
        elif request.command not in ("GET", "HEAD"):
            _refuse(
                exchange, 405, "nothing can be changed here", ("Allow", "GET, HEAD")
            )
        else:
            self._show(exchange, request.path, request.query)

    def _may_ask(self, authorization: str) -> bool:
        if not self._token:
            return True
        scheme, _, given = authorization.partition(" ")
        # In the time that it takes for any token of this length.
        is_token = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        return is_token and scheme.lower() == "bearer"

    def _show(self, exchange: Exchange, path: str, query: str) -> None:
        if path == "/status":
            _answer(exchange, 200, status_of(self._subject))
        elif path == _TASKS:
            self._list_tasks(exchange, query)
        elif path.startswith(_TASKS + "/"):
            self._show_task(exchange, unquote(path[len(_TASKS) + 1 :]))
        else:
            text = f"there is /status, {_TASKS} and {_TASKS}/ID, and no {path}"
            _refuse(exchange, 404, text)

    def _list_tasks(self, exchange: Exchange, query: str) -> None:
        if self._tasks is None:
            _refuse(exchange, 404, "asynchronous invocations need --gateway")
            return
        wanted = parse_qs(query)
        limit = wanted.get("limit", [""])[-1]
        most = min(int(limit), _MOST_LISTED) if limit.isdecimal() else _LISTED
        status = wanted.get("status", [""])[-1].lower()
        shown: list[dict[str, Any]] = []
        for task in self._tasks.newest_first():
            if len(shown) >= most:
                break
            if status in ("", task.status.value.lower()):
                shown.append(task.summary())
        body = {"asyncInvocations": shown, "unfinished": self._tasks.unfinished}
        _answer(exchange, 200, body)

    def _show_task(self, exchange: Exchange, task_id: str) -> None:
        task = self._tasks.find(task_id) if self._tasks is not None else None
        if task is None:
            text = (
                f"no asynchronous invocation '{task_id[:200]}' is known, or known still"
            )
            _refuse(exchange, 404, text)
        else:
            _answer(exchange, 200, task.details())


def _refuse(
    exchange: Exchange,
    status: int,
    text: str,
    *extra: tuple[str, str],
    close: bool = False,
) -> None:
    _answer(exchange, status, {"errorMessage": text}, *extra, close=close)


def _answer(
    exchange: Exchange,
    status: int,
    body: dict[str, Any],
    *extra: tuple[str, str],
    close: bool = False,
) -> None:
    headers = [
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("x-fc-request-id", fc.request_id(exchange.request.headers)),
        *extra,
    ]
    text = json.dumps(body, indent=4).encode() + b"\n"
    exchange.answer(Answer(status, text, _JSON, "200", headers, close))
