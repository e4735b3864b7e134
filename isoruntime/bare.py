"""The halves of `signal` and `socket` that are written in C.

Their other halves turn numbers into enumerations and add methods for convenience. What is
imported for that takes 3 ms of a cold start, and a worker that goes through an
enumeration writes to forty pages that it shares with the zygote till then. So what a
zygote and its workers consist of takes them from here.
"""

from __future__ import annotations

import _socket as socket

from isoruntime.typed import TYPE_CHECKING

if TYPE_CHECKING:
    # Nobody has written down the types of `_signal`. It has no `Signals`.
    import signal
else:
    import _signal as signal

__all__ = ["signal", "socket"]
