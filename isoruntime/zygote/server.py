"""The zygote itself: one thread that forks, reaps and kills workers on order.

It holds no event, header or credential, since every later worker can read all
that it has seen. It must stay single-threaded: a fork copies one thread only, and
whatever another one had locked would stay locked in the worker for ever.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
from typing import Any, NoReturn

from isoruntime.sandbox import _libc
from isoruntime.wire.order import LoadOrder
from isoruntime.worker import load, output
from isoruntime.worker import main as worker_main
from isoruntime.worker.faults import load_fault_body
from isoruntime.worker.pipes import Pipes
from isoruntime.zygote import protocol, tree
from isoruntime.zygote.folders import remove, remove_orphaned, worker_folder
from isoruntime.zygote.groups import Groups
from isoruntime.zygote.watchdog import Excess, Watchdog

#: The kernel says that it will kill, and does so a little later: how long to look.
_LOOK_AGAIN_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)

#: Sent by the kernel when the front end ends. A real-time signal near the end of the
#: range, where neither libraries nor users look for one.
_ORPHANED = signal.SIGRTMAX - 3
#: A body that would not fit into one message says so instead.
_MAX_FAULT_BODY = 64 * 1024


def main(control_fd: int, front_end: int) -> NoReturn:
    """Serve the front end at the other end of `control_fd` until it is gone.

    `front_end` is its process; who our parent is says little, once it is dead.
    """
    # Every exit below is safe, and immediate, because nothing of the user's has run
    # yet, or nobody is left to serve.
    if not _libc.die_with_parent(front_end):
        os._exit(0)
    # A session of its own: Ctrl-C in the terminal is for the front end, which drains.
    os.setsid()
    _libc.become_subreaper()
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    data = control.recv(protocol.MAX_MESSAGE)
    if not data:
        os._exit(0)
    kind, fields = protocol.decode(data)
    if kind != "load":
        raise SystemExit(f"expected an order to load, got {kind!r}")
    order = LoadOrder(**fields)
    prepare(order)
    zygote = ZygoteServer(control, order, front_end)
    # From here on there is more to do at the front end's end than to die: what user
    # code has started goes too. While it is imported nobody looks at the control
    # socket, so the kernel sends a signal; later the socket's end is noticed.
    signal.signal(_ORPHANED, zygote.end_orphaned)
    if not _libc.die_with_parent(front_end, _ORPHANED):
        zygote.end_orphaned()
    if order.preload:
        zygote.preload()
    else:
        zygote.say("loaded", threads=1, seconds=0.0)
    zygote.serve()


def prepare(order: LoadOrder) -> None:
    """Make this process what user code expects to find itself in."""
    os.environ.update(order.environment)
    try:
        os.chdir(order.code_dir)
    except OSError as error:
        print(f"cannot enter {order.code_dir}: {error}", file=sys.stderr)  # noqa: T201
    load.prepare_path(order.code_dir)
    output.install(order.log_level)


class ZygoteServer:
    """Carries out the front end's orders."""

    def __init__(
        self, control: socket.socket, order: LoadOrder, front_end: int
    ) -> None:
        self._control = control
        self._order = order
        self._is_dismissed = False
        self._slots: dict[int, int] = {}  # slot -> pid
        self._pids: dict[int, int] = {}  # pid -> slot
        # Peaks seen before a kill: `ru_maxrss` misses descendants that are not
        # waited for.
        self._peaks_kb: dict[int, int] = {}
        self._handlers: worker_main.Handlers | None = None
        self._folders: dict[int, str] = {}  # pid -> temporary folder
        self._watchdog = Watchdog(order.memory_limit_mb, order.max_processes)
        self._groups = Groups(front_end, order.memory_limit_mb, order.max_processes)
        # When to look again who was killed, the next one last.
        self._looks: list[float] = []
        self._pid = os.getpid()
        self._is_watching = False
        self._next_sample_at = 0.0
        self._excesses: dict[int, Excess] = {}  # pid -> why the watchdog killed it
        # Orphans that were killed and have not been reaped yet.
        self._doomed: set[int] = set()
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._watch_children()

    def say(self, kind: str, **fields: Any) -> None:
        """Send one message; the end of the front end is noticed elsewhere."""
        try:
            self._control.sendall(protocol.encode(kind, **fields))
        except OSError:
            self._end()

    def preload(self) -> None:
        """Import the handler here, once for all workers."""
        started = time.monotonic()
        try:
            self._handlers = worker_main.load_handlers(self._order)
        except load.LoadError as error:
            text = load_fault_body(error).decode("ascii", "replace")[:_MAX_FAULT_BODY]
            self.say("failed", type=error.error_type, body=text)
            self._end()
        # An import may have changed what we rely on.
        self._watch_children()
        sys.stdout.flush()
        sys.stderr.flush()
        threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - pathlib is slow to import
        # Without freeze() the first collection in every worker would write to, and
        # so copy, every page with an object on it.
        gc.collect()
        gc.freeze()
        self.say("loaded", threads=threads, seconds=time.monotonic() - started)

    def _watch_children(self) -> None:
        signal.signal(signal.SIGCHLD, _note_signal)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)

    def _make_poll(self) -> select.poll:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake_r, select.POLLIN)
        if self._groups.alarm >= 0:
            poll.register(self._groups.alarm, select.POLLIN)
        return poll

    def serve(self) -> NoReturn:
        """Take orders and reap, until the front end is gone."""
        # Not earlier: the front end has been told, and goes on meanwhile.
        self._groups.open()
        if self._order.temp_base:
            remove_orphaned(self._order.temp_base)
        poll = self._make_poll()
        # A worker may have been reaped before the first poll could know of it.
        self._reap()
        while True:
            for fd, _ in poll.poll(self._wait_ms()):
                if fd == self._wake_r:
                    self._drain_wakeups()
                    self._reap()
                elif fd == self._groups.alarm:
                    self._groups.silence()
                    now = time.monotonic()
                    self._looks = [now + wait for wait in reversed(_LOOK_AGAIN_S)]
                    self._look_for_victims()
                else:
                    self._take_order()
            if self._looks and time.monotonic() >= self._looks[-1]:
                self._looks.pop()
                self._look_for_victims()
            if self._is_watching and time.monotonic() >= self._next_sample_at:
                self._sample()

    def _wait_ms(self) -> float | None:
        due = self._looks[-1:]
        if self._is_watching and self._pids:
            due.append(self._next_sample_at)
        return max(0.0, min(due) - time.monotonic()) * 1000 if due else None

    def _look_for_victims(self) -> None:
        """Kill with its whole tree every worker the kernel killed a process of."""
        for slot, pid in self._slots.items():
            used_kb = 0 if pid in self._excesses else self._groups.memory_taken_kb(slot)
            if used_kb:
                self._excesses[pid] = Excess(pid, "memory", used_kb)
                tree.kill_tree(pid)

    def _sample(self) -> None:
        for excess in self._watchdog.sample(self._pids):
            self._excesses.setdefault(excess.pid, excess)
            tree.kill_tree(excess.pid)
        interval_s = self._watchdog.interval_s(len(self._pids))
        self._next_sample_at = time.monotonic() + interval_s

    def _drain_wakeups(self) -> None:
        try:
            while len(os.read(self._wake_r, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def _take_order(self) -> None:
        try:
            data = self._control.recv(protocol.MAX_MESSAGE)
        except ConnectionError:
            data = b""
        if not data:
            self._end()
        kind, fields = protocol.decode(data)
        if kind == "fork":
            self._fork(fields["slot"])
        elif kind == "kill":
            self._kill(fields["slot"])
        elif kind == "watch":
            self._is_watching = fields["on"]
        elif kind == "end":
            self._is_dismissed = True
            self._end()

    def _fork(self, slot: int) -> None:
        order = self._order
        pipes = Pipes(split_output=order.split_output)
        folder = worker_folder(order.temp_base, slot) if order.temp_base else None
        self._groups.take(slot)
        try:
            # Safe because there is one thread, so nothing is locked by another.
            pid = os.fork()
        except OSError as error:
            pipes.close()
            self._groups.give_back(slot, was_killed=False)
            if folder is not None:
                remove(folder)
            self.say("unforked", slot=slot, reason=str(error))
            return
        if pid == 0:
            self._become_worker(slot, pipes, folder)
        self._slots[slot], self._pids[pid] = pid, slot
        if folder is not None:
            self._folders[pid] = folder
        names, fds = pipes.front_end_side()
        # Safe because the child is not reaped yet, so the pid is still its own.
        try:
            fds.append(os.pidfd_open(pid))
            names.append("pidfd")
        except OSError:
            pass
        message = protocol.encode("forked", slot=slot, pid=pid, has=names)
        try:
            socket.send_fds(self._control, [message], fds)
        except OSError:
            self._end()
        finally:
            pipes.close()
            if "pidfd" in names:
                os.close(fds[-1])

    def _become_worker(self, slot: int, pipes: Pipes, folder: str | None) -> NoReturn:
        # Safe because this is the only thread; and whatever happens here, control
        # never returns into the zygote's own loop.
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(_ORPHANED, signal.SIG_DFL)
            self._control.close()
            os.close(self._wake_r)
            os.close(self._wake_w)
            pipes.close_front_end_side()
            # Entering the group takes so long that the zygote may die meanwhile.
            if _libc.die_with_parent(self._pid):
                self._groups.enter(slot)
            if os.getppid() != self._pid:
                os._exit(0)
            worker_main.run(self._order, self._handlers, pipes, folder)
        finally:
            # EX_SOFTWARE; nobody reads a meaning into it.
            os._exit(70)

    def _kill(self, slot: int) -> None:
        pid = self._slots.get(slot)
        if pid is None:
            return
        self._peaks_kb[slot] = tree.peak_memory_kb(pid)
        tree.kill_tree(pid)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self._doomed.discard(pid)
            slot = self._pids.pop(pid, None)
            if slot is None:
                continue
            del self._slots[slot]
            self._report_exit(slot, pid, status, usage.ru_maxrss)
        self._kill_orphans()
        self._groups.tidy()

    def _report_exit(self, slot: int, pid: int, status: int, max_rss_kb: int) -> None:
        excess = self._excesses.pop(pid, None)
        was_killed = status == signal.SIGKILL
        was_ordered = slot in self._peaks_kb
        if excess is None and was_killed and not was_ordered:
            used_kb = self._groups.memory_taken_kb(slot)
            excess = Excess(pid, "memory", used_kb) if used_kb else None
        peaks_kb = [max_rss_kb, self._peaks_kb.pop(slot, 0), self._watchdog.forget(pid)]
        if excess is not None and excess.of == "memory":
            peaks_kb.append(excess.used)
        self.say(
            "exited",
            slot=slot,
            status=os.waitstatus_to_exitcode(status),
            peak_kb=max(peaks_kb),
            excess="" if excess is None else excess.of,
            used=0 if excess is None else excess.used,
        )
        self._groups.give_back(slot, was_killed=was_killed)
        folder = self._folders.pop(pid, None)
        if folder is not None:
            remove(folder)

    def _kill_orphans(self) -> None:
        """Kill what dead workers left behind: every child that is no worker.

        Whatever these leave in turn arrives here with their own deaths.
        """
        for pid in tree.children_of(os.getpid()):
            if pid not in self._pids and pid not in self._doomed:
                self._doomed.add(pid)
                tree.kill_tree(pid)

    def end_orphaned(self, signum: int = 0, frame: object = None) -> NoReturn:
        """End because the front end has ended."""
        self._end()

    def _end(self) -> NoReturn:
        """Leave nothing behind, and go."""
        tree.end_children()
        self._groups.close()
        if self._order.temp_base and not self._is_dismissed:
            # Nobody else is left who could.
            remove(self._order.temp_base)
        sys.stdout.flush()
        # Safe because whatever user code wanted done at exit is its workers' affair.
        os._exit(0)


def _note_signal(signum: int, frame: object) -> None:
    """Do nothing: the wake-up descriptor has been written to, which is all."""
