"""The worker: takes one request frame at a time and answers it.

Everything after `run` is called happens in a process that the handler may do
anything to. So nothing here is trusted by anybody else, and every way out ends in
`os._exit`: control never goes back to the zygote's code below it on the stack.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from isoruntime.sandbox import _libc
from isoruntime.sandbox.descriptors import close_all_but
from isoruntime.sandbox.walls import REQUIRED
from isoruntime.wire.frames import (
    LEFTOVERS,
    NO_NONCE,
    OUTPUT_PENDING,
    WORN_OUT,
    Frame,
    Kind,
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
from isoruntime.worker.functions import Call, load_functions
from isoruntime.worker.leftovers import Census
from isoruntime.worker.load import LoadError

if TYPE_CHECKING:
    from isoruntime.wire.order import LoadOrder
    from isoruntime.worker.birth import Birth
    from isoruntime.worker.chaos import Chaos
    from isoruntime.worker.functions import Functions, Reply, Runner
    from isoruntime.worker.pipes import WorkerEnds

#: What a user without an entry in /etc/passwd is called.
USER_NAME = "worker"


def run(order: LoadOrder, functions: Functions | None, birth: Birth) -> NoReturn:
    """Be a worker, from the fork to the end of the process."""
    os.setsid()
    _libc.become_subreaper()
    ends, cell = birth.ends, birth.cell
    ends.move_into_place()
    kept = {0, 1, 2, *ends.in_order(), *birth.users_fds}
    close_all_but(kept if cell.ruleset < 0 else {*kept, cell.ruleset})
    _move_in(birth)
    skipped = birth.walls.enclose_worker(cell, (ends.stdout_w, ends.stderr_w))
    # Another user's process is no longer tied to its parent.
    if cell.uid and not _libc.die_with_parent(birth.parent):
        # Safe because nothing of the user's has run in here.
        os._exit(0)
    faulthandler.enable(file=ends.trace, all_threads=True)
    faulthandler.register(STACK_SIGNAL, file=ends.trace, all_threads=True)
    worker = Worker(order, ends, skipped)
    if birth.walls.policy.is_strict and not REQUIRED.isdisjoint(skipped):
        worker.refuse()
    if functions is None:
        functions = worker.load()
    worker.serve(functions)


def _move_in(birth: Birth) -> None:
    """Have temporary files, and what belongs into a home folder, go to our own."""
    if not birth.folder:
        return
    os.environ["TMPDIR"] = birth.folder
    if birth.walls.is_up:
        # That of the operator is out of reach, and none of a handler's business.
        os.environ["HOME"] = birth.folder
    if birth.cell.uid:
        os.environ["USER"] = os.environ["LOGNAME"] = USER_NAME
    tempfile: Any = sys.modules.get("tempfile")
    if tempfile is not None:
        # It has looked the folder up once, when the handler was imported.
        tempfile.tempdir = None


class Worker:
    """Answers requests with the user's functions."""

    def __init__(
        self, order: LoadOrder, ends: WorkerEnds, skipped: dict[str, str]
    ) -> None:
        self._order = order
        self._skipped = skipped
        self._reply_fd = ends.reply_w
        self._output_fds = {ends.stdout_w, ends.stderr_w}
        self._requests = open(ends.request_r, "rb", buffering=1 << 16)  # noqa: PTH123, SIM115 - a pipe, open until the end
        self._pid = os.getpid()
        self._trace_fd = ends.trace
        self._read_frame, self._write_frame = read_frame, write_frame
        self._chaos: Chaos | None = None
        if order.chaos:
            # Only here: nothing but our own tests asks for it.
            from isoruntime.worker.chaos import Chaos

            chaos = Chaos(order.chaos)
            self._read_frame, self._write_frame = chaos.read_frame, chaos.write_frame
            self._chaos = chaos

    def _acknowledge(self, nonce: bytes) -> None:
        """Leave word that this request is being worked on, and must not be repeated.

        If that fails the process ends here, before anything has happened: somebody
        else gets the request.
        """
        os.pwrite(self._trace_fd, nonce, ACKNOWLEDGEMENT_AT)
        if self._chaos is not None:
            self._chaos.acknowledged()

    def load(self) -> Functions:
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
            return self._leave(error)

    def refuse(self) -> NoReturn:
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

    def serve(self, functions: Functions) -> NoReturn:
        """Answer requests until the front end closes the pipe."""
        census = Census(
            # Where user code is in another process, this one does not grow.
            0 if functions.child else self._order.memory_limit_mb,
            own_child=functions.child,
            with_threads=not functions.keeps_threads,
        )
        skipped = json.dumps(self._skipped).encode() if self._skipped else b""
        write_frame(self._reply_fd, Kind.READY, NO_NONCE, skipped)
        while (request := self._next_request(functions)) is not None:
            self._acknowledge(request.nonce)
            self._answer(request, functions, census)
        self._exit(0)

    def _next_request(self, functions: Functions) -> Frame | None:
        if functions.wait_for_request is not None:
            try:
                functions.wait_for_request(self._requests.fileno())
            except EndedLike as ending:
                self._end_like(ending)
        return self._read_frame(self._requests)

    def _answer(self, request: Frame, functions: Functions, census: Census) -> None:
        call = Call(
            request, self._trace_fd, self._order.max_response_bytes, self._send_piece
        )
        records.begin(call.request_id)
        if self._order.credentials_in_environment:
            _publish_credentials(call.fields)
        kind, meta, body = self._call(functions.by_kind[request.kind], call)
        if os.getpid() != self._pid:
            # The handler forked and both sides came back; only one may answer.
            os._exit(0)
        if not functions.child:
            output.flush()
        flags = OUTPUT_PENDING if any(map(output.is_pending, self._output_fds)) else 0
        has_processes, has_anything = census.look()
        if has_processes:
            flags |= LEFTOVERS
        if has_anything:
            flags |= WORN_OUT
        self._write_frame(self._reply_fd, kind, request.nonce, meta, body, flags)

    def _send_piece(self, kind: int, nonce: bytes, meta: bytes, body: bytes) -> None:
        if os.getpid() != self._pid:
            # Safe, and needed: see above.
            os._exit(0)
        write_frame(self._reply_fd, kind, nonce, meta, body)

    def _call(self, run: Runner, call: Call) -> Reply:
        try:
            kind, meta, body = run(call)
        except SystemExit as error:
            self._leave(error)
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

    def _leave(self, request: SystemExit) -> NoReturn:
        """End as `sys.exit` asked, in the way Python itself would."""
        code = request.code
        if code is None or isinstance(code, int):
            self._exit((code or 0) & 0xFF)
        print(code, file=sys.stderr)  # noqa: T201 - what Python does with a text
        self._exit(1)

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

    def _exit(self, code: int) -> NoReturn:
        # Without the interpreter's own clean-up, which waits for threads that may
        # never end; user code's exit functions do run.
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
