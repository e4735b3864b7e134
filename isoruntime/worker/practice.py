"""Practice: a few requests that nobody has sent, answered in the zygote.

Python looks a name up anew the first time it meets it, and from 3.11 on rewrites each line
of code for what it has met there. A worker that serves once would do so for a single
request, in memory that it has to copy for that.
"""

from __future__ import annotations

import os

from isoruntime.typed import TYPE_CHECKING, Any, Final
from isoruntime.wire.frames import NO_NONCE, Kind, head
from isoruntime.worker import records
from isoruntime.worker.functions import Functions, event_runner

if TYPE_CHECKING:
    from isoruntime.worker.main import Worker
    from isoruntime.worker.pipes import Places

#: From here on more make no difference that could be measured.
_ROUNDS: Final = 10
_REQUESTS: Final = 2


def practise(worker: Worker, places: Places) -> None:
    """Have this process work as a worker, with a function that does nothing."""
    request = head(Kind.INVOKE, NO_NONCE, records.NO_REQUEST + b"\n-1\n{}", 0)
    null = os.open(os.devnull, os.O_RDWR)
    empty = [os.dup(place) for place in places.in_order]
    theirs = worker.functions
    worker.functions = Functions({int(Kind.INVOKE): event_runner(_nothing)})
    for _ in range(_ROUNDS):
        request_r, request_w = os.pipe()
        os.write(request_w, request * _REQUESTS)
        # After the last one comes the end.
        os.close(request_w)
        places.fill([request_r, *[null] * (len(empty) - 1)])
        os.close(request_r)
        worker.work({})
    worker.functions = theirs
    places.fill(empty)
    for fd in (null, *empty):
        os.close(fd)
    records.begin(records.NO_REQUEST)


def _nothing(event: bytes, context: Any) -> str:
    return ""
