"""Signatures of the platform's API, worked out anew from what is documented of them.

Nothing of isoruntime's is used: what it checks is signed here by somebody else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from email.utils import formatdate
from urllib.parse import quote, unquote


def acs3(
    method: str,
    target: str,
    body: bytes,
    key: tuple[str, str],
    headers: Mapping[str, str] | None = None,
    at: float | None = None,
    unsigned: str = "",
) -> dict[str, str]:
    """Return headers with a signature as the SDK of FC 3.0 makes it.

    That of the header `unsigned` is not in it, though it is sent.
    """
    path, _, query = target.partition("?")
    moment = time.gmtime(time.time() if at is None else at)
    signed = {
        "host": "gateway",
        "x-acs-version": "2023-03-30",
        "x-acs-action": "InvokeFunction",
        "x-acs-date": time.strftime("%Y-%m-%dT%H:%M:%SZ", moment),
        "x-acs-signature-nonce": "0123456789",
        "x-acs-content-sha256": hashlib.sha256(body).hexdigest(),
        **{name.lower(): value for name, value in (headers or {}).items()},
    }
    parameters = sorted(part.partition("=")[::2] for part in query.split("&") if part)
    names = sorted(name for name in signed if name != unsigned)
    canonical = "\n".join(
        [
            method,
            path,
            "&".join(f"{name}={quote(value, safe='~')}" for name, value in parameters),
            *(f"{name}:{signed[name].strip()}" for name in names),
            "",
            ";".join(names),
            signed["x-acs-content-sha256"],
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signature = hmac.new(
        key[1].encode(), f"ACS3-HMAC-SHA256\n{digest}".encode(), hashlib.sha256
    ).hexdigest()
    authorization = (
        f"ACS3-HMAC-SHA256 Credential={key[0]},SignedHeaders={';'.join(names)},"
        f"Signature={signature}"
    )
    return {**signed, "Authorization": authorization}


def fc2(
    method: str,
    target: str,
    key: tuple[str, str],
    headers: Mapping[str, str] | None = None,
    at: float | None = None,
    *,
    signs_query: bool = False,
) -> dict[str, str]:
    """Return headers with a signature as the SDKs of FC 2.0 make it."""
    path, _, query = target.partition("?")
    sent = {
        "date": formatdate(time.time() if at is None else at, usegmt=True),
        "content-type": "application/json",
        **{name.lower(): value for name, value in (headers or {}).items()},
    }
    own = "".join(
        f"{name}:{sent[name]}\n" for name in sorted(sent) if name.startswith("x-fc-")
    )
    resource = unquote(path)
    if signs_query:
        resource += "\n" + "\n".join(sorted(unquote(part) for part in query.split("&")))
    text = "\n".join(
        [
            method,
            sent.get("content-md5", ""),
            sent["content-type"],
            sent["date"],
            own + resource,
        ]
    )
    signature = hmac.new(key[1].encode(), text.encode(), hashlib.sha256).digest()
    encoded = base64.b64encode(signature).decode()
    return {**sent, "authorization": f"FC {key[0]}:{encoded}"}
