"""The walls: everything that a zygote and its workers give up, in an order that works.

    zygote, before user code is imported        worker, before its first request
    ------------------------------------        --------------------------------
    no new privileges                           number of processes         strict
    not dumpable                                its uid, or no capabilities
    capabilities it does not need               not dumpable            without Landlock
    limits (rlimits)                  standard  umask                       strict
    Landlock, wide                    standard  Landlock: its own folder only
    system call filter                standard  system call filter          strict

    keeper of a cell, under `strict`
    --------------------------------
    capabilities it does not need
    limits (rlimits)

Importing a handler runs code of the user's in the zygote. Under `standard` that
happens inside the walls, and workers inherit them: what is done once there, or in the
keeper, costs no worker anything. Under `strict` a worker lives in namespaces of its
own, which cannot be made from inside the walls; so there the zygote imports nothing,
unless it is told that module-level code is trusted (`--preload always`).

What the kernel refuses is skipped, with the reason. Who asked for `strict` was promised
more: there `REQUIRED` says what may not be missing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable

from isoruntime.sandbox import (
    _libc,
    capabilities,
    identity,
    landlock,
    paths,
    rlimits,
    seccomp,
)
from isoruntime.typed import Any, Final, NamedTuple

#: Mechanisms without which `strict` refuses to go on.
REQUIRED: Final = frozenset(
    {"no-new-privileges", "capabilities", "landlock", "seccomp"}
)
#: What a zygote needs besides to make cells.
_CAPABILITIES_FOR_CELLS: Final = frozenset(
    {"SYS_ADMIN", "SYS_CHROOT", "SETPCAP", "SETFCAP", "NET_ADMIN"}
)
#: What a keeper needs to renew its cell, and to make a worker another user. Not
#: SETPCAP: a worker that has it empties the bounding set, which takes 0.4 ms, and for
#: which there is no need after `set_no_new_privileges`.
_CAPABILITIES_OF_KEEPER: Final = capabilities.ZYGOTE | {"SYS_ADMIN"}
#: What it means when the kernel refuses a mechanism with this error.
_CAUSES: Final = {
    ("no-new-privileges", errno.EINVAL): "the kernel does not know it",
    ("seccomp", errno.EINVAL): "the kernel has no system call filters",
    ("seccomp", errno.EACCES): "it needs no-new-privileges",
    ("capabilities", errno.EPERM): "the kernel does not let them be given up",
    ("uid", errno.EPERM): "the kernel does not let the user be changed",
    ("uid", errno.EINVAL): "the user namespace does not know that user",
    ("uid", errno.EAGAIN): "that user has as many processes as it may",
    ("landlock", errno.E2BIG): "we are under sixteen sets of rules already",
    ("landlock", errno.EMFILE): "no descriptor was left for its rules",
}


class Policy(NamedTuple):
    """What is asked for."""

    #: off, standard or strict
    profile: str = "off"
    #: whether handlers reach the network of the host
    has_network: bool = True
    code_dir: str = "."
    #: the folder that holds the workers' temporary folders; empty if there is none
    temp_base: str = ""
    #: further paths that handlers may read, or write
    allow_read: tuple[str, ...] = ()
    allow_write: tuple[str, ...] = ()
    front_end: int = 0
    #: processes of one worker's tree; 0 = no limit
    max_processes: int = 0
    #: whether the zygote holds pages (`zygote.held_pages`)
    holds_pages: bool = False

    @property
    def is_strict(self) -> bool:
        """Whether every worker lives in a cell with namespaces of its own."""
        return self.profile == "strict"


class Cell(NamedTuple):
    """Where one worker after the other lives: what they have in common."""

    number: int
    #: the folder that holds the temporary folder of the worker; empty if there is none
    folder: str = ""
    #: 0 where workers keep the user that the runtime was started by
    uid: int = 0
    #: a prepared set of Landlock rules, -1 without
    ruleset: int = -1
    #: puts a worker under them
    restrict: Callable[[], int] | None = None


class Walls:
    """What was asked for, and what became of it on this host."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        #: mechanism -> why it is not in force
        self.skipped: dict[str, str] = {}
        self._uid = 0
        self._program = b""
        self._has_landlock = False
        # What all workers may reach.
        self._grants: landlock.Grants | None = None
        # What rules have to grant those who are under the zygote's already.
        self._grants_within = paths.NO_GRANTS
        # What each worker does, made ready by whoever forks it.
        self._ready: dict[str, _libc.Ready] = {}

    @property
    def is_up(self) -> bool:
        """Whether there are any."""
        return self.policy.profile != "off"

    @property
    def gives_users(self) -> bool:
        """Whether workers are other users than this process is."""
        return self._uid != 0

    def _attempt(self, mechanism: str, step: Callable[..., Any], *words: Any) -> bool:
        return _attempt(self.skipped, mechanism, step, *words)

    # In the zygote.

    def enclose_zygote(self, cgroups: Iterable[str] = ()) -> None:
        """Give up, in this process, what neither it nor a worker will need.

        `cgroups` are folders of groups that it goes on working in.
        """
        if not self.is_up:
            return
        self._attempt("no-new-privileges", _libc.set_no_new_privileges)
        self._attempt("non-dumpable", _libc.set_dumpable, False)
        self._choose_uid()
        needed = capabilities.ZYGOTE
        if self.policy.is_strict:
            needed |= _CAPABILITIES_FOR_CELLS
        self._attempt("capabilities", capabilities.keep, needed)
        self._has_landlock = not (reason := landlock.reason())
        if reason:
            self.skipped["landlock"] = reason
        elif not landlock.has_scopes():
            self.skipped["landlock-scopes"] = "the kernel is older than 6.12"
        self._attempt("seccomp", self._compile_filter)
        if not self.policy.is_strict:
            self._make_ready()
            self._note_what_is_shared()
            self._enclose_for_import(cgroups)

    def _note_what_is_shared(self) -> None:
        """Say what the workers have in common that namespaces would part."""
        policy = self.policy
        self.skipped["private-tmp"] = "the workers of this function share /tmp"
        shared = landlock.Grants((), (*paths.SHARED, *policy.allow_write))
        if paths.code_is_writable(shared, policy.code_dir):
            self.skipped["read-only-code"] = "it lies where handlers may write"
        if policy.temp_base and paths.reaches(shared, policy.temp_base):
            self.skipped["temporary-files"] = "TMPDIR lies where all workers may write"

    def _choose_uid(self) -> None:
        code_dir = self.policy.code_dir
        reason = (
            identity.available()
            or identity.reachable(paths.needed_by_all(code_dir))
            or identity.unreadable_in(code_dir)
            # A function that was given a disk of root's is to go on writing to it.
            or identity.unwritable(paths.meant_for_writing(self.policy.allow_write))
        )
        if reason:
            self.skipped["uid"] = reason
            return
        self._uid = identity.base_uid(self.policy.front_end)
        if self.policy.temp_base:
            # To be passed through, not to be looked around in.
            os.chmod(self.policy.temp_base, 0o711)  # noqa: PTH101, S103 - see above

    def _compile_filter(self) -> None:
        policy = self.policy
        # A worker that cannot be kept from signalling by Landlock is kept from it by
        # the numbers of those it must not reach; other workers cannot be named ahead.
        is_scoped = self._has_landlock and landlock.has_scopes()
        guarded = () if is_scoped else (policy.front_end, os.getpid())
        wanted = seccomp.SystemCalls(
            has_network=policy.has_network or policy.is_strict,
            guarded=guarded,
            # Also where workers have a uid of their own: an import is still root's.
            may_set_user_id=os.geteuid() != 0,
            may_hold_pages=policy.holds_pages,
        )
        self._program = seccomp.program(wanted)

    def _enclose_for_import(self, cgroups: Iterable[str]) -> None:
        """Put this process inside, since it is about to run code of the user's."""
        policy = self.policy
        self._attempt("rlimits", self._limit)
        if self._has_landlock:
            workers = self.worker_grants()
            grants = paths.for_zygote(
                workers, policy.code_dir, policy.temp_base, cgroups
            )
            self._has_landlock = self._attempt("landlock", self._restrict, grants)
            if self._has_landlock:
                self._grants_within = paths.within(grants, workers)
        if self._program:
            self._attempt("seccomp", seccomp.install, self._program)

    def _restrict(self, grants: landlock.Grants) -> None:
        ruleset = landlock.prepare(grants, network=self.policy.has_network)
        try:
            landlock.restrict(ruleset)
        finally:
            os.close(ruleset)

    def make_cell(self, number: int) -> Cell:
        """Return the place for one worker after the other, with all that can be prepared."""
        policy = self.policy
        folder = ""
        if policy.temp_base and not policy.is_strict:
            folder = f"{policy.temp_base}/{os.getpid()}-{number}"
        if folder:
            _make_folder(folder)
        if not self.is_up:
            return Cell(number, folder)
        # Workers of `standard` share a uid, since they share /tmp: a file that one has
        # left there belongs to the next one too, as handlers expect.
        uid = self._uid and self._uid + (
            number % identity.UIDS_PER_RUNTIME if policy.is_strict else 0
        )
        if folder and uid:
            os.chown(folder, uid, uid)
        cell = Cell(number, folder, uid)
        if self._has_landlock and not policy.is_strict:
            grants = self._grants_within
            if folder:
                grants = grants._replace(write=(*grants.write, folder))
            cell = self._with_rules(cell, grants)
        return cell

    def _with_rules(self, cell: Cell, grants: landlock.Grants) -> Cell:
        policy = self.policy
        try:
            ruleset = landlock.prepare(
                grants, network=policy.has_network or policy.is_strict
            )
        except OSError as error:
            self.skipped["landlock"] = _cause("landlock", error)
            return cell._replace(ruleset=-1, restrict=None)
        return cell._replace(
            ruleset=ruleset, restrict=_libc.ready_for_landlock(ruleset)
        )

    # In the keeper of a cell, under `strict`.

    def enclose_keeper(self) -> None:
        """Give up, in this process, what neither it nor a worker will need."""
        self._attempt("capabilities", capabilities.keep, _CAPABILITIES_OF_KEEPER)
        self._attempt("rlimits", self._limit)
        self._make_ready()

    def with_rules(self, cell: Cell, grants: landlock.Grants) -> Cell:
        """Return the cell with Landlock rules for what its worker finds there now."""
        if not self._has_landlock:
            return cell
        if cell.ruleset >= 0:
            os.close(cell.ruleset)
        # What failed for the last worker need not fail for the next.
        self.skipped.pop("landlock", None)
        return self._with_rules(cell, grants)

    def worker_grants(self) -> landlock.Grants:
        """Return what a worker may reach, but for a folder of its own."""
        if self._grants is None:
            # Once: to find out takes longer than to fork a worker.
            policy = self.policy
            inside = f"{policy.temp_base}/any" if policy.temp_base else None
            grants = paths.for_worker(
                policy.code_dir, inside, policy.allow_read, policy.allow_write
            )
            self._grants = paths.existing(grants)
        return self._grants

    # In a worker.

    def ready_to_enclose(self) -> Callable[[Cell, Iterable[int]], dict[str, str]]:  # noqa: C901 - one step after another
        """Return what has a worker give up all that user code has no need of, for good.

        It takes the worker's cell, and the pipes that the worker, under its own uid, may
        open again by name (/dev/stdout). It returns what had to be skipped, and why. It
        has at hand whatever can be looked up before the fork, see `worker.birth`.
        """
        if not self.is_up:
            return lambda cell, outputs: {}
        is_strict, max_processes = self.policy.is_strict, self.policy.max_processes
        # The zygote has told its own already. Under `strict` they count here too: with
        # one of them missing this worker must not go on.
        skipped = self.skipped if is_strict else {}
        program = self._program if is_strict else b""
        has_landlock, ready = self._has_landlock, self._ready
        set_dumpable = [_libc.ready_to_set_dumpable(wanted) for wanted in (False, True)]

        def enclose(cell: Cell, outputs: Iterable[int]) -> dict[str, str]:  # noqa: C901 - as above
            # Not by name, which would be looked up here for the first time.
            _, _, uid, ruleset, restrict = cell
            is_dumpable = ruleset >= 0
            if is_strict and uid and max_processes:
                _attempt(skipped, "rlimits", rlimits.limit_processes, max_processes)
            if not (uid and _attempt(skipped, "uid", _become, uid, outputs)):
                drop_all = ready.get("capabilities")
                if drop_all is None or drop_all() < 0:
                    _attempt(skipped, "capabilities", capabilities.drop_all)
            # Landlock keeps everybody else out. Where it does, non-dumpable would only
            # take /proc/self from handlers, and from the zygote how much memory they use.
            if set_dumpable[is_dumpable]() < 0:
                _attempt(skipped, "non-dumpable", _libc.set_dumpable, is_dumpable)
            if is_strict:
                os.umask(0o077)
            if restrict is None:
                if has_landlock:
                    skipped.setdefault("landlock", "its rules could not be made")
            elif restrict() < 0:
                _attempt(skipped, "landlock", landlock.restrict, ruleset)
            if program:
                _attempt(skipped, "seccomp", seccomp.install, program)
            return skipped

        return enclose

    def _make_ready(self) -> None:
        drop_all = capabilities.ready_to_drop_all()
        if drop_all is not None:
            self._ready["capabilities"] = drop_all

    def _limit(self) -> None:
        policy = self.policy
        rlimits.apply(strict=policy.is_strict, holds_pages=policy.holds_pages)


def _attempt(
    skipped: dict[str, str], mechanism: str, step: Callable[..., Any], *words: Any
) -> bool:
    try:
        step(*words)
    except OSError as error:
        skipped[mechanism] = _cause(mechanism, error)
        return False
    return True


def _cause(mechanism: str, error: OSError) -> str:
    known = _CAUSES.get((mechanism, error.errno or 0))
    return known or error.strerror or str(error)


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path, 0o700, exist_ok=True)  # noqa: PTH103 - pathlib is slow to import
    except OSError:
        # A full disk, say: then its workers have no folder either.
        return


def _become(uid: int, outputs: Iterable[int]) -> None:
    for fd in outputs:
        os.fchown(fd, uid, uid)
    identity.take(uid)
