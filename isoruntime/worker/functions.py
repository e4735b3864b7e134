"""What a function consists of, and how a worker runs each kind of it.

    handler, initializer, hooks    Python functions of the user's     here
    HTTP application               WSGI or ASGI                       `wsgi`, `asgi`
    command                        a program for each event           `command`
    upstream                       an HTTP server beside the worker   `upstream`

Everything else about an invocation is the same for all of them and is not known here:
limits, verdicts, leftovers, output. A kind is a function from a `Call` to the frame
that answers it; modules of kinds that are not used are not imported.
"""

from __future__ import annotations

import gc
import os
import time

from isoruntime.contract.encoding import encode
from isoruntime.typed import TYPE_CHECKING, Any
from isoruntime.wire.frames import Kind
from isoruntime.wire.pipes import CANCELLATION_AT
from isoruntime.worker import records
from isoruntime.worker.context import (
    Context,
    deadline_of,
    fields_of,
    request_id_of,
)
from isoruntime.worker.coroutines import DeadlinePassed, is_coroutine, wait_for
from isoruntime.worker.load import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from isoruntime.wire.frames import Frame
    from isoruntime.wire.order import LoadOrder

    #: kind, meta and body of the frame that answers a call
    Reply = tuple[int, bytes, bytes | bytearray]
    Runner = Callable[["Call"], Reply]

#: How many more objects than before an import may make until the garbage collector looks
#: all the same: some load data, and not any amount of garbage may be left lying.
_NEW_OBJECTS = 100_000
#: Of a body that is sent in pieces, what goes into one frame.
PIECE_BYTES = 64 * 1024


class Link:
    """What a worker has to do with the front end while it answers; one for all calls."""

    __slots__ = ("max_response_bytes", "send", "trace_fd")

    def __init__(
        self,
        trace_fd: int,
        max_response_bytes: int,
        send: Callable[[int, bytes, bytes, bytes], None],
    ) -> None:
        self.trace_fd = trace_fd
        self.max_response_bytes = max_response_bytes
        #: writes one frame of a reply
        self.send = send


class Call:
    """One request to the function, with what is known about it.

    What its frame says is read when somebody asks: most handlers never do.
    """

    __slots__ = ("_context", "_link", "_meta", "_received_at", "body", "nonce")

    def __init__(self, frame: Frame, link: Link) -> None:
        """Take the frame of a request that has just been read."""
        _, self.nonce, self._meta, self.body, _ = frame
        self._link = link
        self._received_at = time.monotonic()
        self._context: Context | None = None

    @property
    def request_id(self) -> str:
        """The caller's name for the invocation, or the front end's."""
        return request_id_of(self._meta)

    @property
    def deadline(self) -> float | None:
        """When it has to be over, in monotonic seconds; None if there is no limit."""
        return deadline_of(self._meta, self._received_at)

    @property
    def http_request(self) -> bytes:
        """For functions that speak HTTP, a `contract.http.Request`."""
        return self._meta.split(b"\n", 3)[3]

    @property
    def fields(self) -> dict[str, str]:
        """What the platform says about the invocation, by header name."""
        return fields_of(self._meta)

    @property
    def max_response_bytes(self) -> int:
        """How long the body of the answer may be."""
        return self._link.max_response_bytes

    @property
    def context(self) -> Context:
        """A context of its own for the handler.

        Kept here, so that what the handler hung on it is let go after the answer.
        """
        if self._context is None:
            self._context = Context(self._meta, self._received_at)
        return self._context

    @property
    def left_ms(self) -> int | None:
        """Milliseconds left, none if there is no limit."""
        deadline = self.deadline
        if deadline is None:
            return None
        return max(0, int((deadline - time.monotonic()) * 1000))

    def begin(self, head: bytes) -> None:
        """Answer with a head (`contract.http.encode_head`), whose body follows."""
        self._link.send(Kind.RESPONSE_HEAD, self.nonce, head, b"")

    def send(self, data: bytes) -> None:
        """Send more of the body."""
        for at in range(0, len(data), PIECE_BYTES):
            self._link.send(Kind.CHUNK, self.nonce, b"", data[at : at + PIECE_BYTES])

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for the rest of the answer any more."""
        said = os.pread(self._link.trace_fd, len(self.nonce), CANCELLATION_AT)
        return said == self.nonce

    def note_cancellation(self) -> None:
        """Tell the front end that the handler is cleaning up, since its time is over."""
        os.pwrite(self._link.trace_fd, self.nonce, CANCELLATION_AT)


class Functions:
    """The runners of one function, by the kind of frame that asks for them."""

    __slots__ = ("by_kind", "child", "keeps_threads", "wait_for_request")

    def __init__(self, by_kind: dict[int, Runner]) -> None:
        self.by_kind = by_kind
        #: a process that belongs to the function itself, and is no leftover; 0 for none
        self.child = 0
        #: whether threads are the function's own affair, as those of any HTTP server
        self.keeps_threads = False
        #: waits until there is a request to read at a descriptor, and may do so in vain
        self.wait_for_request: Callable[[int], object] | None = None


def load_functions(order: LoadOrder) -> Functions:
    """Load everything the function consists of; what is a process is started.

    Raises:
        LoadError: something of it is missing, or does not import or start.
    """
    if order.command:
        from isoruntime.worker.command import Command

        command = Command(order)
        return Functions({int(Kind.INVOKE): command.run})
    if order.upstream:
        from isoruntime.worker.upstream import Upstream

        upstream = Upstream(order)
        functions = Functions({int(Kind.HTTP): upstream.run})
        functions.child = upstream.start()
        functions.wait_for_request = upstream.wait_for_request
        return functions
    return _imported(order)


def _imported(order: LoadOrder) -> Functions:
    """Load the user's modules, with the garbage collector kept off what they make.

    Nearly all of it stays. To look through it again and again took a tenth to a sixth of
    the time of an import (flask, numpy, pandas); that freed some 500 objects of 50,000.
    And each process that looks writes to, and so copies, every page with an object.
    """
    usual = gc.get_threshold()
    rare = (_NEW_OBJECTS, *usual[1:])
    gc.set_threshold(*rare)
    try:
        return _python_functions(order)
    finally:
        gc.freeze()
        if gc.get_threshold() == rare:
            # Otherwise the user's code has set its own.
            gc.set_threshold(*usual)


def _python_functions(order: LoadOrder) -> Functions:
    names = {
        Kind.INITIALIZE: order.initializer,
        Kind.PRE_STOP: order.pre_stop,
        Kind.PRE_FREEZE: order.pre_freeze,
    }
    by_kind: dict[int, Runner] = {}
    handler = load(order.handler) if order.handler else None
    if handler is not None:
        by_kind[Kind.INVOKE] = event_runner(handler)
    for kind, name in names.items():
        if name is not None:
            by_kind[kind] = _hook_runner(load(name))
    # An application has to be one. A handler may be one, as on the built-in runtime, and
    # that is looked into when somebody asks.
    if order.http is not None:
        from isoruntime.worker.application import application_runner

        by_kind[Kind.HTTP] = application_runner(load(order.http))
    elif handler is not None:
        by_kind[Kind.HTTP] = _handler_as_application(handler)
    functions = Functions(by_kind)
    functions.keeps_threads = order.http is not None
    return functions


def event_runner(handler: Callable[..., Any]) -> Runner:
    """Return what runs a handler for an event."""
    records.prepare_for(handler)
    # Before Python 3.12 a look into an Enum goes through a function.
    result = Kind.RESULT

    def run(call: Call) -> Reply:
        value = handler(call.body, call.context)
        if is_coroutine(value):
            try:
                value = wait_for(value, call.deadline, call.note_cancellation)
            except DeadlinePassed:
                return Kind.CANCELLED, b"", b""
        return result, b"", encode(value)

    return run


def _hook_runner(hook: Callable[..., Any]) -> Runner:
    records.prepare_for(hook)

    def run(call: Call) -> Reply:
        value = hook(call.context)
        if is_coroutine(value):
            try:
                wait_for(value, call.deadline, call.note_cancellation)
            except DeadlinePassed:
                return Kind.CANCELLED, b"", b""
        return Kind.RESULT, b"", b""

    return run


def _handler_as_application(handler: Callable[..., Any]) -> Runner:
    runner: Runner | None = None

    def run(call: Call) -> Reply:
        nonlocal runner
        if runner is None:
            from isoruntime.worker.application import application_runner, looks_like_one

            if not looks_like_one(handler):
                return Kind.NOT_HTTP, b"", b""
            runner = application_runner(handler)
        return runner(call)

    return run
