"""The `x-fc-*` request headers: what the platform says about an invocation.

Headers come as waitress hands them over: names in upper case with underscores,
values decoded as latin-1. An empty value is the same as none, since the platform
sends both (fc-contract.md 1.2), and no value is trusted to be a number.
"""

from __future__ import annotations

import json
import math
import re
import time

from isoruntime.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Everything the handler's `context` is made from, except the request id, which
#: changes with every invocation while these hardly ever do.
CONTEXT_HEADERS: Final[tuple[str, ...]] = (
    "X_FC_ACCESS_KEY_ID",
    "X_FC_ACCESS_KEY_SECRET",
    "X_FC_SECURITY_TOKEN",
    "X_FC_ACCOUNT_ID",
    "X_FC_REGION",
    "X_FC_QUALIFIER",
    "X_FC_VERSION_ID",
    "X_FC_FUNCTION_NAME",
    "X_FC_FUNCTION_HANDLER",
    "X_FC_FUNCTION_MEMORY",
    "X_FC_FUNCTION_TIMEOUT",
    "X_FC_FUNCTION_INITIALIZER",
    "X_FC_INITIALIZATION_TIMEOUT",
    "X_FC_SERVICE_NAME",
    "X_FC_SERVICE_LOGPROJECT",
    "X_FC_SERVICE_LOGSTORE",
    "X_FC_RETRY_COUNT",
    "X_FC_TRACING_OPENTRACING_SPAN_CONTEXT",
    "X_FC_TRACING_OPENTRACING_SPAN_BAGGAGES",
    "X_FC_TRACING_JAEGER_ENDPOINT",
)

_FIELD_NAMES: Final = tuple(
    name.removeprefix("X_FC_").replace("_", "-").lower() for name in CONTEXT_HEADERS
)

# The id is repeated in log lines and answers, so nothing gets in that could end a
# line or a header there.
_is_request_id: Final = re.compile(r"[!-~]{1,256}").fullmatch

#: One function sees one set of values, a new one when its credentials are renewed.
_MAX_CACHED: Final = 64
#: A set that is longer is not kept. The platform's own limit is 8 KB for all headers
#: of a request, so only somebody who wants to fill our memory gets here.
_MAX_CACHED_BYTES: Final = 16 * 1024
_cache: Final[dict[tuple[str | None, ...], bytes]] = {}


def request_id(headers: Mapping[str, str]) -> str:
    """Return the caller's request id, or a new one where it sent none worth keeping."""
    given = headers.get("X_FC_REQUEST_ID", "")
    if _is_request_id(given):
        return given
    # Here, since the platform sends one with every request, and a cold start need not
    # wait for it. Unique is enough, secret it need not be: this is ten times cheaper
    # than asking the kernel.
    import random

    return f"1-{int(time.time()) & 0xFFFFFFFF:08x}-{random.getrandbits(96):024x}"


def encode_context(headers: Mapping[str, str]) -> bytes:
    """Return the context headers that have a value as one line of JSON.

    Keys are header names in lower case without `x-fc-`, such as `function-name`.
    """
    values = tuple(map(headers.get, CONTEXT_HEADERS))
    encoded = _cache.get(values)
    if encoded is None:
        encoded = _encode(values)
        if len(encoded) <= _MAX_CACHED_BYTES:
            if len(_cache) >= _MAX_CACHED:
                del _cache[next(iter(_cache))]
            _cache[values] = encoded
    return encoded


def _encode(values: tuple[str | None, ...]) -> bytes:
    fields = {
        name: value for name, value in zip(_FIELD_NAMES, values, strict=True) if value
    }
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def function_timeout_s(headers: Mapping[str, str]) -> float | None:
    """Return how long the platform lets this invocation take, if it says so."""
    return _positive(headers.get("X_FC_FUNCTION_TIMEOUT"))


def initialization_timeout_s(headers: Mapping[str, str]) -> float | None:
    """Return how long the platform lets the initializer take, if it says so."""
    return _positive(headers.get("X_FC_INITIALIZATION_TIMEOUT"))


def control_path(headers: Mapping[str, str]) -> str:
    """Return which kind of request the platform means, such as `/http-invoke`.

    Empty where it does not say, as local tools do not always (fc-contract.md 1.1).
    """
    return headers.get("X_FC_CONTROL_PATH", "")


def _positive(text: str | None) -> float | None:
    # `float` reads underscores as Python source does; no header means that.
    if not text or "_" in text:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number > 0 and math.isfinite(number) else None
