"""What somebody calls through the invocation API: an event handler and an application."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def _context(context: Any) -> dict[str, Any]:
    function, service, credentials = (
        context.function,
        context.service,
        context.credentials,
    )
    return {
        "requestId": context.request_id,
        "name": function.name,
        "handler": function.handler,
        "memory": function.memory,
        "timeout": function.timeout,
        "region": context.region,
        "accountId": context.account_id,
        "service": service.name,
        "qualifier": service.qualifier,
        "versionId": service.version_id,
        "accessKeyId": credentials.access_key_id,
        "accessKeySecret": credentials.access_key_secret,
        "securityToken": credentials.security_token,
        "retryCount": context.retry_count,
    }


def _until(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.005)


def _lines(detail: str) -> None:
    """Print some lines, then wait for the other one, so that two logs interleave."""
    name, path = detail.split()
    for number in range(3):
        print(f"{name} {number}", flush=True)
    Path(f"{path}.{name}").touch()
    _until(path)
    print(f"{name} last")


def _count(detail: str, context: Any) -> str:
    """Raise until it has been tried so often; how often is in the file."""
    path, most = detail.split()
    with Path(path).open("a") as file:
        file.write(f"{context.retry_count}\n")
    if int(context.retry_count or 0) < int(most):
        raise ValueError("once more")
    return "at last"


def _wait(detail: str) -> None:
    print(f"waiting, {os.getpid()}", flush=True)
    _until(detail)


def _raise(detail: str) -> None:
    raise ValueError(detail or "no")


_WAYS: dict[str, Callable[[str, Any], Any]] = {
    "context": lambda _, context: _context(context),
    "environment": lambda *_: dict(os.environ),
    "print": lambda detail, _: print(f"printed {detail}"),
    "until": lambda detail, _: _wait(detail),
    "lines": lambda detail, _: _lines(detail),
    "raise": lambda detail, _: _raise(detail),
    "exit": lambda *_: os._exit(3),
    "hang": lambda *_: time.sleep(60),
    "eat": lambda detail, _: len(bytearray(int(detail) << 20)),
    "count": _count,
    "bytes": lambda *_: bytes(range(256)),
    "size": lambda detail, _: b"x" * int(detail),
}


def handler(event: bytes, context: Any) -> Any:
    way, _, detail = event.decode("utf-8", "replace").partition(" ")
    return _WAYS[way](detail, context) if way in _WAYS else event


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/raise":
        raise ValueError("no page")
    if environ["PATH_INFO"] == "/pieces":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter([b"one ", b"two"])
    print("page asked for", file=sys.stderr)
    seen = {
        name: value
        for name, value in environ.items()
        if isinstance(value, str) and name == name.upper()
    }
    seen["body"] = environ["wsgi.input"].read().decode()
    start_response(
        "201 Created", [("Content-Type", "application/json"), ("X-Own", "1")]
    )
    return [json.dumps(seen).encode()]
