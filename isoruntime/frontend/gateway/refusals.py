"""Refusals: what the platform says when it does not get as far as the function.

The SDKs of the three APIs look for different names of the same things in the body, so
it has all of them (fc-contract.md 7.2).
"""

from __future__ import annotations

import json

from isoruntime.contract.answer import Answer
from isoruntime.typed import Final

_JSON: Final = "application/json"

STATUS: Final = {
    "InvalidArgument": 400,
    "MissingRequiredHeader": 400,
    "PathNotSupported": 400,
    "EntityTooLarge": 400,
    "AccessDenied": 403,
    "SignatureNotMatch": 403,
    "InvalidAccessKeyID": 403,
    "FunctionNotFound": 404,
    "MethodNotAllowed": 405,
    "StatefulAsyncInvocationAlreadyExists": 409,
    "ResourceExhausted": 429,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
}
_RETRY_AFTER: Final = frozenset({"ResourceExhausted", "ServiceUnavailable"})


class Refusal(Exception):
    """A request that is answered without the function."""

    def __init__(self, code: str, message: str, allow: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        #: methods there are instead
        self.allow = allow

    def answer(self, request_id: str) -> Answer:
        """Return what the caller is told."""
        body = {
            "Code": self.code,
            "Message": self.message,
            "RequestId": request_id,
            "ErrorCode": self.code,
            "ErrorMessage": self.message,
        }
        headers = [("X-Fc-Error-Type", "FcCommonError")]
        if self.allow:
            headers.append(("Allow", self.allow))
        if self.code in _RETRY_AFTER:
            headers.append(("Retry-After", "1"))
        text = json.dumps(body, indent=4).encode()
        return Answer(STATUS[self.code], text, _JSON, "404", headers)
