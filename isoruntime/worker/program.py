"""Programs that are run in place of a handler: whether they can be, and starting them.

What the kernel says of a program that does not start is one word for a dozen causes, and
the usual ones are made on the way to the platform: a missing exec bit, line ends of
Windows, a binary for another machine. So the file is looked at first.
"""

from __future__ import annotations

import errno
import os
import struct

from isoruntime.bare import signal
from isoruntime.typed import TYPE_CHECKING, Final
from isoruntime.worker.load import LoadError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: ELF's e_machine, and how `uname -m` calls it.
_MACHINES: Final = {
    3: "i686",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
}
_RUNS_ALSO: Final = {"x86_64": {"i686"}, "aarch64": {"arm"}}
#: First bytes of what others call programs.
_FOREIGN: Final = {
    b"MZ": "a program for Windows",
    b"\xcf\xfa\xed\xfe": "a program for macOS",
    b"\xca\xfe\xba\xbe": "a program for macOS (or a Java class)",
    b"\xef\xbb\xbf#!": "a script that begins with a byte order mark, before its #!",
}
#: Ignored by Python, and not to be by what we start.
_RESET: Final = (signal.SIGPIPE, signal.SIGXFSZ)
_HEAD_BYTES: Final = 256
#: Options of env(1).
_TAKE_A_WORD: Final = frozenset({b"-u", b"--unset", b"-C", b"--chdir"})


def find(name: str) -> str:
    """Return the path of a program, as a shell would find it from here.

    Raises:
        LoadError: there is none, or it cannot be run; the message says why.
    """
    if "/" in name:
        path = os.path.abspath(name)  # noqa: PTH100 - importing pathlib takes longer than all this
        _judge(name, path)
        return path
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    candidates = [f"{folder}/{name}" for folder in folders if folder]
    for path in candidates:
        if os.access(path, os.X_OK) and os.path.isfile(path):  # noqa: PTH113 - see above
            _judge(name, path)
            return path
    for path in candidates:
        if os.path.isfile(path):  # noqa: PTH113 - see above
            _judge(name, path)
    is_here = os.path.exists(name)  # noqa: PTH110 - see above
    here = f": to run the file of the code, say ./{name}" if is_here else ""
    raise LoadError(
        "HandlerNotFound", f"There is no program '{name}' in PATH{here}", []
    )


def _judge(name: str, path: str) -> None:
    problem = _problem_with(path)
    if problem:
        kind = "HandlerNotFound" if problem == _MISSING else "UserCodeError"
        raise LoadError(kind, f"Unable to run '{name}': {problem}", [])


_MISSING: Final = "there is no such file"


def _problem_with(path: str) -> str:
    if not os.path.exists(path):  # noqa: PTH110 - see above
        return _MISSING
    if os.path.isdir(path):  # noqa: PTH112 - see above
        return "it is a folder"
    if not os.access(path, os.X_OK):
        return f"it may not be executed: chmod 755 {path}"
    return _problem_with_content(path)


def _problem_with_content(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - see above
            head = file.read(_HEAD_BYTES)
    except OSError:
        # What may be executed need not be readable.
        return ""
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            return f"it is {what}"
    if head.startswith(b"\x7fELF"):
        return _problem_with_elf(head)
    if head.startswith(b"#!"):
        return _problem_with_script(head)
    if not head:
        return "it is empty"
    return "it is neither a program of this system nor a script that begins with #!"


def _problem_with_elf(head: bytes) -> str:
    if len(head) < 20:
        return "it is cut off"
    order = ">" if head[5] == 2 else "<"
    (number,) = struct.unpack_from(order + "H", head, 18)
    machine = _MACHINES.get(number, f"machine number {number}")
    ours = os.uname().machine
    if machine == ours or machine in _RUNS_ALSO.get(ours, ()):
        return ""
    return f"it is a program for {machine}, and this is {ours}"


def _problem_with_script(head: bytes) -> str:
    line, newline, _ = head.partition(b"\n")
    if line.endswith(b"\r"):
        return "its lines end with CRLF, which Linux takes for part of the interpreter's name: save it with LF (dos2unix)"
    words = line[2:].split()
    if not words:
        return "its first line names no interpreter after #!"
    interpreter = os.fsdecode(words[0])
    if newline and not os.path.exists(interpreter):  # noqa: PTH110 - see above
        return f"its interpreter {interpreter} does not exist here"
    if words[0].endswith(b"/env") and len(words) > 1:
        wanted = [word for word in words[1:] if not word.startswith(b"-")]
        # Behind these comes a word that is no interpreter's name.
        if _TAKE_A_WORD.isdisjoint(words) and wanted and b"=" not in wanted[0]:
            return _problem_with_env(os.fsdecode(wanted[0]))
    return ""


def _problem_with_env(name: str) -> str:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if any(os.access(f"{folder}/{name}", os.X_OK) for folder in folders):
        return ""
    return f"its interpreter {name} is not in PATH"


def start(
    path: str,
    argv: list[str],
    environ: Mapping[str, str],
    stdin: int,
    stdout: int,
) -> int:
    """Start a program whose standard error is ours; return its process id.

    Raises:
        LoadError: it is not what it was when it was looked at.
    """
    try:
        # By vfork: a worker's memory is not to be copied for a program that drops it.
        return os.posix_spawn(
            path,
            argv,
            environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, stdout, 1),
            ],
            setsigdef=_RESET,
            setsigmask=(),
        )
    except OSError as error:
        if error.errno in (errno.ENOMEM, errno.EAGAIN, errno.E2BIG):
            raise
        _judge(argv[0], path)
        reason = error.strerror or str(error)
        raise LoadError(
            "UserCodeError", f"Unable to run '{argv[0]}': {reason}", []
        ) from error
