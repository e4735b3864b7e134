"""Invocations as the platform would make them: an event or an HTTP request, with headers."""

from __future__ import annotations

from isoruntime.contract import headers as fc
from isoruntime.contract.http import Request as HttpRequest
from isoruntime.dispatch.invocation import Invocation, Phase
from isoruntime.frontend.gateway.paths import LATEST
from isoruntime.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from isoruntime.dispatch.invocation import Outcome
    from isoruntime.frontend.gateway.functions import Reachable
    from isoruntime.frontend.gateway.paths import Target
    from isoruntime.wire.pipes import Body


#: What of the caller's own headers reaches the function: it is his to give.
CALLERS: Final = (
    "X_FC_ACCESS_KEY_ID",
    "X_FC_ACCESS_KEY_SECRET",
    "X_FC_SECURITY_TOKEN",
    "X_FC_ACCOUNT_ID",
)


def context_headers(
    function: Reachable, target: Target, given: Mapping[str, str], retry: int = 0
) -> dict[str, str]:
    """Return the `x-fc-*` headers that the platform would send with an invocation."""
    headers = {name: given[name] for name in CALLERS if given.get(name)}
    headers.update(function.facts)
    headers["X_FC_FUNCTION_NAME"] = function.name or target.function
    headers["X_FC_QUALIFIER"] = target.qualifier
    headers["X_FC_VERSION_ID"] = version_of(target.qualifier)
    headers["X_FC_RETRY_COUNT"] = str(retry)
    if target.service:
        headers["X_FC_SERVICE_NAME"] = target.service
    return headers


def version_of(qualifier: str) -> str:
    """Return the version that a qualifier stands for: an alias has the code there is."""
    return qualifier if qualifier.isdigit() else LATEST


def _passed_on(given: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a request that its function may see.

    Not those the platform keeps to itself, nor a signature: whoever has it could send
    the same request once more.
    """
    is_signed = given.get("AUTHORIZATION", "").startswith(("FC ", "ACS3-"))
    return {
        name: value
        for name, value in given.items()
        if not name.startswith(("X_FC_", "X_ACS_"))
        and not (is_signed and name == "AUTHORIZATION")
    }


def event_invocation(
    function: Reachable,
    target: Target,
    request_id: str,
    event: Body,
    given: Mapping[str, str],
    done: Callable[[Outcome], object],
    retry: int = 0,
) -> Invocation:
    """Return the invocation of a function with an event."""
    context = context_headers(function, target, given, retry)
    request = None
    if function.only_http:
        context_and_id = {**context, "X_FC_REQUEST_ID": request_id}
        request = _event_as_http(context_and_id, len(event))
    invocation = Invocation(
        Phase.INVOKE,
        request_id,
        fc.encode_context(context),
        event,
        done,
        function.dispatcher.now(),
        request=request,
    )
    invocation.is_measured = True
    return invocation


def _event_as_http(context: dict[str, str], event_bytes: int) -> bytes:
    """Return the request by which the platform has a server take an event."""
    headers = {
        "HOST": "isoruntime",
        "CONTENT_TYPE": "application/octet-stream",
        "X_FC_CONTROL_PATH": "/invoke",
        **context,
    }
    return HttpRequest.with_headers(
        headers, event_bytes, method="POST", target="/invoke", path="/invoke"
    ).encode()


def http_headers(
    function: Reachable, target: Target, request_id: str, given: Mapping[str, str]
) -> dict[str, str]:
    """Return the headers of a request as an HTTP function gets it."""
    headers = {
        **_passed_on(given),
        **context_headers(function, target, given),
        "X_FC_CONTROL_PATH": "/http-invoke",
        "X_FC_REQUEST_ID": request_id,
    }
    if target.base_path:
        headers["X_FC_BASE_PATH"] = target.base_path
    return headers
