"""A worker's birth: from its fork to its first request, in as little as there can be.

A page that a process writes to after its fork has to be copied first, and Python writes to
each object it looks at. An attribute that is looked up for the first time costs two or
three such pages, an argument that is converted for the C library a dozen. So what can be
looked up, converted or made before is so in the zygote, and the process that is to be
a worker starts with all of it at hand: as variables of one function.
"""

from __future__ import annotations

import os
import sys

from isoruntime.bare import signal
from isoruntime.sandbox import _libc
from isoruntime.sandbox.descriptors import gaps
from isoruntime.typed import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from isoruntime.sandbox.walls import Cell, Walls
    from isoruntime.worker.main import Worker
    from isoruntime.worker.pipes import Places

    #: Goes on as a worker in a process just forked, with the ends of its pipes, the
    #: entrances of its control groups, its cell and its folder for temporary files.
    BecomeWorker = Callable[[Sequence[int], Sequence[int], Cell, bytes], NoReturn]

#: What a user without an entry in /etc/passwd is called.
USER_NAME: Final = "worker"


def ready_for_birth(  # noqa: C901 - one step after another
    worker: Worker,
    walls: Walls,
    places: Places,
    users_fds: Collection[int],
    handled: Collection[int],
) -> BecomeWorker:
    """Return what a process does that this one, or a keeper of its, has just forked.

    To be called once all is imported that workers have in common. `users_fds` are
    descriptors that they keep, `handled` the signals that this process has handlers for.
    """
    zygote = os.getpid()
    is_strict = walls.policy.is_strict
    die_with_parent = _libc.ready_to_die_with_parent()
    become_subreaper = _libc.ready_to_become_subreaper()
    getppid, setsid, write, dup2 = os.getppid, os.setsid, os.write, os.dup2
    closerange, exit_now = os.closerange, os._exit
    set_wakeup_fd = signal.set_wakeup_fd
    set_handler, default = signal.signal, signal.SIG_DFL
    in_order, stdout_w, stderr_w = places.in_order, places.stdout_w, places.stderr_w
    outputs = stdout_w, stderr_w
    spare = gaps({0, 1, 2, *in_order, *users_fds})
    move_in = _ready_to_move_in(walls)
    enclose = walls.ready_to_enclose()
    work, leave = worker.work, worker.leave

    def be_born(  # noqa: C901 - one step after another
        ends: Sequence[int], entrances: Sequence[int], cell: Cell, folder: bytes
    ) -> NoReturn:
        set_wakeup_fd(-1)
        for number in handled:
            set_handler(number, default)
        # Not asked of the kernel where it is known: the zygote may be gone by now, and
        # we would wait for the end of whoever has adopted us. With a keeper, init of its
        # namespace, the kernel ends us as well.
        parent = getppid() if is_strict else zygote
        if die_with_parent() < 0:
            _libc.die_with_parent(parent)
        if getppid() != parent:
            exit_now(0)
        # This can take so long that the parent dies meanwhile.
        for entrance in entrances:
            try:
                write(entrance, b"0")
            except OSError:
                continue
        setsid()
        become_subreaper()
        # Not `places.fill`, which would be a dozen pages more.
        for end, place in zip(ends, in_order):  # noqa: B905 - they are as many
            dup2(end, place, False)
        dup2(stdout_w, 1)
        dup2(stderr_w, 2)
        if folder:
            move_in(folder)
        skipped = enclose(cell, outputs)
        for first, end in spare:
            closerange(first, end)
        # Another user's process is no longer tied to its parent.
        if cell.uid and not _libc.die_with_parent(parent):
            # Safe because nothing of the user's has run in here.
            exit_now(0)
        work(skipped)
        leave(0)

    def become_worker(
        ends: Sequence[int], entrances: Sequence[int], cell: Cell, folder: bytes
    ) -> NoReturn:
        # Safe because this is the only thread; and whatever happens here, control
        # never returns into the zygote's own loop, or the keeper's.
        try:
            be_born(ends, entrances, cell, folder)
        except BaseException:  # noqa: BLE001 - nobody is above to tell
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            # EX_SOFTWARE; nobody reads a meaning into it.
            exit_now(70)

    return become_worker


def _ready_to_move_in(walls: Walls) -> Callable[[bytes], None]:
    """Return what has temporary files, and what belongs into a home folder, go to ours."""
    if walls.gives_users:
        os.environ["USER"] = os.environ["LOGNAME"] = USER_NAME
    tempfile: Any = sys.modules.get("tempfile")
    if tempfile is not None:
        # It has looked the folder up once, when the handler was imported.
        tempfile.tempdir = None
    # The operator's home is out of reach inside the walls, and none of a handler's
    # business.
    names = (b"TMPDIR", b"HOME") if walls.is_up else (b"TMPDIR",)
    putenv, environ = os.putenv, os.environ
    #: what it keeps, past the functions that it has for that
    data: dict[bytes, bytes] | None = getattr(environ, "_data", None)

    def move_in(folder: bytes) -> None:
        for name in names:
            if data is None:
                # User code has put something of its own there.
                environ[os.fsdecode(name)] = os.fsdecode(folder)
            else:
                putenv(name, folder)
                data[name] = folder

    return move_in
