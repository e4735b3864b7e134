"""Capabilities: the parts of root's power, kept one by one or not at all.

Even root's workers keep none: with some of them the kernel lets a process look past
Landlock into others, and change what belongs to the host.
"""

from __future__ import annotations

from isoruntime.sandbox import _libc
from isoruntime.typed import Final

#: The names by their numbers, linux/capability.h; the kernel adds at the end.
names: Final = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)

#: What a zygote needs that gives its workers users of their own: to become them, to
#: kill them, to make and empty their folders, to measure them.
ZYGOTE: Final = frozenset(
    {
        "SETUID",
        "SETGID",
        "KILL",
        "CHOWN",
        "FOWNER",
        "DAC_OVERRIDE",
        "SYS_PTRACE",
    }
)

_SETPCAP: Final = 1 << names.index("SETPCAP")
#: The sets are 64 bits wide; no kernel knows that many.
_MOST: Final = 64


def held() -> frozenset[str]:
    """Return the names of the capabilities in effect; unknown ones by number."""
    effective, _, _ = _libc.capabilities()
    return frozenset(
        names[number] if number < len(names) else str(number)
        for number in range(_MOST)
        if effective >> number & 1
    )


def keep(wanted: frozenset[str]) -> None:
    """Give up every capability but those in `wanted` that this process has.

    They cannot be had back, nor by executing a program: what is not wanted leaves the
    bounding set too. Only a holder of SETPCAP may do the latter; for others
    no_new_privs does the same.

    Raises:
        OSError: the kernel refuses, which leaves some or all of them in place.
    """
    mask = sum(1 << names.index(name) for name in wanted)
    effective, permitted, inheritable = _libc.capabilities()
    # First, since it takes one of those that go.
    if effective & _SETPCAP:
        _narrow_bounding_set(mask)
    kept = permitted & mask
    if (effective, permitted, inheritable) == (kept, kept, 0):
        return
    _libc.set_capabilities(kept, kept, 0)
    # The ambient set shrinks by itself: the kernel holds in it only what is
    # inheritable too.


def drop_all() -> None:
    """Give up every capability.

    Raises:
        OSError: the kernel refuses.
    """
    keep(frozenset())


def ready_to_drop_all() -> _libc.Ready | None:
    """Prepare `drop_all` for processes that hold what this one does.

    Return None if there is more to it than one call.
    """
    effective, _, _ = _libc.capabilities()
    return None if effective & _SETPCAP else _libc.ready_to_set_no_capabilities()


def _narrow_bounding_set(mask: int) -> None:
    for number in range(_MOST):
        if mask >> number & 1:
            continue
        try:
            _libc.drop_from_bounding_set(number)
        except OSError:
            if number < len(names):
                raise
            # The kernel's last one is behind us.
            return
