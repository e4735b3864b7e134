"""What every other server needs to run a handler: find it, make a context, encode.

All of them do this work with these functions, so that they differ in nothing else. It
is what the sample handlers need and no more: it writes no Start and End lines, limits
nothing and notices nothing. What that saves is counted in the other server's favour.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

#: Names the handler, as `module.function`.
HANDLER_VARIABLE: Final = "BENCHMARK_HANDLER"

Handler = Callable[[bytes, Any], Any]
Start = Callable[[str, list[tuple[str, str]]], object]


class Answer(NamedTuple):
    """What is sent back."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


def load() -> Handler:
    """Return the handler that the environment names."""
    module, _, name = os.environ[HANDLER_VARIABLE].rpartition(".")
    handler: Handler = getattr(importlib.import_module(module), name)
    return handler


def context_of(environ: Mapping[str, Any]) -> SimpleNamespace:
    """Return what handlers read of a context, from a WSGI environment."""
    get = environ.get
    return SimpleNamespace(
        request_id=get("HTTP_X_FC_REQUEST_ID", ""),
        credentials=SimpleNamespace(
            access_key_id=get("HTTP_X_FC_ACCESS_KEY_ID", ""),
            access_key_secret=get("HTTP_X_FC_ACCESS_KEY_SECRET", ""),
            security_token=get("HTTP_X_FC_SECURITY_TOKEN", ""),
        ),
        function=SimpleNamespace(
            name=get("HTTP_X_FC_FUNCTION_NAME", ""),
            handler=get("HTTP_X_FC_FUNCTION_HANDLER", ""),
            memory=get("HTTP_X_FC_FUNCTION_MEMORY", ""),
            timeout=get("HTTP_X_FC_FUNCTION_TIMEOUT", ""),
        ),
        region=get("HTTP_X_FC_REGION", ""),
        account_id=get("HTTP_X_FC_ACCOUNT_ID", ""),
    )


def encode(value: Any) -> bytes:
    """Return what is sent for what a handler returned."""
    if isinstance(value, bytes):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode()


def respond(handler: Handler, environ: Mapping[str, Any], event: bytes) -> Answer:
    """Call the handler and encode its answer, or its failure."""
    context = context_of(environ)
    try:
        status, code, body = "200 OK", "200", encode(handler(event, context))
    except Exception as error:  # noqa: BLE001 - a failure is an answer too
        status, code = "404 Not Found", "404"
        failure = {"errorMessage": str(error), "errorType": type(error).__name__}
        body = encode(failure)
    headers = [
        ("Content-Type", "application/octet-stream"),
        ("Content-Length", str(len(body))),
        ("x-fc-request-id", context.request_id),
        ("x-fc-status", code),
    ]
    return Answer(status, headers, body)


def make_app(handler: Handler) -> Callable[[dict[str, Any], Start], Iterable[bytes]]:
    """Return a WSGI application that answers every request with the handler."""

    def app(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        event = environ["wsgi.input"].read(length)
        answer = respond(handler, environ, event)
        start(answer.status, answer.headers)
        return [answer.body]

    return app
