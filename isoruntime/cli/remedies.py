"""What to do about a mechanism that is missing, by the reason it is missing for."""

from __future__ import annotations

import os
from collections.abc import Callable

from isoruntime.typed import Final

_SYSCTLS: Final = (
    # Where distributions close user namespaces, the value that does so, and which opens.
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user/max_user_namespaces", "0", "15000"),
)
_SECURITY_OPTIONS: Final = (
    "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined; "
    "Kubernetes: securityContext.seccompProfile.type: Unconfined "
    "(or profiles of your own that allow unshare, clone with namespaces, and mount)"
)
_CAPABILITIES: Final = "SETUID, SETGID, KILL and CHOWN"

Read = Callable[[str], str]


def read(path: str) -> str:
    """Return the text of a small file of the kernel's, empty if there is none."""
    try:
        with open(path) as file:  # noqa: PTH123 - pathlib is slow to import
            return file.read().strip()
    except OSError:
        return ""


def remedy(mechanism: str, reason: str, read: Read = read) -> str:
    """Return what an operator can do, on one line; empty if nothing is known to help."""
    chosen = _BY_MECHANISM.get(mechanism)
    return "" if chosen is None else chosen(reason, read)


def _for_landlock(reason: str, read: Read) -> str:
    if "switched off" in reason:
        return "add landlock to the kernel's lsm= parameter"
    if "filter around us" in reason:
        return (
            "let the container's seccomp profile allow the three landlock_ calls, as "
            "the default one of a current Docker does"
        )
    if is_gvisor():
        return "gVisor has no Landlock: use another runtime class (runc, Kata)"
    return "run on Linux 6.12 or newer (5.13 at least) with CONFIG_SECURITY_LANDLOCK"


def _for_scopes(reason: str, read: Read) -> str:
    if "6.12" in reason:
        return "run on Linux 6.12 or newer, or use --sandbox strict"
    return _for_landlock(reason, read)


def _for_seccomp(reason: str, read: Read) -> str:
    if "table of system calls" in reason or "32-bit" in reason:
        return "use a 64-bit Python on x86_64 or aarch64"
    return "run on a kernel with CONFIG_SECCOMP_FILTER"


def _for_uid(reason: str, read: Read) -> str:
    if reason.startswith("CAP_"):
        return (
            f"give the container {_CAPABILITIES}: docker run --cap-add; Kubernetes: "
            "securityContext.capabilities.add"
        )
    if "cannot be written" in reason:
        return "let every user write there, if workers are to have users of their own"
    if "other users" in reason:
        return "install Python and the code where every user may read them, as in /opt"
    if "user namespace" in reason:
        return "give the container a range of 65536 users and groups (/etc/subuid)"
    if "as root" in reason:
        return "start it as root, if workers are to have users of their own"
    return ""


def _for_namespaces(reason: str, read: Read) -> str:
    for name, closed, opened in _SYSCTLS:
        if read(f"/proc/sys/{name}") == closed:
            return f"sysctl {name.replace('/', '.')}={opened}"
    if (
        "user namespaces refused" in reason
        and os.geteuid() == 0
        and not _is_filtered(read)
    ):
        return "start it as an ordinary user, or with CAP_SYS_ADMIN or CAP_SETFCAP"
    if "namespaces refused" in reason:
        return _SECURITY_OPTIONS
    return ""


def _for_tmp(reason: str, read: Read) -> str:
    if "namespaces refused" in reason:
        return _for_namespaces(reason, read)
    return "give --sandbox strict, where that matters"


def _for_proc(reason: str, read: Read) -> str:
    if "namespaces refused" in reason:
        return _for_namespaces(reason, read)
    return (
        "docker run --security-opt systempaths=unconfined; Kubernetes: "
        "securityContext.procMount: Unmasked"
    )


def _for_temporary_files(reason: str, read: Read) -> str:
    return "set TMPDIR to a folder outside of /tmp, /var/tmp and /dev/shm"


def _for_code(reason: str, read: Read) -> str:
    return "keep the code outside of /tmp and of what --allow-write names"


def _for_cgroup(reason: str, read: Read) -> str:
    return (
        "limits are kept by sampling instead; for groups: systemd's Delegate=yes, or a "
        "container with a writable /sys/fs/cgroup"
    )


def _for_network(reason: str, read: Read) -> str:
    return _for_seccomp(reason, read)


def _for_dumpable(reason: str, read: Read) -> str:
    return "run on Linux 6.12 or newer, or start it as root"


_BY_MECHANISM: Final = {
    "landlock": _for_landlock,
    "landlock-scopes": _for_scopes,
    "seccomp": _for_seccomp,
    "uid": _for_uid,
    "namespaces": _for_namespaces,
    "private-tmp": _for_tmp,
    "proc": _for_proc,
    "temporary-files": _for_temporary_files,
    "read-only-code": _for_code,
    "cgroup": _for_cgroup,
    "network": _for_network,
    "non-dumpable": _for_dumpable,
}


def is_gvisor() -> bool:
    """Tell whether the kernel looks like gVisor, which calls itself 4.4.0."""
    return os.uname().release == "4.4.0"


def _is_filtered(read: Read) -> bool:
    """Tell whether a system call filter is around this process already."""
    return "Seccomp:\t2" in read("/proc/self/status")
