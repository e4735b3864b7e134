"""The zygote itself: one thread that forks, reaps and kills workers on order.

It holds no event, header or credential, since every later worker can read all
that it has seen. It must stay single-threaded: a fork copies one thread only, and
whatever another one had locked would stay locked in the worker for ever.
"""

from __future__ import annotations

import gc
import os
import pwd
import select
import sys
import time

from isoruntime.bare import signal, socket
from isoruntime.sandbox import _libc
from isoruntime.sandbox.descriptors import open_now, read_nothing
from isoruntime.sandbox.walls import Cell, Policy, Walls
from isoruntime.typed import TYPE_CHECKING, Any, NamedTuple, NoReturn
from isoruntime.wire.order import LoadOrder
from isoruntime.worker import load, output
from isoruntime.worker.birth import USER_NAME, ready_for_birth
from isoruntime.worker.faults import load_fault_body
from isoruntime.worker.functions import load_functions
from isoruntime.worker.main import Worker
from isoruntime.worker.pipes import Pipes, Places
from isoruntime.zygote import protocol, tree
from isoruntime.zygote.cells import Cells
from isoruntime.zygote.folders import remove, remove_orphaned
from isoruntime.zygote.groups import Groups
from isoruntime.zygote.volunteers import Volunteering
from isoruntime.zygote.watchdog import Excess, Watchdog
from isoruntime.zygote.worker_folders import Folder, WorkerFolders

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isoruntime.worker.birth import BecomeWorker
    from isoruntime.zygote.held_pages import HeldPages
    from isoruntime.zygote.huge_pages import HugePages

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
    is_subreaper = _libc.become_subreaper()
    control = socket.socket(fileno=control_fd)
    os.set_inheritable(control_fd, False)
    data = control.recv(protocol.MAX_MESSAGE)
    if not data:
        os._exit(0)
    kind, fields = protocol.decode(data)
    if kind != "load":
        raise SystemExit(f"expected an order to load, got {kind!r}")
    ahead = fields.pop("ahead")
    order = LoadOrder(**fields)
    prepare(order)
    zygote = ZygoteServer(control, order, front_end, ahead)
    # From here on there is more to do at the front end's end than to die: what user
    # code has started goes too. While it is imported nobody looks at the control
    # socket, so the kernel sends a signal; later the socket's end is noticed.
    signal.signal(_ORPHANED, zygote.end_orphaned)
    zygote.enclose()
    if not is_subreaper:
        zygote.note_no_subreaper()
    if not _libc.die_with_parent(front_end, _ORPHANED):
        zygote.end_orphaned()
    # The garbage collector of a worker would write to, and so copy, every page of ours.
    gc.freeze()
    gc.enable()
    if order.preload:
        zygote.preload()
    else:
        zygote.say_loaded(threads=1, seconds=0.0)
    zygote.serve()


def policy_of(order: LoadOrder, front_end: int) -> Policy:
    """Return what the order asks of the sandbox."""
    return Policy(
        profile=order.sandbox,
        has_network=order.has_network,
        code_dir=order.code_dir,
        temp_base=order.temp_base,
        allow_read=tuple(order.allow_read),
        allow_write=tuple(order.allow_write),
        front_end=front_end,
        max_processes=order.max_processes,
        holds_pages=holds_pages(order),
    )


def holds_pages(order: LoadOrder) -> bool:
    """Tell whether this process is to hold pages that its workers write to."""
    # Where nothing is forked but at times there is nothing to gain, and under `strict`
    # it is the keepers who fork.
    return order.serves_once and order.sandbox != "strict"


def prepare(order: LoadOrder) -> None:
    """Make this process what user code expects to find itself in."""
    os.environ.update(order.environment)
    sys.dont_write_bytecode |= not order.keeps_bytecode
    if order.sandbox != "off":
        _name_the_user()
    try:
        os.chdir(order.code_dir)
    except OSError as error:
        print(f"cannot enter {order.code_dir}: {error}", file=sys.stderr)  # noqa: T201
    if not (order.command or order.upstream):
        # Where nothing of the user's is imported, no file of theirs can get in the way.
        load.prepare_path(order.code_dir)
    output.install(order.log_level)


def _name_the_user() -> None:
    """Give a user without an entry in /etc/passwd a name, as `getpass` wants one.

    Containers are often run as one. With a home folder of their own workers look like
    anybody else's processes then.
    """
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        for name in ("LOGNAME", "USER"):
            os.environ.setdefault(name, USER_NAME)


class _Berth(NamedTuple):
    """What is made ready for a worker before it is forked."""

    slot: int
    pipes: Pipes
    cell: Cell
    #: of its control groups
    entrances: list[int]
    #: for its temporary files
    folder: Folder | None

    def close(self) -> None:
        """Give back the descriptors, once the worker and the front end have theirs."""
        self.pipes.close()
        for entrance in self.entrances:
            os.close(entrance)


class _Exit(NamedTuple):
    """A worker that was reaped, or whose keeper has told of its end."""

    slot: int
    #: as `wait` gives it
    status: int
    max_rss_kb: int


#: What became of a fork: the worker's pid, and its pidfd or -1; or why there is none.
_Outcome = tuple[int, int] | OSError


class ZygoteServer:
    """Carries out the front end's orders."""

    def __init__(
        self,
        control: socket.socket,
        order: LoadOrder,
        front_end: int,
        ahead: Sequence[int],
    ) -> None:
        self._control = control
        #: slots of the workers that are forked without being ordered again
        self._ahead = ahead
        self._order = order
        self._front_end = front_end
        self._is_dismissed = False
        self._slots: dict[int, int] = {}  # slot -> pid
        self._pids: dict[int, int] = {}  # pid -> slot
        # Peaks seen before a kill: `ru_maxrss` misses descendants that are not
        # waited for.
        self._peaks_kb: dict[int, int] = {}
        self._folders = WorkerFolders()
        self._folder_of: dict[int, Folder] = {}  # slot -> for its temporary files
        self._walls = Walls(policy_of(order, front_end))
        self._volunteering = Volunteering()
        self._huge_pages = _make_huge_pages() if order.serves_once else None
        self._held_pages = _make_held_pages() if holds_pages(order) else None
        self._places = Places(split_output=order.split_output)
        #: what every worker begins as
        self._worker = Worker(order, self._places)
        self._users_fds: frozenset[int] = frozenset()
        self._become_worker: BecomeWorker = _nobody
        self._cell_of: dict[int, Cell] = {}  # slot -> where its worker lives
        self._poll = select.poll()
        self._cells = Cells(
            self._walls, self._folders, self._places.in_order, self._poll
        )
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

    def say_loaded(self, threads: int, seconds: float) -> None:
        """Tell that workers can be forked from now on."""
        if threads > 1:
            # No fork copies them, so whoever gave the order may want another zygote.
            self._ahead = ()
        self.say(
            "loaded",
            threads=threads,
            seconds=seconds,
            skipped=self._walls.skipped,
            begins=bool(self._ahead),
        )

    def enclose(self) -> None:
        """Give up what is not needed, before any of the user's code runs."""
        # First, since making groups is not for those inside.
        self._groups.open()
        self._walls.enclose_zygote(self._groups.folders)

    def preload(self) -> None:
        """Import the handler here, once for all workers."""
        started = time.monotonic()
        ours = open_now()
        try:
            functions = load_functions(self._order)
        except load.LoadError as error:
            text = load_fault_body(error).decode("ascii", "replace")[:_MAX_FAULT_BODY]
            self.say("failed", type=error.error_type, body=text, place=error.place)
            self._end()
        # An import may have changed what we rely on.
        self._watch_children()
        self._worker.functions = functions
        self._users_fds = open_now() - ours
        read_nothing()
        sys.stdout.flush()
        sys.stderr.flush()
        threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - pathlib is slow to import
        self.say_loaded(threads, time.monotonic() - started)

    def note_no_subreaper(self) -> None:
        """Have it known that descendants can get away."""
        self._walls.skipped["subreaper"] = "the kernel does not know it"

    def _watch_children(self) -> None:
        signal.signal(signal.SIGCHLD, _note_signal)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)

    def _fill_poll(self) -> None:
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._wake_r, select.POLLIN)
        if self._groups.alarm >= 0:
            self._poll.register(self._groups.alarm, select.POLLIN)

    def serve(self) -> NoReturn:
        """Take orders and reap, until the front end is gone."""
        if self._order.temp_base:
            remove_orphaned(self._order.temp_base)
        if self._is_practice_worthwhile():
            # Only here: it takes a millisecond of the start, and saves each fork a tenth.
            from isoruntime.worker.practice import practise

            practise(self._worker, self._places)
        if self._order.serves_once:
            # A fork copies an entry for each page, and an end takes it back.
            _libc.give_back_free_memory()
        self._worker.trace_ends()
        self._become_worker = ready_for_birth(
            self._worker,
            self._walls,
            self._places,
            self._users_fds,
            handled=(signal.SIGCHLD, _ORPHANED),
        )
        self._fill_poll()
        self._fork(self._ahead)
        # For the faults of later workers; whoever waits for the first one need not wait.
        load.import_pythons("linecache")
        # A worker may have been reaped before the first poll could know of it.
        self._reap()
        while True:
            for fd, _ in self._poll.poll(self._wait_ms()):
                self._act_on(fd)
            self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._looks and now >= self._looks[-1]:
            self._looks.pop()
            self._look_for_victims()
        if self._is_watching and now >= self._next_sample_at:
            self._sample()
        look_at = self._cells.look_at
        if look_at is not None and now >= look_at:
            self._cells.give_up_idle()

    def _is_practice_worthwhile(self) -> bool:
        """Tell whether workers will do for one event what can be done beforehand."""
        order = self._order
        runs_handler = order.preload and order.handler and not order.chaos
        return order.serves_once and bool(runs_handler)

    def _act_on(self, fd: int) -> None:
        if fd == self._control.fileno():
            self._take_orders()
        elif fd == self._wake_r:
            self._drain_wakeups()
            self._reap()
        elif fd == self._groups.alarm:
            self._groups.silence()
            now = time.monotonic()
            self._looks = [now + wait for wait in reversed(_LOOK_AGAIN_S)]
            self._look_for_victims()
        else:
            self._hear_keeper(fd)

    def _wait_ms(self) -> float | None:
        due = self._looks[-1:]
        if self._is_watching and self._pids:
            due.append(self._next_sample_at)
        if self._cells.look_at is not None:
            due.append(self._cells.look_at)
        return max(0.0, min(due) - time.monotonic()) * 1000 if due else None

    def _look_for_victims(self) -> None:
        """Kill with its whole tree every worker the kernel killed a process of."""
        for slot, pid in self._slots.items():
            used_kb = 0 if pid in self._excesses else self._groups.memory_taken_kb(slot)
            if used_kb:
                self._excesses[pid] = Excess(pid, "memory", used_kb)
                self._end_worker(pid)

    def _sample(self) -> None:
        # A process that slipped away from its worker tells nobody that it came to us.
        self._kill_orphans()
        for excess in self._watchdog.sample(self._pids):
            self._excesses.setdefault(excess.pid, excess)
            self._end_worker(excess.pid)
        interval_s = self._watchdog.interval_s(len(self._pids))
        self._next_sample_at = time.monotonic() + interval_s

    def _drain_wakeups(self) -> None:
        try:
            while len(os.read(self._wake_r, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def _take_orders(self) -> None:
        """Carry out what has been ordered, forks that follow each other in one go.

        After a fork every page that we write to is copied first; what is done for several
        workers before the next fork writes to most of the same pages.
        """
        slots: list[int] = []
        data = self._receive()
        while data is not None:
            kind, fields = protocol.decode(data)
            if kind == "fork":
                slots += fields["slots"]
            else:
                self._fork(slots)
                slots = []
                self._carry_out(kind, fields)
            if len(slots) >= protocol.MOST_FORKED:
                break
            data = self._receive(socket.MSG_DONTWAIT)
        self._fork(slots)

    def _receive(self, flags: int = 0) -> bytes | None:
        """Return an order; None if there is none at present."""
        try:
            data = self._control.recv(protocol.MAX_MESSAGE, flags)
        except BlockingIOError:
            return None
        except ConnectionError:
            data = b""
        if not data:
            self._end()
        return data

    def _carry_out(self, kind: str, fields: dict[str, Any]) -> None:
        if kind == "kill":
            self._kill(fields["slot"])
        elif kind == "watch":
            self._is_watching = fields["on"]
            self._kill_orphans()
        elif kind == "end":
            self._is_dismissed = True
            self._end()

    def _fork(self, slots: Sequence[int]) -> None:
        most = protocol.MOST_FORKED
        for at in range(0, len(slots), most):
            self._fork_together(slots[at : at + most])

    def _fork_together(self, slots: Sequence[int]) -> None:
        berths = [self._make_berth(slot) for slot in slots]
        self._volunteering.begin()
        is_strict = self._walls.policy.is_strict
        outcomes = (self._fork_in_cells if is_strict else self._fork_here)(berths)
        self._volunteering.end()
        born: list[tuple[_Berth, int, int]] = []
        for berth, outcome in zip(berths, outcomes, strict=True):
            if isinstance(outcome, OSError):
                self._clear(berth)
                self.say("unforked", slot=berth.slot, reason=str(outcome))
            else:
                self._settle(berth, outcome[0])
                born.append((berth, *outcome))
        if born:
            self._hand_over(born)
        has_more = self._huge_pages is not None and self._huge_pages.make_one()
        if self._held_pages is not None and not has_more:
            # Only then: what is held cannot be put into a huge page.
            self._held_pages.look_at(self._pids)

    def _make_berth(self, slot: int) -> _Berth:
        cell = self._cells.take()
        return _Berth(
            slot,
            Pipes(split_output=self._order.split_output),
            cell,
            self._groups.open_entrances(self._groups.take(slot)),
            self._folders.take(cell.folder, slot, cell.uid) if cell.folder else None,
        )

    def _fork_here(self, berths: list[_Berth]) -> list[_Outcome]:
        """Fork workers from this process.

        After each fork every page that we write to is copied first. So there is nothing
        between two of them that could be done before or later.
        """
        become_worker, fork = self._become_worker, os.fork
        given = [
            (
                berth.pipes.worker,
                berth.entrances,
                berth.cell,
                berth.folder.encoded if berth.folder else b"",
            )
            for berth in berths
        ]
        outcomes: list[_Outcome] = []
        for ends, entrances, cell, folder in given:
            try:
                # Safe because there is one thread, so nothing is locked by another.
                pid = fork()
            except OSError as error:
                outcomes.append(error)
                continue
            if pid == 0:
                become_worker(ends, entrances, cell, folder)
            outcomes.append((pid, -1))
        return outcomes

    def _fork_in_cells(self, berths: list[_Berth]) -> list[_Outcome]:
        """Have the keepers of cells fork workers."""
        outcomes: list[_Outcome] = []
        for berth in berths:
            try:
                keeper = self._cells.keeper_of(berth.cell, self._become_worker)
                born = keeper.fork(berth.pipes.worker, berth.entrances)
            except OSError as error:
                outcomes.append(error)
            else:
                outcomes.append((born.pid, born.pidfd))
        return outcomes

    def _settle(self, berth: _Berth, pid: int) -> None:
        """Take note of a worker that was forked."""
        self._slots[berth.slot], self._pids[pid] = pid, berth.slot
        self._cell_of[berth.slot] = berth.cell
        if berth.folder is not None:
            self._folder_of[berth.slot] = berth.folder

    def _clear(self, berth: _Berth) -> None:
        """Take back what was made ready for a worker that cannot be had."""
        berth.close()
        self._groups.give_back(berth.slot, was_killed=False, was_alone=True)
        if berth.folder is not None:
            self._folders.give_back(berth.folder)
        if self._walls.policy.is_strict:
            self._cells.abandon(berth.cell)
        else:
            self._cells.give_back(berth.cell)

    def _hand_over(self, born: list[tuple[_Berth, int, int]]) -> None:
        """Tell of workers, each with its berth, pid, and pidfd or -1."""
        names = protocol.DESCRIPTORS[: len(born[0][0].pipes.front_end)]
        pidfds: list[int] = []
        try:
            for _, pid, pidfd in born:
                # Safe because it is not reaped yet, so the pid is still its own.
                pidfds.append(os.pidfd_open(pid) if pidfd < 0 else pidfd)
            names = (*names, "pidfd")
        except OSError:
            # All go without: the kernel does not know them, or has none to spare.
            pass
        fds: list[int] = []
        for at, (berth, _, _) in enumerate(born):
            fds += berth.pipes.front_end
            if len(pidfds) == len(born):
                fds.append(pidfds[at])
        workers = [[berth.slot, pid] for berth, pid, _ in born]
        message = protocol.encode("forked", workers=workers, has=names)
        try:
            protocol.send_with_descriptors(self._control, message, fds)
        except OSError:
            self._end()
        for berth, _, _ in born:
            berth.close()
        for pidfd in pidfds:
            os.close(pidfd)

    def _hear_keeper(self, fd: int) -> None:
        """Take note that the worker in a cell has ended, or that the cell has."""
        keeper = self._cells.keeper_at(fd)
        if keeper is None:
            return
        exited = keeper.exited()
        if exited is None:
            self._cells.abandon(keeper.cell)
        # With a keeper, its init, the kernel has killed all of the cell.
        status, max_rss_kb = exited or (signal.SIGKILL, 0)
        number = keeper.cell.number
        gone = [at for at, cell in self._cell_of.items() if cell.number == number]
        exits = [_Exit(slot, status, max_rss_kb) for slot in gone]
        self._report_exits(exits)
        # Its keeper has ended everybody else in there.
        self._clear_up(exits, were_alone=True)

    def _kill(self, slot: int) -> None:
        pid = self._slots.get(slot)
        if pid is None:
            return
        self._peaks_kb[slot] = tree.peak_memory_kb(pid)
        self._end_worker(pid)

    def _end_worker(self, pid: int) -> None:
        """SIGKILL a worker with all its descendants."""
        if self._walls.policy.is_strict:
            # Its keeper ends the rest of the cell at once, in one call: nobody has to
            # be found, and nobody can be forked meanwhile.
            tree.send(pid, signal.SIGKILL)
        else:
            tree.kill_tree(pid)

    def _reap(self) -> None:
        exits: list[_Exit] = []
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self._doomed.discard(pid)
            slot = self._pids.get(pid)
            if slot is not None:
                exits.append(_Exit(slot, status, usage.ru_maxrss))
        self._report_exits(exits)
        # Where nothing gets away, all that a worker leaves becomes our child.
        sees_all = "subreaper" not in self._walls.skipped
        has_orphans = self._kill_orphans()
        self._clear_up(exits, were_alone=sees_all and not has_orphans)
        self._groups.tidy()

    def _report_exits(self, exits: list[_Exit]) -> None:
        """Tell of workers that were reaped; what they had is still taken."""
        reports = list(map(self._report, exits))
        most = protocol.MOST_EXITED
        for at in range(0, len(reports), most):
            self.say("exited", workers=reports[at : at + most])

    def _clear_up(self, exits: list[_Exit], *, were_alone: bool) -> None:
        """Take back what workers had that were reaped."""
        for slot, status, _ in exits:
            self._cells.give_back(self._cell_of.pop(slot))
            was_killed = status == signal.SIGKILL
            self._groups.give_back(slot, was_killed=was_killed, was_alone=were_alone)
            folder = self._folder_of.pop(slot, None)
            if folder is not None:
                self._folders.give_back(folder)

    def _report(self, one: _Exit) -> list[int | str]:
        """Return what the front end is told of one."""
        slot, status, max_rss_kb = one
        pid = self._slots.pop(slot)
        del self._pids[pid]
        excess = self._excesses.pop(pid, None)
        was_killed = status == signal.SIGKILL
        was_ordered = slot in self._peaks_kb
        if excess is None and was_killed and not was_ordered:
            used_kb = self._groups.memory_taken_kb(slot)
            excess = Excess(pid, "memory", used_kb) if used_kb else None
        peaks_kb = [max_rss_kb, self._peaks_kb.pop(slot, 0), self._watchdog.forget(pid)]
        if excess is not None and excess.of == "memory":
            peaks_kb.append(excess.used)
        code, peak_kb = os.waitstatus_to_exitcode(status), max(peaks_kb)
        if excess is None:
            return [slot, code, peak_kb, "", 0]
        return [slot, code, peak_kb, excess.of, excess.used]

    def _kill_orphans(self) -> bool:
        """Kill what dead workers left behind: every child that is no one of ours.

        Whatever these leave in turn arrives here with their own deaths. Return whether
        there are any, dying ones among them.
        """
        keepers, has_any = self._cells.keeper_pids, False
        for pid in tree.children_of(self._pid):
            if pid in self._pids or pid in keepers:
                continue
            has_any = True
            if pid not in self._doomed:
                self._doomed.add(pid)
                tree.kill_tree(pid)
        return has_any

    def end_orphaned(self, signum: int = 0, frame: object = None) -> NoReturn:
        """End because the front end has ended."""
        self._end()

    def _end(self) -> NoReturn:
        """Leave nothing behind, and go."""
        tree.end_children()
        self._groups.close()
        front_end = self._front_end
        # One that is ending closes its socket a moment before it is nobody's parent.
        is_there = os.getppid() == front_end and not tree.is_killed(front_end)
        has_heir = self._is_dismissed or is_there
        if self._order.temp_base and not has_heir:
            # Nobody else is left who could. The front end may have other zygotes, whose
            # workers have their folders in there.
            remove(self._order.temp_base)
        sys.stdout.flush()
        # Safe because whatever user code wanted done at exit is its workers' affair.
        os._exit(0)


# Imported only there: nobody else has anything to gain by it, or is to wait for it.


def _make_huge_pages() -> HugePages:
    from isoruntime.zygote.huge_pages import HugePages

    return HugePages()


def _make_held_pages() -> HeldPages:
    from isoruntime.zygote.held_pages import HeldPages

    return HeldPages()


def _nobody(*of_a_worker: object) -> NoReturn:
    """Stand for what becomes a worker until that is ready: nothing is forked before."""
    raise AssertionError(of_a_worker)


def _note_signal(signum: int, frame: object) -> None:
    """Do nothing: the wake-up descriptor has been written to, which is all."""
