"""Messages between the front end and the zygote.

One message is one packet of a `SOCK_SEQPACKET` socket, so nothing is cut or
joined. It is a JSON object with the key `is`:

    front end -> zygote   load {…LoadOrder}   once, first
                          fork {slot}         one more worker
                          kill {slot}         the worker and all its descendants
                          watch {on}          sample memory while work is done
                          end {}              with all workers; the front end goes on
    zygote -> front end   loaded {threads, seconds, skipped}
                              `skipped`: mechanisms of the sandbox, and why
                          failed {type, body, place}    the handler does not load
                              `place`: the file and the line that broke, if known
                          forked {slot, pid} + descriptors
                          unforked {slot, reason}       the system refused
                          exited {slot, status, peak_kb, excess, used}
                              `excess`: what the watchdog killed it for, or nothing

The code a handler runs at import runs in the zygote, so what comes from there is
judged like any other input.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from isoruntime.errors import ProtocolViolation

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Larger than any message; the kernel's default socket buffer holds it.
MAX_MESSAGE: Final = 128 * 1024

#: What comes with `forked`, in this order; `pidfd` only where the kernel has them,
#: `stderr` only when output streams are kept apart.
DESCRIPTORS: Final = ("request", "reply", "trace", "stdout", "stderr", "pidfd")


_FIELDS: Final[dict[str, dict[str, type]]] = {
    "load": {},
    "fork": {"slot": int},
    "kill": {"slot": int},
    "watch": {"on": bool},
    "end": {},
    "loaded": {"threads": int, "seconds": float, "skipped": dict},
    "failed": {"type": str, "body": str, "place": str},
    "forked": {"slot": int, "pid": int, "has": list},
    "unforked": {"slot": int, "reason": str},
    "exited": {
        "slot": int,
        "status": int,
        "peak_kb": int,
        "excess": str,
        "used": int,
    },
}


def encode(kind: str, **fields: Any) -> bytes:
    """Return one message."""
    fields["is"] = kind
    return json.dumps(fields).encode()


def decode(data: bytes) -> tuple[str, dict[str, Any]]:
    """Return the kind and the fields of one message.

    Raises:
        ProtocolViolation: it is none of the messages above.
    """
    try:
        message = json.loads(data)
        kind = message.pop("is")
        wanted = _FIELDS[kind]
        is_sound = all(type(message[name]) is wanted[name] for name in wanted)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ProtocolViolation(f"unreadable zygote message: {error!r}") from None
    if kind == "forked":
        is_sound = is_sound and all(name in DESCRIPTORS for name in message["has"])
    if not is_sound:
        raise ProtocolViolation(f"a zygote message {kind!r} with odd fields")
    return kind, message


def send_with_descriptors(
    control: socket.socket, message: bytes, descriptors: Sequence[int]
) -> None:
    """Send a message, and copies of our descriptors with it.

    As `socket.send_fds` does, which imports a module that nothing else needs here.

    Raises:
        OSError: nobody is there to receive them.
    """
    packed = struct.pack(f"{len(descriptors)}i", *descriptors)
    control.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)])
