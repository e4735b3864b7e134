"""A rehearsal: what of the sandbox this host really keeps, tried with real processes.

A stand-in for the front end is forked from the command that asks. It starts a zygote as
the front end does, in the same words; this one forks two workers, each behind the walls
it would have, and loaded with a handler that attacks (`attempts`):

    command -> stand-in -> zygote -> worker        attacks whatever it can find
                                  -> worker        the sibling: lays out bait

Nothing here knows how a wall is built: what the walls say of themselves is kept beside
what became of the attacks. All of it ends with the stand-in, which is killed when it
takes longer than it may, and leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time

from isoruntime.sandbox import _libc
from isoruntime.typed import TYPE_CHECKING, Any, Final, NamedTuple
from isoruntime.wire.frames import NONCE_BYTES, Kind
from isoruntime.wire.pipes import read_frame, write_frame
from isoruntime.zygote import attempts, protocol
from isoruntime.zygote.folders import make_base, remove
from isoruntime.zygote.groups import Groups
from isoruntime.zygote.spawn import Spawned, spawn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isoruntime.wire.order import LoadOrder

#: It takes a tenth of a second; more than this only where something hangs.
AT_MOST_S: Final = 10.0
#: What a rehearsed worker may take, and what its sibling tries to.
_MEMORY_MB: Final = 96
_EATEN_MB: Final = 160
#: No smaller, or the attempt to leave a process behind would fail for that.
_LEAST_PROCESSES: Final = 8
#: Of the namespaces of a worker; of the network only where it is to have none.
_NAMESPACES: Final = ("pid", "mnt", "ipc", "uts", "cgroup")
_READ_BYTES: Final = 1 << 16


class Rehearsal(NamedTuple):
    """What was seen."""

    #: mechanism -> why it is not in force, in the words of the walls
    skipped: dict[str, str]
    #: name of an attempt -> how it ended (`attempts`), and a text
    attempts: dict[str, tuple[str, str]]
    #: why there was no worker to try anything, if there was none
    refused: str = ""
    #: where the temporary folders were; empty if there was no place for them
    temp_parent: str = ""


class _Refused(Exception):
    """There are no workers on this host, under these walls."""


def rehearse(
    order: LoadOrder,
    environment: Mapping[str, str],
    temp_parents: Sequence[str],
    *,
    with_memory: bool = False,
    at_most_s: float = AT_MOST_S,
) -> Rehearsal:
    """Put up the walls that `order` asks for around a worker, and attack them.

    `environment` is what workers get; in the first of `temp_parents` that can be written
    they have their temporary folders. `with_memory` has the memory limit tried too, which
    takes longest.
    """
    reader, writer = os.pipe()
    command = os.getpid()
    # Ours and not the stand-in's, which may have to be killed.
    temp_base, _ = make_base(temp_parents)
    marker = _make_marker(f"isoruntime-rehearsal-{command}-{os.urandom(4).hex()}")
    # Safe because commands have one thread, and the child never returns.
    stand_in = os.fork()
    if stand_in == 0:
        try:
            os.close(reader)
            if _libc.die_with_parent(command):
                scene = _Scene(order, temp_base, marker, with_memory)
                _write_all(writer, json.dumps(scene.play(environment)).encode())
        except BaseException as error:  # noqa: BLE001 - nobody is above to tell
            refused = f"the rehearsal failed: {type(error).__name__}: {error}"
            _write_all(writer, json.dumps(Rehearsal({}, {}, refused)).encode())
        finally:
            # Safe because everything it had made has ended, or ends with it.
            os._exit(0)
    os.close(writer)
    try:
        said = _read_all(reader, time.monotonic() + at_most_s)
    finally:
        os.close(reader)
        # Safe because it is our child and not reaped: the pid is still its own.
        os.kill(stand_in, signal.SIGKILL)
        os.waitpid(stand_in, 0)
        if temp_base:
            remove(temp_base)
        if marker:
            os.unlink(marker)  # noqa: PTH108 - pathlib is slow to import
    temp_parent = os.path.dirname(temp_base)  # noqa: PTH120
    if not said:
        why = f"took longer than {at_most_s:g} s" if said is None else "was killed"
        return Rehearsal({}, {}, f"the rehearsal {why}", temp_parent)
    skipped, ends, refused, _ = json.loads(said)
    ends = {name: (end, text) for name, (end, text) in ends.items()}
    return Rehearsal(skipped, ends, refused, temp_parent)


def _make_marker(name: str) -> str:
    path = f"/tmp/{name}"  # noqa: S108 - it is /tmp that is looked at
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except OSError:
        return ""
    return path


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _read_all(fd: int, deadline: float) -> bytes | None:
    """Return everything up to the end of a pipe, None if that does not come in time."""
    found = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        data = os.read(fd, _READ_BYTES)
        if not data:
            return found
        found += data
    return None


# In the stand-in.


class _Scene:
    """The stand-in, with everything that attacks are aimed at."""

    def __init__(
        self, order: LoadOrder, temp_base: str, marker: str, with_memory: bool
    ) -> None:
        self._order = order._replace(
            handler=attempts.HANDLER,
            temp_base=temp_base,
            memory_limit_mb=_MEMORY_MB,
            max_processes=max(order.max_processes, _LEAST_PROCESSES),
            chaos="",
        )
        self._with_memory = with_memory
        self._skipped: dict[str, str] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._abstract = socket.socket(socket.AF_UNIX)
        self._name = f"isoruntime-rehearsal-{os.getpid()}-{os.urandom(4).hex()}"
        self._abstract.bind(f"\0{self._name}")
        self._abstract.listen()
        self._marker = marker
        # Asked now: what is not dumpable may not look at itself here.
        self._namespaces = {
            kind: os.readlink(f"/proc/self/ns/{kind}")  # noqa: PTH115 - pathlib is slow to import
            for kind in (*_NAMESPACES, "net")
        }

    def play(self, environment: Mapping[str, str]) -> Rehearsal:
        """Have a zygote started, and everything tried; return what was seen."""
        # As the front end: for the time in which others of its user are about.
        _libc.set_dumpable(False)
        ends: dict[str, tuple[str, str]] = {}
        refused = ""
        zygote = _Zygote(spawn(environment))
        try:
            ends = self._attack(zygote)
        except _Refused as reason:
            refused = str(reason)
        finally:
            zygote.end()
        if ends.get("be-ungrouped", ("held",))[0] != "held":
            self._skipped["cgroup"] = self._why_no_groups()
        return Rehearsal(self._skipped, ends, refused)

    def _attack(self, zygote: _Zygote) -> dict[str, tuple[str, str]]:
        self._skipped.update(zygote.load(self._order))
        sibling = zygote.fork(2)
        folder = sibling.invoke({"bait": True})["folder"]
        worker = zygote.fork(1)
        self._skipped.update(worker.skipped)
        said = worker.invoke(self._aims(zygote.pid, sibling.pid, folder))
        ends = {name: (end, text) for name, (end, text) in said.items()}
        if self._with_memory:
            ends["eat"] = self._have_eaten(zygote, sibling)
        return ends

    def _aims(self, zygote: int, sibling: int, folder: str) -> dict[str, Any]:
        kinds = [*_NAMESPACES] if self._order.has_network else [*_NAMESPACES, "net"]
        return {
            "front_end": os.getpid(),
            "zygote": zygote,
            "sibling": sibling,
            "sibling_folder": folder,
            "uid": os.getuid(),
            "code_dir": self._order.code_dir,
            "marker": self._marker,
            "port": self._listener.getsockname()[1],
            "name": self._name,
            "namespaces": {kind: self._namespaces[kind] for kind in kinds},
        }

    def _have_eaten(self, zygote: _Zygote, sibling: _Worker) -> tuple[str, str]:
        sibling.ask({"eat_mb": _EATEN_MB})
        zygote.say("watch", on=True)
        fields, _ = zygote.hear("exited")
        if any(excess == "memory" for *_, excess, _ in fields["workers"]):
            return "held", ""
        return "through", "a worker that takes more memory than it may goes on"

    def _why_no_groups(self) -> str:
        groups = Groups(os.getpid(), _MEMORY_MB, _LEAST_PROCESSES)
        groups.open()
        reason = groups.reason or "they could not be entered"
        groups.close()
        return reason


class _Zygote:
    """The front end's side of a zygote, waiting for each answer."""

    def __init__(self, spawned: Spawned) -> None:
        self.pid = spawned.pid
        self._control, self._output_r = spawned.control, spawned.output_r

    def say(self, kind: str, **fields: Any) -> None:
        """Give an order."""
        self._control.send(protocol.encode(kind, **fields))

    def hear(self, wanted: str) -> tuple[dict[str, Any], list[int]]:
        """Return the fields and descriptors of the next message of a kind.

        Raises:
            _Refused: it says that it cannot, or nothing any more.
        """
        while True:
            data, fds = protocol.receive_with_descriptors(self._control)
            if not data:
                raise _Refused(f"the zygote ended: {_last_words(self._output_r)}")
            kind, fields = protocol.decode(data)
            if kind == wanted:
                return fields, fds
            if kind == "unforked":
                raise _Refused(fields["reason"])
            if kind == "failed":
                raise _Refused(f"it could not be loaded: {fields['body']}")

    def load(self, order: LoadOrder) -> dict[str, str]:
        """Have the walls put up; return what was skipped."""
        self.say("load", ahead=(), **order._asdict())
        skipped: dict[str, str] = self.hear("loaded")[0]["skipped"]
        return skipped

    def fork(self, slot: int) -> _Worker:
        """Have a worker forked; return it when it is ready."""
        self.say("fork", slots=[slot])
        fields, fds = self.hear("forked")
        ((_, pid),) = fields["workers"]
        return _Worker(pid, dict(zip(fields["has"], fds, strict=True)))

    def end(self) -> None:
        """Have it end with all its workers, as when a front end has ended."""
        self._control.close()
        os.waitpid(self.pid, 0)


class _Worker:
    """The front end's side of a worker, waiting for each answer."""

    def __init__(self, pid: int, descriptors: dict[str, int]) -> None:
        self.pid = pid
        self._request_w = descriptors["request"]
        self._output_r = descriptors["stdout"]
        for name in ("request", "reply"):
            os.set_blocking(descriptors[name], True)
        self._replies = open(descriptors["reply"], "rb")  # noqa: PTH123, SIM115 - open until the end
        #: what it says that its walls lack
        self.skipped: dict[str, str] = {}
        kind, meta, body = self._read()
        if kind != Kind.READY:
            raise _Refused(json.loads(body)["errorMessage"])
        if meta:
            self.skipped = json.loads(meta)

    def _read(self) -> tuple[int, bytes, bytes]:
        frame = read_frame(self._replies)
        if frame is None:
            raise _Refused(f"the worker ended: {_last_words(self._output_r)}")
        return frame.kind, frame.meta, bytes(frame.body)

    def ask(self, event: dict[str, Any]) -> None:
        """Send an event."""
        nonce, body = os.urandom(NONCE_BYTES), json.dumps(event).encode()
        write_frame(self._request_w, Kind.INVOKE, nonce, b"rehearsal\n-1\n{}", body)

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        """Send an event and return the answer."""
        self.ask(event)
        kind, _, body = self._read()
        if kind != Kind.RESULT:
            raise _Refused(f"the attempts failed: {body.decode(errors='replace')}")
        answer: dict[str, Any] = json.loads(body)
        return answer


def _last_words(output_r: int) -> str:
    os.set_blocking(output_r, False)
    try:
        lines = os.read(output_r, _READ_BYTES).decode(errors="replace")
    except BlockingIOError:
        lines = ""
    return lines.strip().rpartition("\n")[2] or "without a word"
