"""Resource limits of a worker and of all it starts, each process by itself.

Memory is not among them. Limits of address space or data make threads and
other languages fail in odd ways long before memory is short, and hold for one process
where a worker is a tree; the watchdog and groups know better.
"""

from __future__ import annotations

import resource

from isoruntime.typed import Final

#: Not the usual 1024: a function that fetches many objects at once may have more
#: sockets. Not the 100,000 that the platform gives a whole instance either: 64 processes
#: with that many would fill the host's memory with what no one accounts for.
_OPEN_FILES: Final = 4096
_OPEN_FILES_STRICT: Final = 1024
#: The largest and the smallest disk of a function.
_FILE_BYTES: Final = 10 << 30
_FILE_BYTES_STRICT: Final = 512 << 20
#: Memory that cannot be swapped out; gpg and libsodium keep keys in a page or two.
_LOCKED_BYTES: Final = 64 << 10
#: What a zygote may hold besides (`zygote.held_pages`). Of one that was not started as root
#: the kernel counts it, with what others of that user hold.
_HELD_BYTES: Final = 4 << 20

_BY_NAME: Final = {
    "core files": (resource.RLIMIT_CORE, 0),
    # They outlive their processes.
    "message queues": (resource.RLIMIT_MSGQUEUE, 0),
    # Neither means what a negative number would: no priority can be gained.
    "nice": (resource.RLIMIT_NICE, 0),
    "real-time priority": (resource.RLIMIT_RTPRIO, 0),
    "pending signals": (resource.RLIMIT_SIGPENDING, 1024),
}


def apply(*, strict: bool, holds_pages: bool = False) -> list[str]:
    """Limit this process, and all it forks, for good.

    `holds_pages` leaves room for what a zygote holds.

    Nothing is raised: where the host allows less already, that stays. Return what could
    not be limited, in sentences.
    """
    wanted = {
        **_BY_NAME,
        "open files": (
            resource.RLIMIT_NOFILE,
            _OPEN_FILES_STRICT if strict else _OPEN_FILES,
        ),
        "locked memory": (
            resource.RLIMIT_MEMLOCK,
            _LOCKED_BYTES + (_HELD_BYTES if holds_pages else 0),
        ),
        "file size": (
            resource.RLIMIT_FSIZE,
            _FILE_BYTES_STRICT if strict else _FILE_BYTES,
        ),
    }
    problems = []
    for name, (which, limit) in wanted.items():
        try:
            _lower(which, limit)
        except (OSError, ValueError) as error:
            # Python says ValueError for some of what the kernel refuses.
            problems.append(f"the limit of {name} could not be set: {error}")
    return problems


def limit_processes(most: int) -> None:
    """Limit how many processes and threads this user has, seen from this process.

    So it is for workers that have a user to themselves, and root is not bound by it.

    Raises:
        OSError: the kernel refuses.
    """
    _lower(resource.RLIMIT_NPROC, most)


def _lower(which: int, limit: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    # Both, for the handler could raise the soft one up to the hard one.
    resource.setrlimit(which, (limit, limit))
