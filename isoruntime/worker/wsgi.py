"""Running a WSGI application (PEP 3333) for one HTTP request after the other."""

from __future__ import annotations

import io
import sys

from isoruntime.contract.http import BODILESS, Request, encode_head
from isoruntime.typed import TYPE_CHECKING, Any
from isoruntime.wire.frames import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from isoruntime.worker.functions import Call, Reply, Runner

    Headers = list[tuple[str, str]]


def wsgi_runner(application: Callable[..., Iterable[bytes]]) -> Runner:
    """Return what answers a call with a WSGI application."""

    def run(call: Call) -> Reply:
        request = Request.decode(call.http_request)
        answer = _Answer(call, request)
        pieces = application(environ_of(call, request), answer.start_response)
        try:
            answer.take(pieces)
        finally:
            # Also where nobody has read to the end (PEP 3333).
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
        return answer.reply()

    return run


def environ_of(call: Call, request: Request) -> dict[str, Any]:
    """Return the environment of one request.

    Besides what PEP 3333 asks for it has what the built-in runtime puts in
    (fc-contract.md 4.7): `fc.context` and `fc.request_uri`.
    """
    headers = request.headers()
    script, path = split_base(request.path, headers)
    host, _, port = headers.get("HOST", "").rpartition(":")
    if not port.isdigit():
        host, port = headers.get("HOST", ""), ""
    environ: dict[str, Any] = {f"HTTP_{name}": headers[name] for name in headers}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if name in headers:
            environ[name] = environ.pop(f"HTTP_{name}")
    # A client's `Proxy` header must not become the variable that programs read.
    environ.pop("HTTP_PROXY", None)
    scheme = scheme_of(request, headers)
    environ.update(
        {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": script,
            "PATH_INFO": path,
            "QUERY_STRING": request.query,
            "REQUEST_URI": request.target,
            "SERVER_NAME": host or "isoruntime",
            "SERVER_PORT": port or ("443" if scheme == "https" else "80"),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": client_of(request, headers),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": scheme,
            "wsgi.input": io.BytesIO(call.body),
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "fc.context": call.context,
            "fc.request_uri": request.target,
        }
    )
    return environ


def split_base(path: str, headers: dict[str, str]) -> tuple[str, str]:
    """Return the part of a path that leads to the function, and what is behind it.

    Without a domain of its own a function is asked by a path that begins with
    `/2016-08-15/proxy/…`, of which the platform tells in `x-fc-base-path`.
    """
    base = headers.get("X_FC_BASE_PATH", "").rstrip("/")
    if base and (path == base or path.startswith(base + "/")):
        return base, path[len(base) :]
    return "", path


def scheme_of(request: Request, headers: dict[str, str]) -> str:
    """Return the scheme the client used; what is in front of us has ended its TLS."""
    said = headers.get("X_FORWARDED_PROTO", "").partition(",")[0].strip()
    return said.lower() if said.lower() in ("http", "https") else request.scheme


def client_of(request: Request, headers: dict[str, str]) -> str:
    """Return the client's address: on the platform it says so in a header."""
    return headers.get("X_FC_CLIENT_IP", "") or request.client


class _Answer:
    """What the application answers, whole or in pieces."""

    def __init__(self, call: Call, request: Request) -> None:
        self._call = call
        self._is_head = request.method == "HEAD"
        self._may_stream = request.may_stream
        self._status = ""
        self._headers: Headers = []
        self._held: list[bytes] = []
        self._has_begun = False

    def start_response(
        self, status: str, headers: Headers, exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """Take status and headers; return the `write` of old applications."""
        if exc_info is not None:
            try:
                if self._has_begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._status:
            raise AssertionError("start_response was called already")
        self._status, self._headers = status, headers
        # Now, where the application can be blamed for it.
        self._head(with_length=self._is_head)
        return self._write

    def _head(self, *, with_length: bool) -> bytes:
        code, _, reason = self._status.partition(" ")
        if not code.isascii() or not code.isdigit():
            raise ValueError(f"status {self._status!r} does not begin with a number")
        return encode_head(int(code), reason, self._headers, with_length=with_length)

    def _write(self, data: bytes) -> None:
        self._check(data)
        self._send(data)

    def take(self, pieces: Iterable[bytes]) -> None:
        """Take the body, and send on what is not known to be all of it."""
        is_single = isinstance(pieces, (list, tuple)) and len(pieces) == 1
        for piece in pieces:
            self._check(piece)
            if not piece or self._is_bodiless:
                continue
            if self._has_begun:
                self._send(piece)
            elif is_single or len(piece) == self._length() or not self._may_stream:
                self._held.append(piece)
            else:
                self._send(piece)
            if self._has_begun and self._call.is_cancelled:
                return

    def _check(self, piece: object) -> None:
        if not self._status:
            raise AssertionError("the application did not call start_response")
        if not isinstance(piece, bytes):
            raise TypeError(
                f"a body is made of bytes, not of {type(piece).__name__} objects"
            )

    @property
    def _is_bodiless(self) -> bool:
        return self._is_head or int(self._status[:3]) in BODILESS

    def _length(self) -> int:
        for name, value in self._headers:
            if name.lower() == "content-length" and value.isdigit():
                return int(value)
        return -1

    def _send(self, piece: bytes) -> None:
        if self._is_bodiless:
            return
        if not self._may_stream:
            self._held.append(piece)
            return
        if not self._has_begun:
            self._has_begun = True
            self._call.begin(self._head(with_length=True))
            held, self._held = b"".join(self._held), []
            if held:
                self._call.send(held)
        self._call.send(piece)

    def reply(self) -> Reply:
        """Return the frame that ends the answer."""
        if self._has_begun:
            return Kind.END, b"", b""
        if not self._status:
            raise AssertionError("the application did not call start_response")
        body = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        return Kind.RESPONSE, self._head(with_length=self._is_head), body
