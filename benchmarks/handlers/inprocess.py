"""The same handler without any isolation: waitress calls it in one of its threads.

This is what the runtime is compared with. It does what the sample handler needs and
no more: it makes a context of the request's headers, calls, encodes, answers. It
writes no Start and End lines, limits nothing and notices nothing, so what it saves
is counted in its favour.

    python inprocess.py PORT CODE_DIR
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import waitress

_THREADS = 8

Start = Callable[[str, list[tuple[str, str]]], object]


def context_of(environ: dict[str, Any]) -> SimpleNamespace:
    """Return what handlers of the samples read of a context."""
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


def make_app(
    handler: Callable[[bytes, Any], Any],
) -> Callable[[dict[str, Any], Start], Iterable[bytes]]:
    """Return a WSGI application that answers every request with the handler."""

    def app(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        event = environ["wsgi.input"].read()
        context = context_of(environ)
        try:
            value = handler(event, context)
        except Exception as error:  # noqa: BLE001 - a failure is an answer too
            status, code = "404 Not Found", "404"
            value = {"errorMessage": str(error), "errorType": type(error).__name__}
        else:
            status, code = "200 OK", "200"
        text = value if isinstance(value, str) else json.dumps(value)
        body = text.encode()
        start(
            status,
            [
                ("Content-Type", "application/octet-stream"),
                ("Content-Length", str(len(body))),
                ("x-fc-request-id", context.request_id),
                ("x-fc-status", code),
            ],
        )
        return [body]

    return app


def main(port: int, code_dir: str) -> None:
    """Serve `index.handler` of a folder until the process is ended."""
    sys.path.insert(0, code_dir)
    from index import handler  # type: ignore[import-not-found]

    waitress.serve(make_app(handler), host="127.0.0.1", port=port, threads=_THREADS)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
