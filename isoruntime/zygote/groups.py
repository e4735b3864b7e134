"""Control groups: memory and processes of each worker's tree, limited by the kernel.

Where we may make groups, every worker gets one of its own and enters it before any
of the user's code runs. Then a limit holds to the page, also in one leap and for
memory that is in no process (`memfd`, tmpfs), and a fork over the limit fails with
EAGAIN. Elsewhere nothing changes; the watchdog samples in both cases.

    <our own group>/isoruntime-<front end>-<random>/<number>    one per hierarchy

Whose memory it is: what is charged to a group is what the worker itself touched
first, with page cache (which is dropped first) and the kernel's own pages. What it
shares with the zygote is the zygote's.

Cost: a group is made once and used by one worker after the other, which leaves 0.1
ms a worker. A process is moved by `cgroup.procs` only after a grace period of the
kernel, 7 to 20 ms, if nothing was moved just before: nobody may fork meanwhile. In
version 1 a thread that moves itself, by `tasks`, needs no such care, and a worker that
has just been forked is one thread. Version 2 moves single threads within a group only,
so there the worker sleeps (not the zygote); spares, which are forked ahead of need,
hide it, a cold start and a sudden crowd do not. Moving a worker while it runs already
would hide it always, and leave out what it has done until then. The mount option
`favordynmods` takes the wait away, at a price for every fork of the host, so it is not
for us to set.

The folder of a zygote is locked (`flock`) for as long as it lives, so that what a
killed one left behind is told from the folder of a neighbour. The next one to start
in the same group removes it.

Version 1 has no kill of a whole group: when memory is short the kernel ends the
largest process, which need not be the worker. So the zygote is told first, through
an eventfd that all groups share (`alarm`), looks who it was, and kills that tree
while the victim is still dying. In version 2 all go together (`memory.oom.group`).

Version 2 wants processes in leaves only. So our processes move into a leaf
of the group they are in, but only if nobody else is in there; see `delegate`. That,
`cgroup.kill` and the folders have been run on real kernels, with the controller at
hand (`hugetlb`); the files `memory.*` of version 2 (`_LIMITS[2]`) have only been
written to as plain files, in the right order. All of version 1 has been run.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterable

from isoruntime.typed import Final, NamedTuple
from isoruntime.zygote import tree

_PREFIX: Final = "isoruntime-"
#: The leaf that our own processes move into, where it has to be one.
_LEAF_PREFIX: Final = "isoruntime-front-"
_PROCS: Final = "cgroup.procs"
#: Where a process of one thread writes 0 to enter a group, by version.
_ENTRANCE: Final = {1: "tasks", 2: _PROCS}
_SUBTREE: Final = "cgroup.subtree_control"
_MODE: Final = 0o755
_MOVES: Final = 10


class Own(NamedTuple):
    """The folders of the groups we are in; empty where there is no controller."""

    version: int
    memory: str
    pids: str


#: What is written in which version, in this order; `{}` is the limit in bytes. In version
#: 1 the limit with swap may not be below the one without, so it comes second.
_LIMITS: Final = {
    1: (("memory.limit_in_bytes", "{}"), ("memory.memsw.limit_in_bytes", "{}")),
    2: (("memory.oom.group", "1"), ("memory.swap.max", "0"), ("memory.max", "{}")),
}
_EVENTS: Final = {1: "memory.oom_control", 2: "memory.events"}
_PEAK: Final = {1: "memory.max_usage_in_bytes", 2: "memory.peak"}
_USAGE: Final = {1: "memory.usage_in_bytes", 2: "memory.current"}

#: What it means if a group cannot be made, by the error of the kernel.
_CAUSES: Final = {
    errno.EACCES: "this user may make no groups",
    errno.EPERM: "this user may make no groups",
    errno.EROFS: "the groups are mounted read-only",
    errno.ENOENT: "the group we are in is not mounted here",
}


def find(cgroups: str, mounts: str) -> Own | None:
    """Return our own groups, from the texts of /proc/self/{cgroup,mountinfo}.

    A hierarchy of version 1 with a controller in it comes first: then version 2,
    also mounted perhaps, does not have that controller.
    """
    paths: dict[str, str] = {}
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        # The one line without controllers is version 2.
        for controller in controllers.split(","):
            paths[controller] = path
    folders = _mounted(paths, mounts)
    if "memory" in paths or "pids" in paths:
        own = Own(1, folders.get("memory", ""), folders.get("pids", ""))
    else:
        own = Own(2, folders.get("", ""), folders.get("", ""))
    return own if own.memory or own.pids else None


def _mounted(paths: dict[str, str], mounts: str) -> dict[str, str]:
    """Return the folder of each path that a mount shows, by controller."""
    folders: dict[str, str] = {}
    for line in mounts.splitlines():
        mount, _, source = line.partition(" - ")
        kind, _, options = source.split(" ", 2)
        if kind not in ("cgroup", "cgroup2"):
            continue
        # A name or a flag among the options is no controller in `paths`.
        here = [""] if kind == "cgroup2" else options.replace(" ", ",").split(",")
        root, point = map(_unescaped, mount.split(" ")[3:5])
        for controller in paths.keys() & here:
            folder = _below(paths[controller], root, point)
            if folder is not None:
                folders.setdefault(controller, folder)
    return folders


def _unescaped(field: str) -> str:
    if "\\" not in field:
        return field
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _below(path: str, root: str, point: str) -> str | None:
    """Return where a group is in the file system, if this mount shows it."""
    root = root.rstrip("/")
    if path != root and not path.startswith(root + "/"):
        return None
    return (point + path[len(root) :]).rstrip("/")


def taken_kb(events: str, peak: str, limit: int) -> int:
    """Return how much a group took if the kernel killed in it for that, or 0.

    `events` and `peak` are the texts of its files, `limit` is in bytes. A host, or a
    group above, that is short of memory kills too. That is not this worker's fault:
    version 2 counts faults of its own, and in version 1 one that is far from its
    limit had none.
    """
    words = events.split()
    counts = dict(zip(words[::2], words[1::2], strict=False))
    if counts.get("oom_kill", "0") == "0" or counts.get("oom") == "0":
        return 0
    # Kernels before 5.19 keep no peak in version 2.
    taken = int(peak or limit)
    # What was killed a page or two below its limit wanted more than that.
    return max(taken, limit) >> 10 if taken * 16 >= limit * 15 else 0


class Groups:
    """The groups of one zygote's workers; does nothing where there can be none."""

    __slots__ = (
        "_base",
        "_free",
        "_front_end",
        "_homes",
        "_leaf",
        "_limits",
        "_locks",
        "_made",
        "_max_processes",
        "_memory_home",
        "_memory_limit",
        "_taken",
        "_unremoved",
        "_version",
        "_worn",
        "alarm",
        "reason",
    )

    def __init__(
        self, front_end: int, memory_limit_mb: int, max_processes: int
    ) -> None:
        self._front_end = front_end
        self._memory_limit = memory_limit_mb << 20
        self._max_processes = max_processes
        #: why there are no groups, or nothing if there are
        self.reason = "not tried yet"
        #: readable when the kernel is about to kill in some group, -1 if it never is
        self.alarm = -1
        self._homes: list[str] = []
        self._memory_home = ""
        self._limits: list[tuple[str, str, bytes]] = []
        self._locks: list[int] = []
        self._version = 1
        self._base = self._leaf = ""
        self._made = 0
        self._free: list[str] = []
        self._taken: dict[int, str] = {}  # slot -> group
        # Groups that were in use at an alarm.
        self._worn: set[str] = set()
        # What could not be removed yet: something in there is still dying.
        self._unremoved: list[str] = []

    def open(self, own: Own | None = None) -> None:
        """Make ready for workers, or say in `reason` why there will be no groups."""
        try:
            if own is None:
                own = find(_read("/proc/self/cgroup"), _read("/proc/self/mountinfo"))
            self._open(own)
        except (OSError, ValueError) as error:
            self.close()
            self.reason = _in_words(error)

    def _open(self, own: Own | None) -> None:
        limits = {"memory": self._memory_limit, "pids": self._max_processes}
        wanted = [name for name, limit in limits.items() if limit]
        if own is None or not any(getattr(own, name) for name in wanted):
            self.reason = "no controller, or no limit to be kept"
            return
        self._version = own.version
        if own.version == 2:
            self._base, self._leaf = delegate(own.memory, wanted, self._front_end)
            own = Own(2, self._base, self._base)
        name = f"{_PREFIX}{self._front_end}-{os.urandom(4).hex()}"
        # Both controllers are often in one folder: version 2, or mounted as one.
        for folder in {getattr(own, controller) for controller in wanted} - {""}:
            self._sweep(folder)
            self._make_home(f"{folder}/{name}")
            if own.version == 2:
                enable(f"{folder}/{name}", wanted)
        if "memory" in wanted and own.memory:
            self._limit_memory(f"{own.memory}/{name}")
        if "pids" in wanted and own.pids:
            limit = b"%d" % self._max_processes
            self._limits.append((f"{own.pids}/{name}", "pids.max", limit))
        self.reason = ""

    def _limit_memory(self, home: str) -> None:
        self._memory_home = home
        for file, text in _LIMITS[self._version]:
            limit = text.format(self._memory_limit).encode()
            self._limits.append((home, file, limit))
        if self._version == 1:
            self.alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def _make_home(self, home: str) -> None:
        os.mkdir(home, _MODE)  # noqa: PTH102 - pathlib is slow to import
        self._homes.append(home)
        fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
        self._locks.append(fd)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @property
    def folders(self) -> list[str]:
        """What we change files in."""
        return [*self._homes, self._base] if self._base else list(self._homes)

    def take(self, slot: int) -> str:
        """Return the group of a worker about to be forked, one used before if any.

        Empty where there are no groups.
        """
        if not self._homes:
            return ""
        if not self._free:
            self._made += 1
            self._make(f"{self._made}")
            self._free.append(f"{self._made}")
        name = self._taken[slot] = self._free.pop()
        return name

    def _make(self, name: str) -> None:
        for home in self._homes:
            _try(os.mkdir, f"{home}/{name}", _MODE)
        for home, file, text in self._limits:
            # Without swap there is no limit on it: what is missing stays so.
            put(f"{home}/{name}/{file}", text)
        if self.alarm >= 0:
            _try(_connect, f"{self._memory_home}/{name}", self.alarm)

    def open_entrances(self, name: str) -> list[int]:
        """Return descriptors for a worker that was just forked to enter its group by.

        It writes 0 to each. It must have one thread, and that takes 11 ms in version 2
        if nobody has done so for a while.
        """
        entrances = []
        for home in self._homes if name else ():
            try:
                path = f"{home}/{name}/{_ENTRANCE[self._version]}"
                entrances.append(os.open(path, os.O_WRONLY))
            except OSError:
                continue
        return entrances

    def silence(self) -> None:
        """Take note of an alarm: the next one will be heard again."""
        _try(os.read, self.alarm, 8)
        # Whatever was counted in them must not be laid to the next worker's charge.
        self._worn.update(self._taken.values())

    def memory_taken_kb(self, slot: int) -> int:
        """Return the peak of a group that the kernel had to kill in, or 0.

        To be asked after an alarm, and of a worker that died of SIGKILL before it
        is removed.
        """
        if not self._memory_home or slot not in self._taken:
            return 0
        folder = f"{self._memory_home}/{self._taken[slot]}"
        events = _try_read(f"{folder}/{_EVENTS[self._version]}")
        peak = _try_read(f"{folder}/{_PEAK[self._version]}")
        return taken_kb(events, peak, self._memory_limit)

    def give_back(self, slot: int, *, was_killed: bool, was_alone: bool) -> None:
        """Keep the group of a dead worker for another one, or remove it.

        Making and removing one costs more than all the rest, most of it later and in
        the kernel. But the next worker must not find anything of the last one's there;
        `was_alone` says that no process can be, so that nobody need look.
        """
        if slot not in self._taken:
            return
        name = self._taken.pop(slot)
        is_worn = was_killed or name in self._worn
        is_empty = was_alone or not _members_of(f"{self._homes[0]}/{name}")
        if not is_worn and is_empty and self._is_as_new(name):
            self._free.append(name)
            return
        self._worn.discard(name)
        for home in self._homes:
            # Version 2 only; elsewhere what is left is found by descent alone.
            put(f"{home}/{name}/cgroup.kill", b"1")
            self._unremoved.append(f"{home}/{name}")
        self.tidy()

    def _is_as_new(self, name: str) -> bool:
        if not self._memory_home:
            return True
        folder = f"{self._memory_home}/{name}"
        # Files in memory stay when their owner is gone. They cannot be more than there
        # ever was, and so little of a peak blames nobody (`taken_kb`).
        peak = _try_read(f"{folder}/{_PEAK[self._version]}")
        if peak and self._is_little(peak):
            return True
        # The peak starts anew; version 2 cannot do that, and takes no harm: there is
        # none read but of a worker that was stopped by the limit.
        put(f"{folder}/{_PEAK[self._version]}", b"0")
        usage = _try_read(f"{folder}/{_USAGE[self._version]}")
        return bool(usage) and self._is_little(usage)

    def _is_little(self, size: str) -> bool:
        return int(size) * 16 <= self._memory_limit

    def tidy(self) -> None:
        """Remove what has become empty meanwhile; cheap if there is nothing."""
        if self._unremoved:
            self._unremoved = [one for one in self._unremoved if not _remove(one)]

    def close(self) -> None:
        """Remove everything; the workers must be dead and reaped."""
        for home in self._homes:
            _remove(home)
        self.tidy()
        for fd in (*self._locks, self.alarm):
            if fd >= 0:
                os.close(fd)
        self.alarm = -1
        self._homes, self._locks, self._limits, self._free = [], [], [], []
        self._taken.clear()
        self._memory_home = ""
        if self._leaf:
            withdraw(self._base, self._leaf)
            self._leaf = ""
        self.reason = "closed"

    def _sweep(self, folder: str) -> None:
        """Remove what zygotes left behind that were killed."""
        for name in os.listdir(folder):  # noqa: PTH208 - pathlib is slow to import
            path = f"{folder}/{name}"
            if path == self._leaf or not name.startswith(_PREFIX):
                continue
            if _is_abandoned(path) and not _remove(path):
                # Its workers are dying with it, at this moment.
                self._unremoved.append(path)


def delegate(own: str, wanted: Iterable[str], front_end: int) -> tuple[str, str]:
    """Make version 2 let groups below `own` be limited; return base and leaf.

    The base is where groups can be made from now on. The leaf is where our own
    processes, those from `front_end` down, had to move, or empty; an earlier zygote
    may have done it already.

    Raises:
        OSError: there is no such controller, or no permission.
        ValueError: others are in that group.
    """
    base, _, name = own.rpartition("/")
    if name.startswith(_LEAF_PREFIX):
        leaf = own
    elif not os.access(f"{own}/cgroup.type", os.F_OK):
        # Only the root has no type, and only in the root may groups be beside
        # processes.
        base, leaf = own, ""
    else:
        base, leaf = own, f"{own}/{_LEAF_PREFIX}{front_end}"
        available = _read(f"{own}/cgroup.controllers").split()
        if not set(wanted) <= set(available):
            raise ValueError(f"{own} has no controllers but {available}")
        _move_into_leaf(own, leaf, front_end)
    try:
        enable(base, wanted)
    except OSError:
        if leaf:
            withdraw(base, leaf)
        raise
    return base, leaf


def _move_into_leaf(own: str, leaf: str, front_end: int) -> None:
    ours = {front_end, *tree.descendants_of(front_end)}
    if not ours.issuperset(_members_of(own)):
        raise ValueError(f"{own} is not ours alone")
    os.mkdir(leaf, _MODE)  # noqa: PTH102
    # Again and again, since what is still in there may fork.
    for _ in range(_MOVES):
        members = _members_of(own)
        if not members:
            return
        for pid in members:
            put(f"{leaf}/{_PROCS}", b"%d" % pid)
    withdraw(own, leaf)
    raise ValueError(f"cannot move processes {members} out of {own}")


def withdraw(base: str, leaf: str) -> None:
    """Undo `delegate`, unless another zygote of ours has groups there."""
    enabled = _try_read(f"{base}/{_SUBTREE}").split()
    taken_back = " ".join(f"-{controller}" for controller in enabled).encode()
    if enabled and not put(f"{base}/{_SUBTREE}", taken_back):
        return
    for pid in _members_of(leaf):
        put(f"{base}/{_PROCS}", b"%d" % pid)
    _remove(leaf)


def enable(folder: str, wanted: Iterable[str]) -> None:
    """Have the groups in this one limited by these controllers, in version 2.

    Raises:
        OSError: the kernel refuses it.
    """
    text = " ".join(f"+{controller}" for controller in wanted)
    _write(f"{folder}/{_SUBTREE}", text.encode())


def _in_words(error: OSError | ValueError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number not in _CAUSES:
        return str(error)
    # Without the name of what was to be made there, which is never the same.
    folder = str(getattr(error, "filename", "")).partition(f"/{_PREFIX}")[0]
    return f"{_CAUSES[number]}: {folder}"


def put(path: str, text: bytes) -> bool:
    """Write to a control file; return whether it was taken."""
    return _try(_write, path, text)


def _write(path: str, text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)


def _read(path: str) -> str:
    # A file object with its decoder takes longer than all of this.
    fd = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
    finally:
        os.close(fd)
    return os.fsdecode(b"".join(parts))


def _try_read(path: str) -> str:
    try:
        return _read(path)
    except OSError:
        return ""


def _connect(group: str, alarm: int) -> None:
    """Have version 1 tell of a want of memory in a group before it kills."""
    fd = os.open(f"{group}/memory.oom_control", os.O_RDONLY)
    try:
        _write(f"{group}/cgroup.event_control", b"%d %d" % (alarm, fd))
    finally:
        os.close(fd)


def _members_of(folder: str) -> list[int]:
    return [int(pid) for pid in _try_read(f"{folder}/{_PROCS}").split()]


def _is_abandoned(path: str) -> bool:
    """Return whether no zygote holds the lock on a folder any more."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _remove(path: str) -> bool:
    """Remove a group with those in it; return whether it is gone now."""
    if _try(os.rmdir, path) or not os.access(path, os.F_OK):
        return True
    # The control files go with their folder, and cannot be removed one by one.
    _, groups, _ = next(os.walk(path), ("", [], []))
    for name in groups:
        _remove(f"{path}/{name}")
    return bool(groups) and _try(os.rmdir, path)


def _try(action: Callable[..., object], *arguments: object) -> bool:
    try:
        action(*arguments)
    except OSError:
        return False
    return True
