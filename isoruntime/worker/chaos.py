"""Deaths on order, for tests of our own: `ISORUNTIME_CHAOS=STAGE:FILE`.

The worker that gets to STAGE first kills itself there; FILE is made on the way and
keeps all others from doing the same. Stages, in the order they are passed:

    before-read      ready, nothing read of the request
    mid-read         the head of the request is read, its body is not
    after-read       the request is taken and acknowledged, the handler not called
    reply@N          N bytes of the reply are written
    after-reply      all of the reply is written
"""

from __future__ import annotations

import os
import select

from isoruntime.bare import signal
from isoruntime.typed import IO, Any
from isoruntime.wire import pipes
from isoruntime.wire.frames import HEADER_BYTES, Frame, Kind, head


class Chaos:
    """Reads and writes frames as a worker does, up to the stage where it dies."""

    def __init__(self, order: str) -> None:
        self._stage, _, self._marker = order.partition(":")

    def read_frame(self, stream: IO[bytes]) -> Frame | None:
        """Read a request, or die on the way."""
        if self._stage in ("before-read", "mid-read") and not self._is_used():
            # Not before there is something to read, and past the stream's own buffer,
            # which would take more than it is asked for.
            select.select([stream], [], [])
            if self._claim():
                if self._stage == "mid-read":
                    os.read(stream.fileno(), HEADER_BYTES)
                _end()
        return pipes.read_frame(stream)

    def acknowledged(self) -> None:
        """Die now, if it is to be after the acknowledgement."""
        if self._stage == "after-read":
            self._die()

    def write_frame(
        self,
        fd: int,
        kind: int,
        nonce: bytes,
        meta: bytes = b"",
        body: Any = b"",
        flags: int = 0,
    ) -> None:
        """Write a reply, or die on the way."""
        if kind == Kind.READY or not self._stage.startswith(("reply@", "after-reply")):
            pipes.write_frame(fd, kind, nonce, meta, body, flags)
            return
        data = head(kind, nonce, meta, len(body), flags) + bytes(body)
        _, _, count = self._stage.partition("@")
        if count and not self._is_used():
            data = data[: int(count)]
        while data:
            data = data[os.write(fd, data) :]
        self._die()

    def _is_used(self) -> bool:
        return os.path.exists(self._marker)  # noqa: PTH110 - for symmetry with open below

    def _claim(self) -> bool:
        """Return whether it is this worker that is to die."""
        try:
            fd = os.open(self._marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        os.close(fd)
        return True

    def _die(self) -> None:
        if self._claim():
            _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
