"""What a hostile handler would try, as a handler: run in a rehearsed worker.

`rehearsal` has this loaded like any function of a user's, in a worker made like any
other, and asks for two things by its event: to lay out `bait` for a sibling, and to make
every attempt at what the event names. Each attempt has one of three ends, and a text:

    held      it failed, as it should
    through   it worked; the text says what was got at
    untried   it could not be made here; the text says why

Nothing is imported that the zygote has not imported already: beside the real modules
of that name there may be files of the user's.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket

from isoruntime.sandbox import _libc
from isoruntime.typed import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: How this module is named as a handler.
HANDLER: Final = "isoruntime.zygote.attempts.handler"

#: A file of this name lies in the temporary folder of the sibling.
BAIT: Final = "bait"
#: Everybody may list these, unless something keeps them from it.
_FOR_EVERYBODY: Final = ("/", "/etc", "/var", "/home")
#: Messages of the kernel about devices. Needs no privilege and does no harm.
_NETLINK_KOBJECT_UEVENT: Final = 15
#: All that a worker has open: its pipes and its trace.
_OPEN: Final = ("pipe:", "/memfd:isoruntime-trace", "/dev/null")
_SETS_OF_CAPABILITIES: Final = ("CapInh", "CapPrm", "CapEff", "CapAmb")
_PAGE: Final = 4096


class _Untried(Exception):
    """An attempt that could not be made, and says nothing therefore."""


def handler(event: bytes, context: object) -> str:
    """Do what the event asks for; return what came of it as JSON."""
    aims = json.loads(event)
    if "bait" in aims:
        return json.dumps(_lay_bait())
    if "eat_mb" in aims:
        return json.dumps(_eat(aims["eat_mb"]))
    return json.dumps({name: _end_of(name, aims) for name in ATTEMPTS})


def _lay_bait() -> dict[str, str]:
    folder = os.environ.get("TMPDIR", "")
    with open(f"{folder}/{BAIT}", "w") as file:  # noqa: PTH123 - pathlib is slow to import
        file.write("taken")
    return {"folder": folder}


def _eat(megabytes: int) -> int:
    eaten = bytearray(megabytes << 20)
    for at in range(0, len(eaten), _PAGE):
        eaten[at] = 1
    # Whoever keeps the limit by sampling needs a moment.
    signal.pause()
    return len(eaten)


def _end_of(name: str, aims: dict[str, Any]) -> tuple[str, str]:
    try:
        got = "; ".join(ATTEMPTS[name](aims))
    except _Untried as why:
        return "untried", str(why)
    except Exception as error:  # noqa: BLE001 - the other attempts are still to be made
        return "untried", f"{type(error).__name__}: {error}"
    return ("through", got) if got else ("held", "")


def _status() -> dict[str, str]:
    with open("/proc/self/status") as file:  # noqa: PTH123
        lines = [line.split(":", 1) for line in file]
    return {name: value.strip() for name, value in lines}


def _gain_privileges(aims: dict[str, Any]) -> Iterator[str]:
    if _status().get("NoNewPrivs") != "1":
        yield "programs with a set-user-ID bit give privileges"


def _use_capabilities(aims: dict[str, Any]) -> Iterator[str]:
    status = _status()
    for name in _SETS_OF_CAPABILITIES:
        if int(status.get(name, "0"), 16):
            yield f"{name} is {status[name]}"


def _be_the_same_user(aims: dict[str, Any]) -> Iterator[str]:
    if os.getuid() in (0, aims["uid"]):
        yield f"it runs as user {os.getuid()}, like the runtime"


def _make_forbidden_calls(aims: dict[str, Any]) -> Iterator[str]:
    if _status().get("Seccomp") != "2":
        yield "its system calls are not filtered"
        return
    try:
        # Asks for nothing, so that nobody but a filter refuses it.
        _libc.unshare(0)
        yield "unshare was let through"
    except PermissionError:
        pass
    family, kind = socket.AF_NETLINK, socket.SOCK_RAW
    try:
        socket.socket(family, kind, _NETLINK_KOBJECT_UEVENT).close()
        yield "a netlink socket was let through"
    except OSError:
        pass


def _is_apart(kind: str, aims: dict[str, Any]) -> bool:
    outside: dict[str, str] = aims["namespaces"]
    return os.readlink(f"/proc/self/ns/{kind}") != outside.get(kind)  # noqa: PTH115 - pathlib is slow to import


def _signal(pids: Iterable[int], aims: dict[str, Any]) -> Iterator[str]:
    if _is_apart("pid", aims):
        # These numbers are others' in here, if anybody's.
        return
    for pid in pids:
        try:
            os.kill(pid, 0)
        except OSError:
            continue
        yield f"process {pid} could be signalled"


def _signal_the_runtime(aims: dict[str, Any]) -> Iterator[str]:
    return _signal((aims["front_end"], aims["zygote"]), aims)


def _signal_a_sibling(aims: dict[str, Any]) -> Iterator[str]:
    return _signal((aims["sibling"],), aims)


def _look_into(pids: Iterable[int]) -> Iterator[str]:
    own = os.path.realpath("/proc/self")
    for pid in pids:
        if f"/proc/{pid}" == own:
            # A namespace of processes has given us the number of somebody outside.
            continue
        for name in ("environ", "mem"):
            try:
                os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
            except OSError:
                continue
            yield f"/proc/{pid}/{name} could be opened"


def _look_into_the_runtime(aims: dict[str, Any]) -> Iterator[str]:
    return _look_into((aims["front_end"], aims["zygote"]))


def _look_into_a_sibling(aims: dict[str, Any]) -> Iterator[str]:
    return _look_into((aims["sibling"],))


def _read_outside(aims: dict[str, Any]) -> Iterator[str]:
    for path in _FOR_EVERYBODY:
        try:
            os.listdir(path)  # noqa: PTH208 - pathlib is slow to import
        except PermissionError:
            return
        except OSError:
            continue
    yield "files that are none of its business can be read"


def _change_the_code(aims: dict[str, Any]) -> Iterator[str]:
    code_dir = aims["code_dir"]
    try:
        # A file without a name: nothing is left of it, should it be possible.
        fd = os.open(code_dir, os.O_TMPFILE | os.O_WRONLY, 0o600)
    except IsADirectoryError:
        raise _Untried(
            "the file system of the code has no unnamed files to try it with"
        ) from None
    except OSError:
        return
    os.close(fd)
    yield f"files can be made in {code_dir}"


def _take_the_bait(aims: dict[str, Any]) -> Iterator[str]:
    path = f"{aims['sibling_folder']}/{BAIT}"
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        return
    yield "workers can read each other's temporary files"


def _find_files_in_tmp(aims: dict[str, Any]) -> Iterator[str]:
    if os.path.exists(aims["marker"]):  # noqa: PTH110 - pathlib is slow to import
        yield "files of others are in /tmp"


def _connect(aims: dict[str, Any]) -> Iterator[str]:
    try:
        socket.create_connection(("127.0.0.1", aims["port"]), 1).close()
    except OSError:
        return
    yield "a server outside could be connected to"


def _connect_by_name(aims: dict[str, Any]) -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as one:
        try:
            one.connect(f"\0{aims['name']}")
        except OSError:
            return
    yield "an abstract socket outside could be connected to"


def _orphan(aims: dict[str, Any]) -> Iterator[str]:
    """Have a grandchild whose parent is gone, and ask it who its parent is now."""
    asking_r, asking_w = os.pipe()
    answer_r, answer_w = os.pipe()
    # Safe because there is one thread; neither process goes on beyond this function.
    child = os.fork()
    if child == 0:
        # Safe as above.
        if os.fork() == 0:
            os.read(asking_r, 1)
            os.write(answer_w, b"%d" % os.getppid())
        # Safe because nobody waits for anything else of these two.
        os._exit(0)
    os.close(answer_w)
    os.waitpid(child, 0)
    os.write(asking_w, b"?")
    parent = int(os.read(answer_r, 16) or b"0")
    for fd in (asking_r, asking_w, answer_r):
        os.close(fd)
    if parent != os.getpid():
        yield "a process it leaves behind is not its child any more"
        return
    os.wait()


def _outlive_the_parent(aims: dict[str, Any]) -> Iterator[str]:
    if _libc.parent_death_signal() != signal.SIGKILL:
        yield "it outlives its zygote"


def _find_descriptors(aims: dict[str, Any]) -> Iterator[str]:
    # The worker counts its own processes and memory there.
    expected = (*_OPEN, os.path.realpath("/proc/self") + "/")
    for fd in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
        except OSError:
            # The list's own descriptor, closed by now.
            continue
        if not target.startswith(expected):
            yield f"{target} is open"


def _raise_limits(aims: dict[str, Any]) -> Iterator[str]:
    for name in ("RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_FSIZE"):
        which = getattr(resource, name)
        _, hard = resource.getrlimit(which)
        if hard == resource.RLIM_INFINITY:
            yield f"{name} has no limit"
            continue
        try:
            resource.setrlimit(which, (hard, hard + 1))
        except (OSError, ValueError):
            continue
        yield f"{name} could be raised"


def _share_namespaces(aims: dict[str, Any]) -> Iterator[str]:
    shared = [kind for kind in aims["namespaces"] if not _is_apart(kind, aims)]
    if shared:
        yield f"namespaces are shared with the host: {', '.join(sorted(shared))}"


def _see_processes(aims: dict[str, Any]) -> Iterator[str]:
    own = os.path.basename(os.path.realpath("/proc/self"))  # noqa: PTH119
    if own != str(os.getpid()):
        yield "/proc shows the processes outside"


def _be_ungrouped(aims: dict[str, Any]) -> Iterator[str]:
    with open("/proc/self/cgroup") as file:  # noqa: PTH123
        if "/isoruntime-" not in file.read():
            yield "it is in no control group of its own"


ATTEMPTS: Final[dict[str, Callable[[dict[str, Any]], Iterator[str]]]] = {
    "gain-privileges": _gain_privileges,
    "use-capabilities": _use_capabilities,
    "be-the-same-user": _be_the_same_user,
    "make-forbidden-calls": _make_forbidden_calls,
    "signal-the-runtime": _signal_the_runtime,
    "signal-a-sibling": _signal_a_sibling,
    "look-into-the-runtime": _look_into_the_runtime,
    "look-into-a-sibling": _look_into_a_sibling,
    "read-outside": _read_outside,
    "change-the-code": _change_the_code,
    "take-the-bait": _take_the_bait,
    "find-files-in-tmp": _find_files_in_tmp,
    "connect": _connect,
    "connect-by-name": _connect_by_name,
    "orphan": _orphan,
    "outlive-the-parent": _outlive_the_parent,
    "find-descriptors": _find_descriptors,
    "raise-limits": _raise_limits,
    "share-namespaces": _share_namespaces,
    "see-processes": _see_processes,
    "be-ungrouped": _be_ungrouped,
}
