"""The front end's side of a zygote: starting it, giving it orders, hearing of it."""

from __future__ import annotations

import logging
import os
import signal
from collections import deque
from collections.abc import Iterable, Sequence

from isoruntime.errors import ExitStatus, ProtocolViolation
from isoruntime.loop import Loop
from isoruntime.typed import Any, Final, Protocol
from isoruntime.wire.order import LoadOrder
from isoruntime.wire.pipes import READ_BYTES
from isoruntime.zygote import protocol
from isoruntime.zygote.spawn import Spawned

_REAP_RETRY_S: Final = 0.005

_log = logging.getLogger("isoruntime.zygote")


#: What a worker was killed for, `memory` or `processes`, and how much it took (KiB or
#: a number); None if it was not killed for that.
Excess = tuple[str, int] | None


class ZygoteListener(Protocol):
    """Who hears of a zygote itself."""

    def zygote_loaded(
        self,
        zygote: Zygote,
        threads: int,
        seconds: float,
        skipped: dict[str, str],
        begun: Sequence[int],
    ) -> None:
        """Learn that the handler is imported; so many threads are running now.

        `skipped` are mechanisms of the sandbox that this host lacks, and why. For each
        slot in `begun`, which were ordered ahead, `worker_forked` or `worker_unforked`
        follows.
        """

    def zygote_failed(
        self, zygote: Zygote, error_type: str, body: bytes, place: str
    ) -> None:
        """Learn that the handler cannot be imported.

        `body` is the answer that says why, `place` the file and line, if known.
        """

    def zygote_died(self, zygote: Zygote, status: ExitStatus) -> None:
        """Learn that the process was reaped."""


class WorkerListener(Protocol):
    """Who hears of the workers that zygotes fork, and of what is printed meanwhile."""

    def zygote_output(self, data: bytes) -> None:
        """Learn that the handler printed something while it was imported."""

    def worker_forked(
        self, zygote: Zygote, slot: int, pid: int, descriptors: dict[str, int]
    ) -> None:
        """Learn that a worker was forked; the descriptors are the listener's from now on."""

    def worker_unforked(self, zygote: Zygote, slot: int, reason: str) -> None:
        """Learn that the system refused a fork."""

    def worker_exited(
        self,
        zygote: Zygote,
        slot: int,
        status: ExitStatus,
        peak_kb: int,
        excess: Excess,
    ) -> None:
        """Learn that a worker was reaped; `peak_kb` is its peak resident memory."""


class Zygote:
    """One zygote process, from its start to its reaping."""

    def __init__(
        self,
        loop: Loop,
        listener: ZygoteListener,
        workers: WorkerListener,
        order: LoadOrder,
        spawned: Spawned,
        ahead: Sequence[int] = (),
    ) -> None:
        """Take over a process that was just started, and tell it what to load.

        Workers for the slots `ahead` it forks at once then, without being asked again,
        unless what it has loaded left threads behind.
        """
        self._loop = loop
        self._listener = listener
        self._workers = workers
        self._ahead = ahead
        self._unsent: deque[bytes] = deque()
        self._is_closed = False
        #: whether it takes orders; while it imports it does not hear of any
        self.has_loaded = False
        self.pid = spawned.pid
        self._control, self._output_r = spawned.control, spawned.output_r
        os.set_blocking(self._output_r, False)
        self._control.setblocking(False)
        self._pidfd = _pidfd_of(self.pid)
        loop.watch(self._control.fileno(), self._on_control)
        loop.watch(self._output_r, self._on_output)
        if self._pidfd is not None:
            loop.watch(self._pidfd, self._on_end)
        self._send(protocol.encode("load", ahead=ahead, **order._asdict()))

    def __repr__(self) -> str:
        return f"<Zygote pid={self.pid}{' closed' if self._is_closed else ''}>"

    def fork(self, slots: list[int]) -> None:
        """Order workers; for each `worker_forked` or `worker_unforked` follows."""
        self._send(protocol.encode("fork", slots=slots))

    def kill_worker(self, slot: int) -> None:
        """Order the end of a worker with all its descendants."""
        self._send(protocol.encode("kill", slot=slot))

    def watch(self, on: bool) -> None:
        """Order memory and processes of all workers to be sampled, or not."""
        self._send(protocol.encode("watch", on=on))

    def dismiss(self) -> None:
        """Have it end by itself, with all its workers; `zygote_died` follows."""
        # Told, and not just left alone, it knows that the front end goes on.
        self._send(protocol.encode("end"))
        self._close_control()

    def kill(self) -> None:
        """End it at once; its workers die with it."""
        if not self._is_closed:
            # Safe because it is not reaped: the pid is its own, if only as a zombie.
            os.kill(self.pid, signal.SIGKILL)

    def _send(self, message: bytes) -> None:
        self._unsent.append(message)
        self._send_rest()

    def _send_rest(self) -> None:
        if self._control.fileno() < 0:
            self._unsent.clear()
            return
        while self._unsent:
            try:
                self._control.send(self._unsent[0])
            except BlockingIOError:
                break
            except OSError:
                # It is ending; whoever gave the order hears of that.
                self._unsent.clear()
                return
            self._unsent.popleft()
        self._loop.watch(
            self._control.fileno(), self._on_control, write=bool(self._unsent)
        )

    def _on_control(self, events: int) -> None:
        if self._unsent:
            self._send_rest()
        while self._control.fileno() >= 0:
            try:
                data, fds = protocol.receive_with_descriptors(self._control)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._close_control()
                self._on_end(0)
                return
            try:
                self._take(data, fds)
            except ProtocolViolation as violation:
                # The handler's own code runs there at import; a zygote that talks
                # nonsense is not ours any more.
                _log.error("%s; the zygote is replaced", violation)
                self.kill()
                return

    def _take(self, data: bytes, fds: list[int]) -> None:
        try:
            kind, fields = protocol.decode(data)
        except ProtocolViolation:
            _close_all(fds)
            raise
        if kind == "forked":
            self._hear_of_forks(fields["workers"], fields["has"], fds)
        else:
            _close_all(fds)
            self._hear(kind, fields)

    def _hear(self, kind: str, fields: dict[str, Any]) -> None:
        listener = self._listener
        if kind == "exited":
            for slot, code, peak_kb, of, used in fields["workers"]:
                status = ExitStatus.from_returncode(code)
                excess = (of, used) if of else None
                self._workers.worker_exited(self, slot, status, peak_kb, excess)
        elif kind == "loaded":
            self.has_loaded = True
            begun = self._ahead if fields["begins"] else ()
            # Once, however often user code in there says so.
            self._ahead = ()
            listener.zygote_loaded(
                self, fields["threads"], fields["seconds"], fields["skipped"], begun
            )
        elif kind == "failed":
            body = fields["body"].encode("utf-8", "replace")
            listener.zygote_failed(self, fields["type"], body, fields["place"])
        elif kind == "unforked":
            self._workers.worker_unforked(self, fields["slot"], fields["reason"])
        else:
            raise ProtocolViolation(f"{kind} is not the zygote's to say")

    def _hear_of_forks(
        self, workers: list[list[int]], names: list[str], fds: list[int]
    ) -> None:
        if len(names) * len(workers) != len(fds):
            _close_all(fds)
            raise ProtocolViolation(f"{len(fds)} descriptors as {names}")
        left = iter(fds)
        for slot, pid in workers:
            # From the same iterator each time: those of one worker after the other.
            descriptors = dict(zip(names, left))  # noqa: B905
            try:
                self._workers.worker_forked(self, slot, pid, descriptors)
            except ProtocolViolation:
                _close_all(left)
                raise

    def _on_output(self, events: int) -> None:
        try:
            data = os.read(self._output_r, READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._workers.zygote_output(data)
        else:
            self._loop.unwatch(self._output_r)

    def _on_end(self, events: int) -> None:
        if self._is_closed:
            return
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            # The socket closes a moment before the process can be waited for.
            self._loop.call_later(_REAP_RETRY_S, lambda: self._on_end(0))
            return
        # Set first: its last reports are read next, and their end leads here again.
        self._is_closed = True
        if self._control.fileno() >= 0:
            self._on_control(0)
        self._close_control()
        if self._pidfd is not None:
            self._loop.unwatch(self._pidfd)
            os.close(self._pidfd)
        self._read_last_output()
        code = os.waitstatus_to_exitcode(status)
        self._listener.zygote_died(self, ExitStatus.from_returncode(code))

    def _read_last_output(self) -> None:
        try:
            while data := os.read(self._output_r, READ_BYTES):
                self._workers.zygote_output(data)
        except BlockingIOError:
            pass
        self._loop.unwatch(self._output_r)
        os.close(self._output_r)

    def _close_control(self) -> None:
        if self._control.fileno() >= 0:
            self._loop.unwatch(self._control.fileno())
            self._control.close()


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def _pidfd_of(pid: int) -> int | None:
    # Safe because it is our child and not reaped: the pid is still its own.
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None
