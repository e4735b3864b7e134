"""The C library calls that Python has no function for; the only use of ctypes.

Numbers come from the kernel's own headers (linux/prctl.h, linux/capability.h,
linux/landlock.h, linux/seccomp.h, linux/sched.h, linux/io_uring.h, sys/mount.h, asm/mman.h). Those
of the system calls of Landlock and io_uring are the same on every architecture.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from functools import partial
from itertools import starmap

from isoruntime.bare import signal
from isoruntime.typed import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    #: A call whose arguments have been converted; it returns -1 if it has failed.
    Ready = Callable[[], int]

_PR_SET_PDEATHSIG: Final = 1
_PR_GET_PDEATHSIG: Final = 2
_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_PR_CAPBSET_DROP: Final = 24
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38

_SECCOMP_MODE_FILTER: Final = 2
_BYTES_PER_INSTRUCTION: Final = 8

_SYS_LANDLOCK_CREATE_RULESET: Final = 444
_SYS_LANDLOCK_ADD_RULE: Final = 445
_SYS_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_CREATE_RULESET_VERSION: Final = 1

_SYS_IO_URING_SETUP: Final = 425
_SYS_IO_URING_REGISTER: Final = 427
_BYTES_OF_RING_PARAMETERS: Final = 120
#: Flags of a ring, after the lengths of its two queues.
_RING_FLAGS: Final = struct.Struct("8xI")
_IORING_SETUP_R_DISABLED: Final = 1 << 6
#: What `io_uring_register` can be asked for; a sealed ring does the first of it alone.
IORING_REGISTER_BUFFERS: Final = 0
_IORING_REGISTER_RESTRICTIONS: Final = 11
_IORING_REGISTER_ENABLE_RINGS: Final = 12
_IORING_RESTRICTION_REGISTER_OP: Final = 0
#: `struct io_uring_restriction`: which kind, and what is allowed.
_RESTRICTION: Final = struct.Struct("HB13x")
#: `struct iovec`
_BUFFER: Final = struct.Struct("QQ")

_CAPABILITY_VERSION_3: Final = 0x20080522

_MADV_COLLAPSE: Final = 25

#: `waitid`: also a child that does not say SIGCHLD when it ends.
_WALL: Final = 0x40000000
_BYTES_OF_SIGINFO: Final = 128

# Safe because a NULL name means this very process, which has libc mapped already.
_libc = ctypes.CDLL(None, use_errno=True)
_without_errno = ctypes.CDLL(None)
# Longs, since plain ints would leave half of a register undefined; declared once, since
# workers call it.
_libc.prctl.argtypes = (ctypes.c_int, *4 * (ctypes.c_ulong,))


class _Program(ctypes.Structure):
    """`struct sock_fprog`: a filter and its length in instructions."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


_CapabilityData = ctypes.c_uint32 * 6


def _check(result: int) -> int:
    """Return the result of a call.

    Raises:
        OSError: it was -1. errno counts only then: a call that works leaves it alone.
    """
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _prctl(option: int, argument: int, third: int = 0) -> int:
    return _check(_libc.prctl(option, argument, third, 0, 0))


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> bool:
    """Have the kernel send this process a signal when its parent ends.

    Return False if `parent` is already gone, which the kernel would not tell.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    return os.getppid() == parent


def parent_death_signal() -> int:
    """Return the signal that this process gets when its parent ends; 0 for none."""
    number = ctypes.c_int()
    _prctl(_PR_GET_PDEATHSIG, ctypes.addressof(number))
    return number.value


def become_subreaper() -> bool:
    """Make orphaned descendants children of this process instead of init's.

    Return False where the kernel does not know how (gVisor, until a few years ago): what
    a handler leaves behind there can get away.
    """
    try:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    except OSError:
        return False
    return True


def set_no_new_privileges() -> None:
    """Let no program that this process or its children execute gain privileges."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def set_dumpable(wanted: bool) -> None:
    """Let others of this user look into this process, or nobody but root."""
    _prctl(_PR_SET_DUMPABLE, int(wanted))


def drop_from_bounding_set(capability: int) -> None:
    """See to it that a capability can never be gained again."""
    _prctl(_PR_CAPBSET_DROP, capability)


def capabilities() -> tuple[int, int, int]:
    """Return the sets effective, permitted and inheritable of this process, as bits."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    data = _CapabilityData()
    _check(_libc.capget(ctypes.byref(header), data))
    low, high = data[:3], data[3:]
    return (
        low[0] | high[0] << 32,
        low[1] | high[1] << 32,
        low[2] | high[2] << 32,
    )


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """Change the capabilities of this process; `permitted` can only shrink."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    sets = (effective, permitted, inheritable)
    low = [one & 0xFFFFFFFF for one in sets]
    high = [one >> 32 for one in sets]
    _check(_libc.capset(ctypes.byref(header), _CapabilityData(*low, *high)))


def landlock_version() -> int:
    """Return which version of Landlock the kernel speaks, from 1 on.

    Raises:
        OSError: ENOSYS, the kernel has none; EOPNOTSUPP, it is switched off.
    """
    return _check(
        _libc.syscall(
            _SYS_LANDLOCK_CREATE_RULESET,
            None,
            ctypes.c_size_t(0),
            _LANDLOCK_CREATE_RULESET_VERSION,
        )
    )


def landlock_create_ruleset(attributes: bytes) -> int:
    """Return a descriptor of a new set of rules (`struct landlock_ruleset_attr`)."""
    return _check(
        _libc.syscall(
            _SYS_LANDLOCK_CREATE_RULESET,
            attributes,
            ctypes.c_size_t(len(attributes)),
            0,
        )
    )


def landlock_add_rule(ruleset: int, kind: int, attributes: bytes) -> None:
    """Add a rule (`struct landlock_path_beneath_attr` or `landlock_net_port_attr`)."""
    _check(_libc.syscall(_SYS_LANDLOCK_ADD_RULE, ruleset, kind, attributes, 0))


def landlock_restrict_self(ruleset: int) -> None:
    """Put this process, and all it starts from now on, under a set of rules."""
    _check(_libc.syscall(_SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0))


def install_filter(program: bytes) -> None:
    """Have a BPF program judge every system call of this process and its children.

    Needs `set_no_new_privileges` before, or CAP_SYS_ADMIN.
    """
    length = len(program) // _BYTES_PER_INSTRUCTION
    argument = _Program(length, program)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(argument))


def unshare(flags: int) -> None:
    """Leave the namespaces named by `CLONE_NEW*` flags for new ones."""
    _check(_libc.unshare(flags))


def mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str = ""
) -> None:
    """Attach a file system, or change how one is attached (man 2 mount)."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, kind)]
    _check(
        _libc.mount(
            encoded[0],
            os.fsencode(target),
            encoded[1],
            ctypes.c_ulong(flags),
            os.fsencode(options) or None,
        )
    )


def unmount(target: str, flags: int) -> None:
    """Detach what was mounted last at `target` (man 2 umount)."""
    _check(_libc.umount2(os.fsencode(target), flags))


def resident_share(address: int, length: int) -> float:
    """Return how much of some memory of this process is there (man 2 mincore).

    Raises:
        OSError: it is not mapped.
    """
    pages = length // os.sysconf("SC_PAGE_SIZE")
    seen = (ctypes.c_ubyte * pages)()
    _check(_libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(length), seen))
    return sum(page & 1 for page in seen) / pages


def collapse(address: int, length: int) -> None:
    """Put memory of this process into huge pages (man 2 madvise, MADV_COLLAPSE).

    Raises:
        OSError: EINVAL, the kernel is older than 6.1; ENOMEM or EAGAIN, there is none.
    """
    place = ctypes.c_void_p(address), ctypes.c_size_t(length)
    _check(_libc.madvise(*place, _MADV_COLLAPSE))


def open_sealed_ring() -> int:
    """Return a descriptor of an io_uring that can do nothing but hold buffers.

    No operation can ever be handed to it, by nobody, and nothing else be registered.

    Raises:
        OSError: ENOSYS or EPERM, there is none for us; EINVAL, the kernel is older than 5.10;
            ENOMEM, it is more than RLIMIT_MEMLOCK by itself.
    """
    parameters = ctypes.create_string_buffer(_BYTES_OF_RING_PARAMETERS)
    _RING_FLAGS.pack_into(parameters, 0, _IORING_SETUP_R_DISABLED)
    ring = _check(_libc.syscall(_SYS_IO_URING_SETUP, 1, parameters))
    seal = _RESTRICTION.pack(_IORING_RESTRICTION_REGISTER_OP, IORING_REGISTER_BUFFERS)
    try:
        _register(ring, _IORING_REGISTER_RESTRICTIONS, seal, 1)
        _register(ring, _IORING_REGISTER_ENABLE_RINGS, None, 0)
    except OSError:
        os.close(ring)
        raise
    return ring


def hold_buffers(ring: int, ranges: Sequence[tuple[int, int]]) -> None:
    """Register memory of this process, (address, length) each, with a ring, once.

    It stays where it is in memory as long as the ring is open, and a fork copies it
    instead of sharing it.

    Raises:
        OSError: ENOMEM, it is more than RLIMIT_MEMLOCK; EFAULT, it is not mapped; EBUSY,
            there are buffers already.
    """
    buffers = b"".join(starmap(_BUFFER.pack, ranges))
    _register(ring, IORING_REGISTER_BUFFERS, buffers, len(ranges))


def _register(ring: int, what: int, words: bytes | None, count: int) -> None:
    _check(_libc.syscall(_SYS_IO_URING_REGISTER, ring, what, words, count))


# For processes that were just forked: each page that one writes to has to be copied first,
# and to convert arguments, and keep errno for `_check`, writes to fifty. What is made
# ready before the fork writes to two. Why it failed tells whoever does the same again,
# by the functions above.


def _ready(name: str, *arguments: Any) -> Ready:
    # By index, which makes a function object of its own: without `argtypes`.
    return partial(_without_errno[name], *arguments)


def _ready_prctl(option: int, argument: int) -> Ready:
    unused = (ctypes.c_ulong(),) * 3
    return _ready("prctl", ctypes.c_int(option), ctypes.c_ulong(argument), *unused)


def ready_to_die_with_parent() -> Ready:
    """Prepare `die_with_parent`, without the question whether the parent is gone."""
    return _ready_prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def ready_to_become_subreaper() -> Ready:
    """Prepare `become_subreaper`."""
    return _ready_prctl(_PR_SET_CHILD_SUBREAPER, 1)


def ready_to_set_dumpable(wanted: bool) -> Ready:
    """Prepare `set_dumpable`."""
    return _ready_prctl(_PR_SET_DUMPABLE, int(wanted))


def ready_to_set_no_capabilities() -> Ready:
    """Prepare `set_capabilities` of nothing at all."""
    header = ctypes.byref(_CapabilityHeader(_CAPABILITY_VERSION_3, 0))
    return _ready("capset", header, ctypes.byref(_CapabilityData()))


def ready_for_landlock(ruleset: int) -> Ready:
    """Prepare `landlock_restrict_self`."""
    number = ctypes.c_long(_SYS_LANDLOCK_RESTRICT_SELF)
    return _ready("syscall", number, ctypes.c_int(ruleset), ctypes.c_uint(0))


def ready_to_look_for_children() -> Ready | None:
    """Prepare a look whether this process has any child; nothing becomes of one.

    It returns -1 if there is none, living or dead, of any of its threads. Return None
    where the kernel does not tell.
    """
    told = ctypes.byref(ctypes.create_string_buffer(_BYTES_OF_SIGINFO))
    words = ctypes.c_int(os.P_ALL), ctypes.c_int(0), told
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    # Linux before 4.7 does not know the last of them.
    for known in (options | _WALL, options):
        found = _libc.waitid(*words, known)
        if found == 0 or ctypes.get_errno() == errno.ECHILD:
            return _ready("waitid", *words, ctypes.c_int(known))
    return None


def give_back_free_memory() -> None:
    """Give pages back to the kernel that only freed memory is in, where libc can.

    An import leaves some; musl has no such call.
    """
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def overwrite(address: int, length: int) -> None:
    """Fill memory of this process with the letter x.

    `address` and `length` must lie in memory that is mapped and ours to change: with
    anything else the process ends or breaks.
    """
    ctypes.memset(address, ord("x"), length)
