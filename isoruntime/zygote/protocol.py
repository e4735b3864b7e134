"""Messages between the front end and the zygote.

One message is one packet of a `SOCK_SEQPACKET` socket, so nothing is cut or
joined. It is a JSON object with the key `is`:

    front end -> zygote   load {ahead, …LoadOrder}      once, first
                              `ahead`: slots of workers to fork as soon as it has loaded
                          fork {slots}        one worker for each slot
                          kill {slot}         the worker and all its descendants
                          watch {on}          sample memory while work is done
                          end {}              with all workers; the front end goes on
    zygote -> front end   loaded {threads, seconds, skipped, begins}
                              `skipped`: mechanisms of the sandbox, and why
                              `begins`: whether it forks those that were ordered ahead
                          failed {type, body, place}    the handler does not load
                              `place`: the file and the line that broke, if known
                          forked {workers, has} + descriptors
                              of each worker [slot, pid]; `has` are the names of its
                              descriptors, and those of the first come first
                          unforked {slot, reason}       the system refused
                          exited {workers}
                              of each [slot, status, peak_kb, excess, used]
                              `excess`: what the watchdog killed it for, or nothing

Several workers in one message, because what a message costs on both sides is a good
part of what a worker costs that serves once.

The code a handler runs at import runs in the zygote, so what comes from there is
judged like any other input.
"""

from __future__ import annotations

import json
import struct

from isoruntime.bare import socket
from isoruntime.errors import ProtocolViolation
from isoruntime.typed import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Larger than any message; the kernel's default socket buffer holds it.
MAX_MESSAGE: Final = 128 * 1024

#: What comes with `forked` for each worker, in this order; `pidfd` only where the kernel
#: has them, `stderr` only when output streams are kept apart.
DESCRIPTORS: Final = ("request", "reply", "trace", "stdout", "stderr", "pidfd")
#: So many workers come with one `forked`; the kernel passes no more than 253 descriptors.
MOST_FORKED: Final = 4
MOST_DESCRIPTORS: Final = MOST_FORKED * len(DESCRIPTORS)
_INT: Final = struct.Struct("i")
_DESCRIPTORS_SPACE: Final = socket.CMSG_SPACE(MOST_DESCRIPTORS * _INT.size)
#: So many are told of by one `exited`.
MOST_EXITED: Final = 256

_FIELDS: Final[dict[str, dict[str, type]]] = {
    "load": {"ahead": list},
    "fork": {"slots": list},
    "kill": {"slot": int},
    "watch": {"on": bool},
    "end": {},
    "loaded": {"threads": int, "seconds": float, "skipped": dict, "begins": bool},
    "failed": {"type": str, "body": str, "place": str},
    "forked": {"workers": list, "has": list},
    "unforked": {"slot": int, "reason": str},
    "exited": {"workers": list},
}
#: Where slots are listed.
_SLOTS: Final = {"load": "ahead", "fork": "slots"}
#: What is said of each of the workers.
_OF_WORKERS: Final[dict[str, list[type]]] = {
    "forked": [int, int],
    "exited": [int, int, int, str, int],
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
        is_sound = is_sound and _is_sound_within(kind, message)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ProtocolViolation(f"unreadable zygote message: {error!r}") from None
    if not is_sound:
        raise ProtocolViolation(f"a zygote message {kind!r} with odd fields")
    return kind, message


def _is_sound_within(kind: str, message: dict[str, Any]) -> bool:
    if kind in _SLOTS:
        return all(type(slot) is int for slot in message[_SLOTS[kind]])
    types = _OF_WORKERS.get(kind)
    if types is None:
        return True
    for worker in message["workers"]:
        if type(worker) is not list or list(map(type, worker)) != types:
            return False
    return kind != "forked" or all(name in DESCRIPTORS for name in message["has"])


def send_with_descriptors(
    control: socket.socket, message: bytes, descriptors: Sequence[int]
) -> None:
    """Send a message, and copies of our descriptors with it.

    As `socket.send_fds` does, with less imported.

    Raises:
        OSError: nobody is there to receive them.
    """
    packed = struct.pack(f"{len(descriptors)}i", *descriptors)
    control.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)])


def receive_with_descriptors(control: socket.socket) -> tuple[bytes, list[int]]:
    """Return a message, and what came with it; an empty one if nobody is there any more.

    No program executed later has the descriptors. `socket.recv_fds` cannot do that: up to
    Python 3.13 at least it leaves out the flags it is given.

    Raises:
        OSError: there is no message now, or never again.
    """
    data, ancillary, _, _ = control.recvmsg(
        MAX_MESSAGE, _DESCRIPTORS_SPACE, socket.MSG_CMSG_CLOEXEC
    )
    descriptors: list[int] = []
    for level, kind, packed in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            number = len(packed) // _INT.size
            descriptors += struct.unpack_from(f"{number}i", packed)
    return data, descriptors
