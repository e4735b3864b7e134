"""The digest of a body, worked out a piece a turn: a large one must not hold up others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from isoruntime.typed import TYPE_CHECKING, Final
from isoruntime.wire.pipes import EventFile

if TYPE_CHECKING:
    from isoruntime.wire.pipes import Body

#: About a millisecond of work.
_PIECE_BYTES: Final = 512 * 1024


class BodyDigest:
    """Works out the SHA-256 of a body, and tells it to `done` in hexadecimal."""

    def __init__(
        self,
        body: Body,
        call_later: Callable[[float, Callable[[], object]], object],
        done: Callable[[str], object],
    ) -> None:
        self._body = body
        self._call_later = call_later
        self._done = done
        self._at = 0
        self._hash = hashlib.sha256()
        self._is_given_up = False

    def give_up(self) -> None:
        """Tell nobody: the body is gone."""
        self._is_given_up = True

    def begin(self) -> None:
        """Take the first piece, which for most bodies is all of it."""
        if self._is_given_up:
            return
        piece = self._piece()
        self._hash.update(piece)
        self._at += len(piece)
        if not piece or self._at >= len(self._body):
            self._done(self._hash.hexdigest())
        else:
            # A timer of no time at all is due in the next turn.
            self._call_later(0, self.begin)

    def _piece(self) -> bytes | memoryview:
        if isinstance(self._body, EventFile):
            return os.pread(self._body.fd, _PIECE_BYTES, self._at)
        return memoryview(self._body)[self._at : self._at + _PIECE_BYTES]
