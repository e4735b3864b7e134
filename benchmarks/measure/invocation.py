"""What the platform sends with every invocation: one event, and a full set of headers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NamedTuple

#: A JSON event of exactly 64 bytes, for the sample handler that answers with `key`.
EVENT: Final = json.dumps({"key": "v" * 53}).encode()
#: What that handler answers.
ANSWER: Final = b"v" * 53

#: Every header a custom runtime gets, with values as long as real ones.
HEADERS: Final = {
    "Content-Type": "application/octet-stream",
    "User-Agent": "Go-http-client/1.1",
    "x-fc-request-id": "1-67a59f35-150c1267-f381ba1c085c",
    "x-fc-control-path": "/invoke",
    "x-fc-access-key-id": "STS.made-up-key-of-28-letters",
    "x-fc-access-key-secret": "made-up-secret-of-forty-four-letters-for-you",
    "x-fc-security-token": "made-up-token/" * 40,
    "x-fc-account-id": "1234567890123456",
    "x-fc-region": "cn-hangzhou",
    "x-fc-qualifier": "LATEST",
    "x-fc-version-id": "",
    "x-fc-function-name": "sample",
    "x-fc-function-handler": "index.handler",
    "x-fc-function-memory": "512",
    "x-fc-function-timeout": "60",
    "x-fc-function-initializer": "",
    "x-fc-initialization-timeout": "30",
    "x-fc-service-name": "benchmarks",
    "x-fc-service-logproject": "project-of-logs",
    "x-fc-service-logstore": "store-of-logs",
    "x-fc-instance-lifecycle-pre-stop-handler": "",
    "x-fc-instance-lifecycle-pre-freeze-handler": "",
    "x-fc-retry-count": "0",
    "x-fc-tracing-opentracing-span-context": "",
    "x-fc-tracing-opentracing-span-baggages": "",
    "x-fc-tracing-jaeger-endpoint": "",
}


class Request(NamedTuple):
    """What is sent over and over, and the answer it must get."""

    body: bytes
    answer: bytes
    headers: Mapping[str, str] = HEADERS


#: The request of most rows.
SMALL: Final = Request(EVENT, ANSWER)


def filled(size: int) -> Request:
    """Return an event of so many bytes for a handler that echoes."""
    return Request(b"e" * size, b"e" * size)
