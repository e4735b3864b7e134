"""Starting a zygote's process: done before the front end imports the rest of itself.

The interpreter of the zygote starts, and imports what it needs, on another core
meanwhile; what it is to load it is told later, when there is somebody to tell it.

The zygote waits for this module, and the first caller for the zygote. So it imports
nothing that takes time: `socket` and `typing` were a tenth of a cold start.
"""

from __future__ import annotations

import os
import sys

from isoruntime.bare import signal, socket
from isoruntime.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAIN: Final = os.path.join(os.path.dirname(__file__), "__main__.py")  # noqa: PTH118, PTH120 - pathlib would be the start path's only use
_CONTROL_FD: Final = 3
_RESET_SIGNALS: Final = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD),
)


class Spawned:
    """A process that was started, and our ends of what leads to it."""

    __slots__ = ("control", "output_r", "pid")

    def __init__(self, pid: int, control: socket.socket, output_r: int) -> None:
        """`output_r` is where user code is read that prints while it is imported."""
        self.pid = pid
        self.control = control
        self.output_r = output_r


def spawn(environment: Mapping[str, str]) -> Spawned:
    """Start a zygote, with these variables and nothing else of ours.

    Raises:
        OSError: the system has no process or descriptor to spare.
    """
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    output_r, output_w = os.pipe()
    try:
        pid = _start(theirs.fileno(), output_w, environment)
    except BaseException:
        os.close(output_r)
        control.close()
        raise
    finally:
        theirs.close()
        os.close(output_w)
    return Spawned(pid, control, output_r)


def _start(control_fd: int, output_fd: int, environment: Mapping[str, str]) -> int:
    warnings = [] if "PYTHONWARNINGS" in environment else ["-W", "ignore"]
    arguments = [*warnings, _MAIN, str(_CONTROL_FD), str(os.getpid())]
    # exec rather than fork: a forked zygote would hold the front end's secrets and
    # share its memory layout. Every descriptor not named here is closed by exec.
    return os.posix_spawn(
        sys.executable,
        [sys.executable, *arguments],
        {
            # Two arenas instead of eight per core: threads of a handler would
            # otherwise count against its address space with memory never used.
            "MALLOC_ARENA_MAX": "2",
            "PYTHONIOENCODING": "utf-8:surrogateescape",
            **environment,
        },
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output_fd, 1),
            (os.POSIX_SPAWN_DUP2, output_fd, 2),
            (os.POSIX_SPAWN_DUP2, control_fd, _CONTROL_FD),
        ],
        # What `nohup` or a shell script has us ignore is no concern of user code.
        setsigmask=(),
        setsigdef=_RESET_SIGNALS,
    )
