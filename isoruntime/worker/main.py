"""The worker: takes one request frame at a time and answers it.

Everything after `Worker.work` is called happens in a process that the handler may do
anything to. So nothing here is trusted by anybody else, and every way out ends in
`os._exit`: control never goes back to the zygote's code below it on the stack.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import os
import sys

from isoruntime.bare import signal
from isoruntime.sandbox.walls import REQUIRED
from isoruntime.typed import TYPE_CHECKING, Final, NoReturn
from isoruntime.wire.frames import (
    LEFTOVERS,
    NO_NONCE,
    OUTPUT_PENDING,
    WORN_OUT,
    Frame,
    Kind,
    head,
)
from isoruntime.wire.pipes import (
    ACKNOWLEDGEMENT_AT,
    STACK_SIGNAL,
    read_frame,
    write_frame,
)
from isoruntime.worker import output, records
from isoruntime.worker.endings import EndedLike
from isoruntime.worker.faults import fault_of, load_fault_body
from isoruntime.worker.functions import Call, Link, load_functions
from isoruntime.worker.leftovers import Census, Processes
from isoruntime.worker.load import LoadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from isoruntime.wire.order import LoadOrder
    from isoruntime.worker.chaos import Chaos
    from isoruntime.worker.functions import Functions, Reply, Runner
    from isoruntime.worker.pipes import Places

#: What most workers say first: all walls stand.
_READY: Final = head(Kind.READY, NO_NONCE, b"", 0)


class Worker:
    """Answers requests with the user's functions.

    The zygote makes one, and each process that it forks goes on as it (`birth`).
    """

    def __init__(self, order: LoadOrder, places: Places) -> None:
        """`places` are where the ends of a worker's pipes will be."""
        #: what the zygote has imported; None where each worker does it
        self.functions: Functions | None = None
        self._order = order
        self._serves_once = order.serves_once
        self._reply_fd = places.reply_w
        self._output_fds = {places.stdout_w, places.stderr_w}
        self._requests = open(places.request_r, "rb", buffering=1 << 16)  # noqa: PTH123, SIM115 - a pipe, open until the end
        self._pid = 0
        self._processes = Processes()
        self._census: Census | None = None
        self._trace_fd = places.trace
        self._link = Link(places.trace, order.max_response_bytes, self._send_piece)
        self._skipped: dict[str, str] = {}
        self._read_frame, self._write_frame = read_frame, write_frame
        self._chaos: Chaos | None = None
        if order.chaos:
            # Only here: nothing but our own tests asks for it.
            from isoruntime.worker.chaos import Chaos

            chaos = Chaos(order.chaos)
            self._read_frame, self._write_frame = chaos.read_frame, chaos.write_frame
            self._chaos = chaos

    def trace_ends(self) -> None:
        """Have the stack written to the trace when a worker crashes, or is asked for it.

        To be called before the first fork, and after an import that may set up its own.
        """
        faulthandler.enable(file=self._trace_fd, all_threads=True)
        faulthandler.register(STACK_SIGNAL, file=self._trace_fd, all_threads=True)

    def work(self, skipped: dict[str, str]) -> None:
        """Be a worker, in a process that is in its place, until there is no more to do.

        `skipped` are walls that are not there, and why. What is to follow is `leave`.
        """
        self._pid = os.getpid()
        self._skipped = skipped
        if (
            skipped
            and self._order.sandbox == "strict"
            and not REQUIRED.isdisjoint(skipped)
        ):
            self._refuse()
        self._serve(self.functions or self._load())

    def _load(self) -> Functions:
        """Load the user's functions here, since the zygote has not."""
        if self._order.debug_port:
            # Only here: not even looked for unless somebody asks.
            from isoruntime.worker import debugger

            debugger.wait_for_client(self._order.debug_port)
        try:
            return load_functions(self._order)
        except LoadError as error:
            told = f"{error.error_type}\n{error.place}"
            return self._fail(told.encode("utf-8", "replace"), load_fault_body(error))
        except SystemExit as error:
            return self._leave_as_asked(error)

    def _refuse(self) -> NoReturn:
        """Say which walls are missing, and end: nobody's code runs without them."""
        reasons = "; ".join(f"{name}: {why}" for name, why in self._skipped.items())
        message = f"--sandbox strict cannot be kept: {reasons}"
        error = LoadError("RuntimeFault", message, [])
        self._fail(b"RuntimeFault", load_fault_body(error))

    def _fail(self, kind: bytes, body: bytes) -> NoReturn:
        output.flush()
        # A server that did not start has said more than anybody else could.
        flags = OUTPUT_PENDING if self._order.upstream else 0
        write_frame(self._reply_fd, Kind.FAILED, NO_NONCE, kind, body, flags)
        # Safe because all that is left of this import is of no use to anybody.
        os._exit(0)

    def _serve(self, functions: Functions) -> None:
        """Answer requests until the front end closes the pipe."""
        if functions.child:
            self._processes.keep(functions.child)
        if not self._serves_once:
            self._census = Census(
                # Where user code is in another process, this one does not grow.
                0 if functions.child else self._order.memory_limit_mb,
                self._processes,
                with_threads=not functions.keeps_threads,
            )
        if self._skipped:
            skipped = json.dumps(self._skipped).encode()
            write_frame(self._reply_fd, Kind.READY, NO_NONCE, skipped)
        else:
            os.write(self._reply_fd, _READY)
        read_frame, requests = self._read_frame, self._requests
        wait, chaos = functions.wait_for_request, self._chaos
        while True:
            if wait is not None:
                self._wait(wait)
            request = read_frame(requests)
            if request is None:
                return
            # Word that this request is being worked on, and must not be repeated. If
            # that fails the process ends here, before anything has happened: somebody
            # else gets the request.
            os.pwrite(self._trace_fd, request.nonce, ACKNOWLEDGEMENT_AT)
            if chaos is not None:
                chaos.acknowledged()
            self._answer(request, functions)

    def _wait(self, wait: Callable[[int], object]) -> None:
        try:
            wait(self._requests.fileno())
        except EndedLike as ending:
            self._end_like(ending)

    def _answer(self, request: Frame, functions: Functions) -> None:
        call = Call(request, self._link)
        records.begin(request.meta)
        if self._order.credentials_in_environment:
            _publish_credentials(call.fields)
        kind, meta, body = self._call(functions.by_kind[request.kind], call)
        if os.getpid() != self._pid:
            # The handler forked and both sides came back; only one may answer.
            os._exit(0)
        if not functions.child:
            output.flush()
        flags = 0
        # The front end looks faster than a process that has never looked before.
        if self._serves_once or any(map(output.is_pending, self._output_fds)):
            flags |= OUTPUT_PENDING
        flags |= self._leftovers()
        self._write_frame(self._reply_fd, kind, request.nonce, meta, body, flags)

    def _leftovers(self) -> int:
        """Return the flags that tell what the handler has left."""
        if self._census is None:
            is_alive, _ = self._processes.look()
            return LEFTOVERS if is_alive else 0
        is_alive, is_worn_out = self._census.look()
        return LEFTOVERS * is_alive | WORN_OUT * is_worn_out

    def _send_piece(self, kind: int, nonce: bytes, meta: bytes, body: bytes) -> None:
        if os.getpid() != self._pid:
            # Safe, and needed: see above.
            os._exit(0)
        write_frame(self._reply_fd, kind, nonce, meta, body)

    def _call(self, run: Runner, call: Call) -> Reply:
        try:
            kind, meta, body = run(call)
        except SystemExit as error:
            self._leave_as_asked(error)
        except KeyboardInterrupt:
            self._interrupt()
        except EndedLike as ending:
            self._end_like(ending)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller is told
            error_type, body = fault_of(error)
            return Kind.FAULT, error_type.encode("utf-8", "replace"), body
        if len(body) > call.max_response_bytes:
            return Kind.TOO_LARGE, b"%d" % len(body), b""
        return kind, meta, body

    def _leave_as_asked(self, request: SystemExit) -> NoReturn:
        """End as `sys.exit` asked, in the way Python itself would."""
        code = request.code
        if code is None or isinstance(code, int):
            self.leave((code or 0) & 0xFF)
        print(code, file=sys.stderr)  # noqa: T201 - what Python does with a text
        self.leave(1)

    def _interrupt(self) -> NoReturn:
        """End as an uncaught KeyboardInterrupt does: traceback, then the signal."""
        sys.excepthook(*sys.exc_info())
        output.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        os._exit(130)

    def _end_like(self, ending: EndedLike) -> NoReturn:
        """End as a process has that we stand for, for whoever looks at how we end."""
        output.flush()
        if ending.signal is None:
            # Safe because nothing of Python's is the user's here.
            os._exit(ending.code & 0xFF)
        faulthandler.disable()
        if ending.signal != signal.SIGKILL:
            signal.signal(ending.signal, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {ending.signal})
        os.kill(os.getpid(), ending.signal)
        os._exit(128 + ending.signal)

    def leave(self, code: int) -> NoReturn:
        """End, with the exit functions of user code.

        The interpreter's own clean-up is left out: it waits for threads that may never
        end.
        """
        if os.getpid() == self._pid:
            atexit._run_exitfuncs()
        output.flush()
        os._exit(code)


def _publish_credentials(fields: dict[str, str]) -> None:
    for name, field in (
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "access-key-id"),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "access-key-secret"),
        ("ALIBABA_CLOUD_SECURITY_TOKEN", "security-token"),
    ):
        value = fields.get(field)
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
