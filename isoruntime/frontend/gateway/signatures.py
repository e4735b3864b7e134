"""Signatures: whether a request was signed with the key, lately, and not changed since.

Two schemes are in use. FC 3.0 and FC-Open sign a digest of the request, and in it one of
the body:

    ACS3-HMAC-SHA256 Credential=ID,SignedHeaders=a;b,Signature=HEX

FC 2.0 signs method, type, date, its own headers and the path, and not the body:

    FC ID:BASE64

Whoever has seen a signed request can send it again for as long as its date is good; both
schemes leave that to TLS, which is not spoken here.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from isoruntime.frontend.gateway.refusals import Refusal
from isoruntime.typed import Final, NamedTuple

#: How far a request's date may be from ours.
MAX_SKEW_S: Final = 15 * 60
_ACS3: Final = "ACS3-HMAC-SHA256"
_ACS3_FIELDS: Final = re.compile(
    r"Credential=([^,\s]*)\s*,\s*SignedHeaders=([^,\s]*)\s*,\s*Signature=([^,\s]*)\s*"
)
#: Without these in the signature anybody could send it with another date or body.
_MUST_BE_SIGNED: Final = frozenset({"x-acs-date", "x-acs-content-sha256"})
_is_digest: Final = re.compile(r"[0-9a-f]{64}").fullmatch


class Request(NamedTuple):
    """What is signed. Path and query are as they were sent, headers as in CGI."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    #: whether the query is signed also where the scheme leaves it out
    is_http: bool = False

    def header(self, name: str) -> str:
        """Return a header by its usual name, empty if there is none."""
        return self.headers.get(name.upper().replace("-", "_"), "")


class Verifier:
    """Knows the key."""

    def __init__(
        self, key: tuple[str, str], now: Callable[[], float] = time.time
    ) -> None:
        identity, secret = key
        self._identity = identity.encode()
        self._secret = secret.encode()
        self._now = now

    def check(self, request: Request) -> str:
        """Return the SHA-256 that the body must have; empty where it is not signed.

        Raises:
            Refusal: it was not signed, or not with this key, or not like this.
        """
        authorization = request.header("authorization")
        scheme, _, rest = authorization.partition(" ")
        if scheme == _ACS3:
            return self._check_acs3(request, rest)
        if scheme == "FC":
            self._check_fc(request, rest)
            return ""
        if authorization:
            raise Refusal(
                "AccessDenied",
                f"requests are signed with {_ACS3} or FC, not '{scheme}'",
            )
        raise _missing("authorization")

    # FC 3.0 and FC-Open.

    def _check_acs3(self, request: Request, fields: str) -> str:
        found = _ACS3_FIELDS.fullmatch(fields)
        if found is None:
            raise Refusal(
                "AccessDenied",
                f"an authorization of {_ACS3} names Credential, SignedHeaders and "
                "Signature",
            )
        identity, names, given = found.groups()
        self._check_identity(identity)
        digest = request.header("x-acs-content-sha256").lower()
        if not _is_digest(digest):
            raise _missing("x-acs-content-sha256")
        self._check_date(request.header("x-acs-date"), "x-acs-date", _iso_time)
        signed = names.lower().split(";")
        left_out = _MUST_BE_SIGNED.difference(signed)
        if left_out:
            raise Refusal(
                "SignatureNotMatch", f"{', '.join(sorted(left_out))} must be signed"
            )
        wanted = _acs3_signature(self._secret, request, signed, digest)
        _compare(wanted, given.lower())
        return digest

    # FC 2.0.

    def _check_fc(self, request: Request, fields: str) -> None:
        identity, _, given = fields.strip().rpartition(":")
        self._check_identity(identity)
        self._check_date(request.header("date"), "date", _http_time)
        head = _fc_head(request)
        wanted = [
            self._fc_signature(head + resource) for resource in _fc_resources(request)
        ]
        # All of them are compared, whichever it is.
        if not any([hmac.compare_digest(one, given.encode()) for one in wanted]):
            raise _not_matching()

    def _fc_signature(self, text: bytes) -> bytes:
        return base64.b64encode(hmac.digest(self._secret, text, "sha256"))

    # Both.

    def _check_identity(self, given: str) -> None:
        if not hmac.compare_digest(given.encode("latin-1", "replace"), self._identity):
            raise Refusal(
                "InvalidAccessKeyID",
                f"the access key id '{given}' is not the one this runtime was given "
                "with --key",
            )

    def _check_date(
        self, text: str, name: str, read: Callable[[str], float | None]
    ) -> None:
        if not text:
            raise _missing(name)
        at = read(text)
        if at is None:
            raise Refusal("InvalidArgument", f"{name} '{text}' is no date")
        if abs(at - self._now()) > MAX_SKEW_S:
            raise Refusal(
                "AccessDenied",
                f"{name} '{text}' is more than {MAX_SKEW_S // 60} minutes from the "
                "time here: check the clocks",
            )


def _missing(name: str) -> Refusal:
    return Refusal("MissingRequiredHeader", f"the request lacks its header {name}")


def _not_matching() -> Refusal:
    return Refusal(
        "SignatureNotMatch",
        "the signature is not what the key gives for this request: check the access "
        "key secret",
    )


def _compare(wanted: str, given: str) -> None:
    if not hmac.compare_digest(wanted.encode(), given.encode("latin-1", "replace")):
        raise _not_matching()


def wrong_body() -> Refusal:
    """Return what is said where the body is another one than was signed."""
    return Refusal(
        "SignatureNotMatch", "the body is not the one that x-acs-content-sha256 is of"
    )


def acs3_authorization(request: Request, key: tuple[str, str]) -> str:
    """Return the header that signs all headers of a request with a key.

    Among them are `x-acs-date` and `x-acs-content-sha256`.
    """
    identity, secret = key
    signed = sorted(name.lower().replace("_", "-") for name in request.headers)
    digest = request.header("x-acs-content-sha256")
    signature = _acs3_signature(secret.encode(), request, signed, digest)
    return (
        f"{_ACS3} Credential={identity},SignedHeaders={';'.join(signed)},"
        f"Signature={signature}"
    )


def _acs3_signature(
    secret: bytes, request: Request, signed: list[str], digest: str
) -> str:
    canonical = _acs3_request(request, signed, digest)
    text = f"{_ACS3}\n{hashlib.sha256(canonical).hexdigest()}"
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def _acs3_request(request: Request, signed: list[str], digest: str) -> bytes:
    pairs = sorted(parse_qsl(request.query, keep_blank_values=True))
    query = "&".join(f"{name}={quote(value, safe='~')}" for name, value in pairs)
    lines = [request.method, request.path, query]
    lines += [f"{name}:{request.header(name).strip()}" for name in signed]
    lines += ["", ";".join(signed), digest]
    return "\n".join(lines).encode("latin-1", "replace")


def _fc_head(request: Request) -> bytes:
    own = sorted(
        f"{name.lower().replace('_', '-')}:{value}\n"
        for name, value in request.headers.items()
        if name.startswith("X_FC_")
    )
    said = [request.header(name) for name in ("content-md5", "content-type", "date")]
    text = "\n".join([request.method, *said, "".join(own)])
    return text.encode("latin-1", "replace")


def _fc_resources(request: Request) -> list[bytes]:
    """Return what may stand for the path: clients differ where there is no query."""
    path = unquote_to_bytes(request.path)
    if not request.is_http:
        return [path]
    parameters = sorted(
        unquote_to_bytes(part.replace("+", " "))
        for part in request.query.split("&")
        if part
    )
    with_query = path + b"\n" + b"\n".join(parameters)
    return [with_query] if parameters else [path, with_query]


def _iso_time(text: str) -> float | None:
    try:
        return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return None


def _http_time(text: str) -> float | None:
    parsed = parsedate(text)
    try:
        return calendar.timegm(parsed) if parsed else None
    except (ValueError, OverflowError):
        return None
