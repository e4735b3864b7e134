"""Invocations through a runtime or gateway that runs already, over HTTP."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import ssl
import time
from urllib.parse import SplitResult, urlsplit

from isoruntime.cli.invoke.report import (
    EXIT_CODES,
    EXITED,
    FUNCTION_ERROR,
    RETURNED,
    TIMED_OUT,
    Result,
)
from isoruntime.typed import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_INVOKE: Final = "/invoke"
#: How the invocation API of FC 2.0 and FC 3.0 ends.
_INVOCATIONS: Final = "/invocations"
_ACCEPTED: Final = 202
_FAILED: Final = 400
#: What is waited for an answer beyond the time that the function may take.
_MARGIN_S: Final = 10.0


class Unreachable(Exception):
    """Nobody was asked: there is no such target, or it does not answer there."""


class Credentials(NamedTuple):
    """An access key, by the names that the platform's own tools read."""

    identity: str
    secret: str
    token: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Credentials | None:
        """Return those of the variables, if they are there."""
        values = [
            environ.get(f"ALIBABA_CLOUD_{name}", "")
            for name in ("ACCESS_KEY_ID", "ACCESS_KEY_SECRET", "SECURITY_TOKEN")
        ]
        return cls(*values) if all(values[:2]) else None


class Target:
    """A runtime (`POST /invoke`), or a gateway's invocation URL."""

    def __init__(
        self,
        url: str,
        *,
        is_async: bool,
        timeout_s: float | None,
        credentials: Credentials | None = None,
    ) -> None:
        """`timeout_s` is told to the target, and waited for; None = as it likes.

        A gateway's requests are signed with the `credentials`.

        Raises:
            ValueError: the URL cannot be understood; the message completes "--target …".
        """
        self._place = _read(url)
        self._is_async = is_async
        self._timeout_s = timeout_s
        self._credentials = credentials
        self.url = self._place.geturl()
        #: whether it is one that can take an invocation and answer later
        self.is_gateway = self._place.path.endswith(_INVOCATIONS)

    def invoke(self, event: bytes, headers: Mapping[str, str]) -> Result:
        """Send one event, and wait for what comes of it.

        Raises:
            Unreachable: it could not be sent.
        """
        connection = self._connection()
        started = time.monotonic()
        try:
            try:
                connection.connect()
            except OSError as error:
                raise Unreachable(
                    f"{self.url} cannot be reached ({error}): start a runtime there "
                    "(isoruntime serve), or give another --target"
                ) from error
            answer = self._exchange(connection, event, headers)
        finally:
            connection.close()
        return answer._replace(duration_ms=(time.monotonic() - started) * 1000)

    def _connection(self) -> http.client.HTTPConnection:
        place = self._place
        wait_s = None if self._timeout_s is None else self._timeout_s + _MARGIN_S
        host = place.hostname or ""
        if place.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                host, place.port, timeout=wait_s, context=context
            )
        return http.client.HTTPConnection(host, place.port, timeout=wait_s)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        event: bytes,
        headers: Mapping[str, str],
    ) -> Result:
        place = self._place
        path = place.path + (f"?{place.query}" if place.query else "")
        sent = self._headers(headers)
        if self.is_gateway and self._credentials is not None:
            sent = _signed(place, event, sent, self._credentials)
        try:
            connection.request("POST", path, event, sent)
            response = connection.getresponse()
            body = response.read()
        except TimeoutError:
            return _broken("the target did not answer in time", TIMED_OUT)
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            return _broken(
                f"the target broke off before it answered ({reason})", EXITED
            )
        told = {name.lower(): value for name, value in response.getheaders()}
        return _result(response.status, told, body)

    def _headers(self, given: Mapping[str, str]) -> dict[str, str]:
        headers = {"content-type": "application/octet-stream"}
        if self.is_gateway:
            headers["x-fc-invocation-type"] = "Async" if self._is_async else "Sync"
            if not self._is_async:
                headers["x-fc-log-type"] = "Tail"
        if self._timeout_s is not None:
            headers["x-fc-function-timeout"] = f"{self._timeout_s:g}"
        return {**headers, **given}


def _signed(
    place: SplitResult, event: bytes, headers: dict[str, str], by: Credentials
) -> dict[str, str]:
    """Return the headers with a signature, as the SDK of FC 3.0 makes it."""
    from isoruntime.frontend.gateway.signatures import Request, acs3_authorization

    sent = {
        **headers,
        "host": place.netloc.rpartition("@")[2],
        "x-acs-action": "InvokeFunction",
        "x-acs-version": "2023-03-30",
        "x-acs-date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "x-acs-signature-nonce": os.urandom(16).hex(),
        "x-acs-content-sha256": hashlib.sha256(event).hexdigest(),
    }
    if by.token:
        sent["x-acs-security-token"] = by.token
    in_cgi = {name.upper().replace("-", "_"): value for name, value in sent.items()}
    request = Request("POST", place.path, place.query, in_cgi)
    key = (by.identity, by.secret)
    return {**sent, "authorization": acs3_authorization(request, key)}


def _read(url: str) -> SplitResult:
    place = urlsplit(url if "://" in url else f"http://{url}")
    if place.scheme not in ("http", "https"):
        raise ValueError(
            f"is no {place.scheme} URL one can call: give http://HOST:PORT"
        )
    try:
        port = place.port
    except ValueError:
        raise ValueError("has a port that is none: give http://HOST:PORT") from None
    if not place.hostname or port == 0:
        raise ValueError("names no host and port: give http://HOST:PORT")
    if place.path in ("", "/"):
        return place._replace(path=_INVOKE)
    if place.path.endswith((_INVOKE, _INVOCATIONS)):
        return place
    raise ValueError(
        f"leads to {place.path}, where nobody takes events: give http://HOST:PORT of a "
        "runtime, or a gateway's URL that ends with /invocations"
    )


def _broken(reason: str, exit_code: int) -> Result:
    error_type = {code: name for name, code in EXIT_CODES.items()}[exit_code]
    body = json.dumps({"errorMessage": reason, "errorType": error_type}, indent=4)
    return Result("-", body.encode(), exit_code, error_type)


def _result(status: int, headers: Mapping[str, str], body: bytes) -> Result:
    request_id = headers.get("x-fc-request-id") or "-"
    failed = (
        status >= _FAILED
        or headers.get("x-fc-error-type")
        or headers.get("x-fc-status", "200") != "200"
    )
    error_type, exit_code = _failure_in(body, status) if failed else (None, RETURNED)
    tail = headers.get("x-fc-log-result")
    return Result(
        request_id,
        body,
        exit_code,
        error_type,
        memory_mb=None,
        max_memory_mb=_number(headers.get("x-fc-max-memory-usage")),
        log=_decoded(tail) if tail else None,
    )


def _failure_in(body: bytes, status: int) -> tuple[str, int]:
    """Return the type of an error, and the exit code for it."""
    try:
        failure: Any = json.loads(body)
    except ValueError:
        failure = None
    if not isinstance(failure, dict):
        return f"HTTP {status}", FUNCTION_ERROR
    error_type = failure.get("errorType") or failure.get("Code")
    message = str(failure.get("errorMessage", ""))
    # The platform's own answers say only in words what happened.
    if not error_type and message.startswith("Process exited unexpectedly"):
        error_type = "ProcessExitedError"
    elif not error_type and message.startswith("Function timed out"):
        error_type = "FunctionTimeoutError"
    name = str(error_type or f"HTTP {status}")
    # A handler may raise what it likes, and then its stack is told.
    raised = "stackTrace" in failure
    return name, FUNCTION_ERROR if raised else EXIT_CODES.get(name, FUNCTION_ERROR)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _decoded(tail: str) -> str:
    try:
        return base64.b64decode(tail).decode("utf-8", "replace")
    except ValueError:
        return ""
