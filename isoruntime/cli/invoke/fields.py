"""`--header` and `--context`: what the handler's `context` is made from.

Both come to the same in the end, the `x-fc-*` headers the platform would send; a header
is known by its name, a field of `context` by its place there.
"""

from __future__ import annotations

import json
from base64 import b64encode

from isoruntime.contract.headers import CONTEXT_HEADERS
from isoruntime.settings.parse import closest
from isoruntime.typed import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: Of `context`, by the names the handler reads, and by those `to_json` writes.
_FIELDS: Final[Mapping[str, str]] = {
    "request_id": "request-id",
    "requestId": "request-id",
    "region": "region",
    "account_id": "account-id",
    "accountId": "account-id",
    "retry_count": "retry-count",
    "retryCount": "retry-count",
    "log_project": "service-logproject",
    "log_store": "service-logstore",
    "credentials.access_key_id": "access-key-id",
    "credentials.accessKeyId": "access-key-id",
    "credentials.access_key_secret": "access-key-secret",
    "credentials.accessKeySecret": "access-key-secret",
    "credentials.security_token": "security-token",
    "credentials.securityToken": "security-token",
    "function.name": "function-name",
    "function.handler": "function-handler",
    "function.memory": "function-memory",
    "function.timeout": "function-timeout",
    "function.version_id": "version-id",
    "function.qualifier": "qualifier",
    "function.initializer": "function-initializer",
    "function.initialization_timeout": "initialization-timeout",
    "service.name": "service-name",
    "service.log_project": "service-logproject",
    "service.logProject": "service-logproject",
    "service.log_store": "service-logstore",
    "service.logStore": "service-logstore",
    "service.qualifier": "qualifier",
    "service.version_id": "version-id",
    "service.versionId": "version-id",
    "tracing.span_context": "tracing-opentracing-span-context",
    "tracing.openTracingSpanContext": "tracing-opentracing-span-context",
    "tracing.span_baggages": "tracing-opentracing-span-baggages",
    "tracing.openTracingSpanBaggages": "tracing-opentracing-span-baggages",
    "tracing.jaeger_endpoint": "tracing-jaeger-endpoint",
    "tracing.jaegerEndpoint": "tracing-jaeger-endpoint",
}
_BAGGAGES: Final = "tracing-opentracing-span-baggages"
_GROUPS: Final = frozenset(key.partition(".")[0] for key in _FIELDS if "." in key)
_PREFIX: Final = "x-fc-"
_KNOWN: Final = frozenset(
    {
        "x-fc-request-id",
        *(name.replace("_", "-").lower() for name in CONTEXT_HEADERS),
    }
)


class BadFields(ValueError):
    """What was given is no header or no field of `context`; all of it is listed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def headers_of(
    lines: Iterable[str | None], context: str | None, *, is_remote: bool
) -> dict[str, str]:
    """Return header values by names in lower case.

    A header wins over a field of `context` that means the same. Where `is_remote` any
    header will do; a worker of our own gets to see those of the platform alone.

    Raises:
        BadFields: something of it cannot be understood.
    """
    problems: list[str] = []
    found: dict[str, str] = {}
    if context is not None:
        for name, value in _of_context(context, problems):
            found[f"{_PREFIX}{name}"] = value
    for line in lines:
        name, value = _split(line or "")
        if not name:
            problems.append(f"--header '{line or ''}' is no header: give NAME=VALUE")
        elif not is_remote and name not in _KNOWN:
            problems.append(
                f"--header {name} does not reach a handler: {closest(name, _KNOWN)}"
                "give one of the platform's x-fc-* headers"
            )
        elif any(not letter.isprintable() for letter in value):
            problems.append(f"--header {name} holds what no header may: give one line")
        else:
            found[name] = value
    if problems:
        raise BadFields(problems)
    return found


def _split(line: str) -> tuple[str, str]:
    at = min((line.find(mark) for mark in "=:" if mark in line), default=0)
    return line[:at].strip().lower(), line[at + 1 :].strip()


def _of_context(text: str, problems: list[str]) -> Iterator[tuple[str, str]]:
    try:
        fields = json.loads(text)
    except ValueError as error:
        problems.append(f"--context is not JSON ({error}): give an object")
        return
    if not isinstance(fields, dict):
        problems.append(
            '--context is no JSON object: give one such as {"region": "cn-hangzhou"}'
        )
        return
    for key, value in _flat(fields):
        name = _FIELDS.get(key)
        if name is None:
            hint = closest(key, [*_FIELDS, *_GROUPS])
            problems.append(
                f"--context has {key}, which is no field of context: "
                f"{hint.rstrip() or 'the fields are ' + ', '.join(_snake_fields())}"
            )
        elif name == _BAGGAGES and isinstance(value, dict):
            yield name, b64encode(json.dumps(value).encode()).decode()
        elif isinstance(value, (str, int)) and not isinstance(value, bool):
            yield name, str(value)
        else:
            problems.append(f"--context {key} is neither text nor a whole number")


def _snake_fields() -> list[str]:
    return [key for key in _FIELDS if key == key.lower()]


def _flat(fields: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in fields.items():
        if key in _GROUPS and isinstance(value, dict):
            yield from ((f"{key}.{inner}", each) for inner, each in value.items())
        else:
            yield key, value
