"""A small Object Storage Service on loopback, strict about who may write.

It holds what the real service checks and a client can get wrong: the signature (V1
and V4, recomputed from the request as it came in), the security token, the clock. The
rest is as much as `oss2` needs: put, get, head and delete of whole objects.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import hmac
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

#: What the service allows a client's clock to be off.
MAX_CLOCK_SKEW_S = 15 * 60
#: Query parameters that V1 signs as part of the resource.
_V1_SUBRESOURCES = frozenset({"acl", "append", "position", "uploads", "uploadId"})


class Refused(Exception):
    """A request the service answers with an error document."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass
class MiniOss:
    """What is stored, and the one set of credentials that may store it."""

    access_key_id: str = "STS.test-key"
    access_key_secret: str = "test-secret"
    security_token: str = "test-token"
    endpoint: str = ""
    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator[MiniOss]:
        """Answer on a free loopback port for the duration of the block."""
        server = _Service(("127.0.0.1", 0), _Requests)
        server.oss = self  # type: ignore[attr-defined]  # read back by _Requests
        self.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body.

        Raises:
            Refused: with the code the real service would give.
        """
        self._check_clock(request)
        self._check_signature(request)
        self._check_token(request)
        place = (request.bucket, request.key)
        if request.method == "PUT":
            self.objects[place] = request.body
            return 200, _checksums(request.body), b""
        if request.method == "DELETE":
            self.objects.pop(place, None)
            return 204, {}, b""
        if place not in self.objects:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        content = self.objects[place]
        return 200, _checksums(content), content

    def _check_clock(self, request: Request) -> None:
        if abs(time.time() - request.time) > MAX_CLOCK_SKEW_S:
            raise Refused(403, "RequestTimeTooSkewed", "The clocks are too far apart.")

    def _check_signature(self, request: Request) -> None:
        if request.claimed_key_id != self.access_key_id:
            raise Refused(403, "InvalidAccessKeyId", "The access key is unknown.")
        expected = request.signature(self.access_key_secret)
        if not hmac.compare_digest(expected, request.claimed_signature):
            raise Refused(403, "SignatureDoesNotMatch", "The signature is another one.")

    def _check_token(self, request: Request) -> None:
        token = request.headers.get("x-oss-security-token")
        if token is None:
            raise Refused(403, "InvalidAccessKeyId", "An STS key needs its token.")
        if token != self.security_token:
            raise Refused(403, "InvalidSecurityToken", "The token is another one.")


@dataclass(frozen=True)
class Request:
    """A request and what its sender claims; header names are lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def bucket(self) -> str:
        """The first part of the path: endpoints that are addresses use path style."""
        return unquote(urlsplit(self.target).path).lstrip("/").partition("/")[0]

    @property
    def key(self) -> str:
        """The name of the object."""
        return unquote(urlsplit(self.target).path).lstrip("/").partition("/")[2]

    @property
    def is_v4(self) -> bool:
        """Whether the sender signed with version 4."""
        return self.headers.get("authorization", "").startswith("OSS4-HMAC-SHA256 ")

    @property
    def time(self) -> float:
        """When the sender says it signed, in seconds of Unix time."""
        if self.is_v4:
            stamp = self.headers["x-oss-date"]
            return calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
        if "date" not in self.headers:
            raise Refused(403, "AccessDenied", "A request without a date is anonymous.")
        return parsedate_to_datetime(self.headers["date"]).timestamp()

    @property
    def claimed_key_id(self) -> str:
        """The access key id in the authorization."""
        if self.is_v4:
            return self._v4_fields["Credential"].partition("/")[0]
        return self._v1_fields[0]

    @property
    def claimed_signature(self) -> str:
        """The signature in the authorization."""
        return self._v4_fields["Signature"] if self.is_v4 else self._v1_fields[1]

    def signature(self, secret: str) -> str:
        """Return the signature this request has if it was made with `secret`."""
        return self._v4(secret) if self.is_v4 else self._v1(secret)

    @property
    def _v1_fields(self) -> tuple[str, str]:
        scheme, _, rest = self.headers.get("authorization", "").partition(" ")
        key_id, colon, signature = rest.partition(":")
        if scheme != "OSS" or not colon:
            raise Refused(403, "AccessDenied", "Anonymous access is forbidden.")
        return key_id, signature

    @property
    def _v4_fields(self) -> dict[str, str]:
        rest = self.headers["authorization"].partition(" ")[2]
        return dict(part.strip().split("=", 1) for part in rest.split(","))

    def _query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)

    def _v1(self, secret: str) -> str:
        own = sorted((k, v) for k, v in self.headers.items() if k.startswith("x-oss-"))
        resource = f"/{self.bucket}/{self.key}"
        signed = sorted((k, v) for k, v in self._query() if k in _V1_SUBRESOURCES)
        if signed:
            resource += "?" + "&".join(f"{k}={v}" if v else k for k, v in signed)
        to_sign = "\n".join(
            [
                self.method,
                self.headers.get("content-md5", ""),
                self.headers.get("content-type", ""),
                self.headers["date"],
                *(f"{name}:{value}" for name, value in own),
                resource,
            ]
        )
        digest = hmac.new(secret.encode(), to_sign.encode(), hashlib.sha1).digest()
        return base64.b64encode(digest).decode()

    def _v4(self, secret: str) -> str:
        _, date, region, product, kind = self._v4_fields["Credential"].split("/")
        signed = sorted(
            (k, v)
            for k, v in self.headers.items()
            if k.startswith("x-oss-") or k in ("content-type", "content-md5")
        )
        query = sorted((quote(k, safe=""), quote(v, safe="")) for k, v in self._query())
        canonical = "\n".join(
            [
                self.method,
                quote(f"/{self.bucket}/{self.key}"),
                "&".join(f"{k}={v}" if v else k for k, v in query),
                "".join(f"{name}:{value}\n" for name, value in signed),
                self._v4_fields.get("AdditionalHeaders", ""),
                self.headers["x-oss-content-sha256"],
            ]
        )
        to_sign = "\n".join(
            [
                "OSS4-HMAC-SHA256",
                self.headers["x-oss-date"],
                f"{date}/{region}/{product}/{kind}",
                hashlib.sha256(canonical.encode()).hexdigest(),
            ]
        )
        key = b"aliyun_v4" + secret.encode()
        for part in (date, region, product, kind, to_sign):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key.hex()


class _Service(ThreadingHTTPServer):
    # Waited for by server_close(), so that no connection outlives the block.
    daemon_threads = False


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        oss: MiniOss = self.server.oss  # type: ignore[attr-defined]  # see serving()
        try:
            status, answer, content = oss.answer(
                Request(self.command, self.path, headers, body)
            )
        except Refused as refused:
            oss.refusals.append(refused.code)
            status, answer = refused.status, {"Content-Type": "application/xml"}
            content = (
                "<?xml version='1.0' encoding='UTF-8'?>"
                f"<Error><Code>{escape(refused.code)}</Code>"
                f"<Message>{escape(refused.message)}</Message></Error>"
            ).encode()
        self.send_response(status)
        self.send_header("x-oss-request-id", "MINI-OSS")
        self.send_header("Content-Length", str(len(content)))
        # A client keeps no connection that server_close() would have to wait for.
        self.send_header("Connection", "close")
        self.send_header("Last-Modified", formatdate(usegmt=True))
        for name, value in answer.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_PUT = do_GET = do_HEAD = do_DELETE = _serve  # noqa: N815 - names http.server calls

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _checksums(content: bytes) -> dict[str, str]:
    md5 = hashlib.md5(content, usedforsecurity=False)
    return {
        "ETag": f'"{md5.hexdigest().upper()}"',
        "Content-MD5": base64.b64encode(md5.digest()).decode(),
        "x-oss-hash-crc64ecma": str(crc64(content)),
    }


def _crc64_table() -> list[int]:
    table = []
    for byte in range(256):
        entry = byte
        for _ in range(8):
            entry = (entry >> 1) ^ (0xC96C5795D7870F42 if entry & 1 else 0)
        table.append(entry)
    return table


_CRC64 = _crc64_table()


def crc64(content: bytes) -> int:
    """Return the CRC-64 (ECMA-182, reflected) that the service gives every object."""
    crc = 0xFFFFFFFFFFFFFFFF
    for byte in content:
        crc = (crc >> 8) ^ _CRC64[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFFFFFFFFFF
