"""The keeper of a cell: init of its namespaces, and parent of its workers.

Under `--sandbox strict` a worker lives in a cell: a namespace of processes, mounts,
shared memory, host name and mostly network of its own. Making one takes milliseconds,
a worker per invocation (`--fresh`) would pay them every time. So a cell lasts, and
its keeper forks one worker after the other, and between two of them ends whatever is
left and gives the next one empty temporary folders.

The keeper is the cell's process 1, since a worker must not be: the kernel spares an init
the signals that a handler may send itself. It runs nothing of the user's, holds no
secret, and does one thing at a time:

    zygote -> keeper   fork {ends} + the worker's ends of its pipes, so many, and the
                       entrances of its groups
    keeper -> zygote   forked + pidfd, or unforked {reason}
                       exited {status, max_rss_kb}

One message is one packet, JSON as in `zygote.protocol`. When the keeper ends, for
whatever reason, the kernel ends everything in the cell.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Collection, Sequence

from isoruntime.bare import signal
from isoruntime.sandbox import _libc, namespaces
from isoruntime.sandbox.descriptors import close_all_but, read_nothing
from isoruntime.sandbox.walls import Cell, Walls
from isoruntime.typed import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

if TYPE_CHECKING:
    from isoruntime.worker.birth import BecomeWorker

_MAX_MESSAGE: Final = 8192
#: Five ends of pipes, two entrances of groups.
_MAX_FDS: Final = 7
#: A keeper has nothing to wait for; one that does not answer is broken.
_ANSWER_S: Final = 10.0
#: Private to the worker, and emptied between two.
_FOLDER: Final = b"/tmp"


class KeeperFailed(OSError):
    """The keeper of a cell could not be had, or does not do its work."""


class Forked(NamedTuple):
    """A worker that a keeper has forked."""

    #: as seen from outside the cell
    pid: int
    pidfd: int


class Exited(NamedTuple):
    """A worker that a keeper has reaped."""

    #: as `os.wait4` returns it
    status: int
    max_rss_kb: int


class Keeper:
    """The zygote's side of a keeper."""

    def __init__(
        self,
        walls: Walls,
        cell: Cell,
        become_worker: BecomeWorker,
        kept: Collection[int],
    ) -> None:
        """Start a keeper; what it forks goes on with `become_worker`.

        Of the descriptors that are open here it has those in `kept` as well.

        Raises:
            KeeperFailed: the host does not give us the namespaces.
        """
        self.cell = cell
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_ANSWER_S)
        self.pid = 0
        try:
            self._start(theirs, walls, become_worker, kept)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return what becomes readable when a worker has exited, or the keeper has."""
        return self._socket.fileno()

    def _start(
        self,
        theirs: socket.socket,
        walls: Walls,
        become_worker: BecomeWorker,
        kept: Collection[int],
    ) -> None:
        needs_user = namespaces.needs_user_namespace()
        # Safe because the zygote has one thread, and the child never returns.
        starter = os.fork()
        if starter == 0:
            try:
                close_all_but({0, 1, 2, theirs.fileno(), *kept})
                _start_in_namespaces(
                    theirs, walls, self.cell, become_worker, needs_user
                )
            finally:
                # Safe because whatever went wrong has been said, or shows in the socket.
                os._exit(1)
        # Ours is the only other end now, so that an early end over there is noticed.
        theirs.close()
        try:
            if needs_user:
                self._hear("separated")
                _map_ids(starter)
                self._say("mapped")
            self.pid = self._hear("started")["pid"]
        except BaseException:
            # Safe because it is our child and not reaped: the pid is still its own.
            os.kill(starter, signal.SIGKILL)
            raise
        finally:
            os.waitpid(starter, 0)
        # Only now is the keeper our child, whose end is tied to ours.
        self._say("keep")
        self._hear("furnished")

    def _say(self, kind: str, fds: Sequence[int] = (), **fields: Any) -> None:
        try:
            socket.send_fds(self._socket, [_message(kind, **fields)], fds)
        except OSError as error:
            raise KeeperFailed(f"the keeper is gone: {error.strerror}") from None

    def _hear(self, wanted: str) -> dict[str, Any]:
        message, fds = self._receive()
        if message.pop("is", None) == wanted and not fds:
            return message
        for fd in fds:
            os.close(fd)
        raise KeeperFailed(message.get("reason", f"no {wanted} but {message}"))

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, _MAX_MESSAGE, 1)
        except OSError as error:
            raise KeeperFailed(f"the keeper does not answer: {error}") from None
        if not data:
            raise KeeperFailed("the keeper has ended")
        return json.loads(data), fds

    def fork(self, ends: Sequence[int], entrances: Sequence[int]) -> Forked:
        """Have a worker forked that takes these ends of its pipes, and enters its groups.

        Raises:
            KeeperFailed: it could not be; `close` the keeper and make another one.
        """
        self._say("fork", [*ends, *entrances], ends=len(ends))
        message, fds = self._receive()
        if message["is"] != "forked" or len(fds) != 1:
            raise KeeperFailed(message.get("reason", f"forked nothing: {message}"))
        return Forked(_pid_of(fds[0]), fds[0])

    def exited(self) -> Exited | None:
        """Return how the worker ended, None if the keeper itself has."""
        try:
            message, _ = self._receive()
            return Exited(message["status"], message["max_rss_kb"])
        except KeeperFailed:
            return None

    def close(self) -> None:
        """Close the socket, whereupon the keeper ends, and with it all in the cell."""
        self._socket.close()


def _map_ids(pid: int) -> None:
    try:
        namespaces.map_ids(pid)
    except OSError as error:
        raise KeeperFailed(
            f"user namespaces refused: ids cannot be mapped: {error.strerror}"
        ) from None


def _pid_of(pidfd: int) -> int:
    """Return the pid of a process of another namespace, as it is here."""
    with open(f"/proc/self/fdinfo/{pidfd}", "rb") as file:  # noqa: PTH123 - pathlib is slow to import
        for line in file:
            if line.startswith(b"Pid:"):
                return int(line.split()[1])
    raise KeeperFailed("the kernel does not say which process a pidfd is for")


def _message(kind: str, **fields: Any) -> bytes:
    fields["is"] = kind
    return json.dumps(fields).encode()


# In the process that is going to be, or to fork, the keeper.


def _start_in_namespaces(
    control: socket.socket,
    walls: Walls,
    cell: Cell,
    become_worker: BecomeWorker,
    needs_user: bool,
) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        has_network = walls.policy.has_network
        namespaces.separate(has_network=has_network, in_user_namespace=needs_user)
    except OSError as error:
        what = "user namespaces" if needs_user else "namespaces"
        control.send(_message("failed", reason=f"{what} refused: {error.strerror}"))
        return
    if needs_user:
        # Or the files with its maps would be root's. Nothing of the user's, and nothing
        # secret, is in this process.
        _libc.set_dumpable(True)
        control.send(_message("separated"))
        if not control.recv(_MAX_MESSAGE):
            return
    # Safe because this process has one thread and does nothing more than exit; the
    # child never returns.
    pid = os.fork()
    if pid == 0:
        try:
            _Keep(control, walls, cell, become_worker).run()
        finally:
            # As above.
            os._exit(1)
    control.send(_message("started", pid=pid))
    # Safe because everything of ours is in the child now.
    os._exit(0)


class _Keep:
    """What the keeper does, in the keeper."""

    def __init__(
        self,
        control: socket.socket,
        walls: Walls,
        cell: Cell,
        become_worker: BecomeWorker,
    ) -> None:
        self._control = control
        self._walls = walls
        self._cell = cell
        self._become_worker = become_worker
        self._grants = grants = walls.worker_grants()
        exposed = (*grants.read, *grants.write)
        self._inside = namespaces.Inside(
            namespaces.Furniture(walls.policy.code_dir, exposed)
        )

    def run(self) -> NoReturn:
        # Until this comes our parent is a process that is just about to end.
        if not self._control.recv(_MAX_MESSAGE):
            # Safe because nothing of the user's has run here.
            os._exit(0)
        # The zygote is outside our namespace, so who it is cannot be asked. If it is
        # gone already its end of the socket is closed, and the next message says so.
        _libc.die_with_parent(0)
        _libc.set_dumpable(False)
        os.setsid()
        try:
            self._inside.furnish()
            # That of the cell, which its workers may open again by name.
            read_nothing()
            if not self._walls.policy.has_network:
                namespaces.bring_up_loopback()
        except OSError as error:
            reason = f"namespaces refused: mounts in them: {error.strerror or error}"
            self._control.send(_message("failed", reason=reason))
            # As above.
            os._exit(1)
        self._walls.enclose_keeper()
        self._cell = self._walls.with_rules(self._cell, self._grants)
        if self._inside.proc_reason:
            # Said by every worker of the cell as it becomes ready.
            self._walls.skipped["proc"] = self._inside.proc_reason
        self._control.send(_message("furnished"))
        while True:
            data, fds, _, _ = socket.recv_fds(self._control, _MAX_MESSAGE, _MAX_FDS)
            if not data:
                # As above; and the kernel ends whatever is left in here.
                os._exit(0)
            self._run_worker(fds, json.loads(data)["ends"])

    def _run_worker(self, fds: list[int], ends: int) -> None:
        # Safe because the keeper has one thread, and the child never returns.
        try:
            pid = os.fork()
        except OSError as error:
            _close(fds)
            self._control.send(_message("unforked", reason=str(error)))
            return
        if pid == 0:
            try:
                self._become_worker(fds[:ends], fds[ends:], self._cell, _FOLDER)
            finally:
                # EX_SOFTWARE; nobody reads a meaning into it.
                os._exit(70)
        _close(fds)
        pidfd = os.pidfd_open(pid)
        socket.send_fds(self._control, [_message("forked")], [pidfd])
        os.close(pidfd)
        # While it lives, everything below it stays below it: it is a subreaper.
        _, status, usage = os.wait4(pid, 0)
        _end_all_others()
        exited = _message("exited", status=status, max_rss_kb=usage.ru_maxrss)
        self._control.send(exited)
        is_fresh = self._inside.is_fresh()
        if not is_fresh:
            self._inside.refresh()
        if not is_fresh or self._cell.ruleset < 0:
            self._cell = self._walls.with_rules(self._cell, self._grants)


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _end_all_others() -> None:
    """End every process in this namespace but this one, its init."""
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        return
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
