"""Whether the platform can start the function: bootstrap, or the command instead of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from isoruntime.project.elf import Binary, examine
from isoruntime.project.finding import ERROR, WARNING, Finding, Kind, Place
from isoruntime.project.function import (
    BOOTSTRAP,
    CODE,
    LAYERS,
    Function,
    environment_of,
    script_of,
)
from isoruntime.project.images import NAMES, NOWHERE, PROGRAMS, Image, text_of
from isoruntime.project.manifest import shown
from isoruntime.typed import Final

_EXITED: Final = "Function instance exited unexpectedly(code {}, message:{}) with start command '/code/bootstrap '."
_NO_FILE: Final = _EXITED.format(2, "no such file or directory")
_FORMAT: Final = _EXITED.format(8, "exec format error")

MISSING: Final = Kind(
    "bootstrap-missing",
    ERROR,
    "There is no bootstrap at the root of the code, and s.yaml gives no "
    "customRuntimeConfig.command instead.",
    "add bootstrap to the folder, or set customRuntimeConfig.command",
    "The function cannot be started. Failed to start function instance. Error: the file "
    "/code/bootstrap is not exist",
)
COMMAND_MISSING: Final = Kind(
    "command-missing",
    ERROR,
    "The file that the start command names is not in the folder.",
    "mend the path: the folder becomes /code, and that is the working directory",
    _NO_FILE,
)
COMMAND_SPACES: Final = Kind(
    "command-one-word",
    WARNING,
    "The command is one word with blanks in it; each word has to be an entry.",
    'write a list with an entry for each word: ["python3", "server.py"]',
    _NO_FILE,
)
NOT_EXECUTABLE: Final = Kind(
    "bootstrap-not-executable",
    ERROR,
    "The file that is started may not be executed.",
    "chmod 755 it before it is packed; in git: git update-index --chmod=+x",
    _EXITED.format(13, "permission denied"),
)
CRLF: Final = Kind(
    "bootstrap-crlf",
    ERROR,
    "The script has Windows line ends (CR LF). The CR becomes a part of the "
    "interpreter's name.",
    "convert it (dos2unix, or sed -i 's/\\r$//'), and have git keep it: "
    "'bootstrap text eol=lf' in .gitattributes",
    _EXITED.format(127, "key has expired")
    + " Logs:/usr/bin/env: \u2018bash\\r\u2019: No such file or directory",
)
BOM: Final = Kind(
    "bootstrap-bom",
    ERROR,
    "Invisible bytes (a UTF-8 byte order mark) stand before the #!, which then is none.",
    "save the file without a byte order mark: sed -i '1s/^\\xEF\\xBB\\xBF//'",
    _FORMAT,
)
NO_SHEBANG: Final = Kind(
    "bootstrap-shebang",
    ERROR,
    "The script does not begin with #! and the path of an interpreter.",
    "let the first line be #!/usr/bin/env bash",
    _FORMAT,
)
INTERPRETER: Final = Kind(
    "bootstrap-interpreter",
    ERROR,
    "The interpreter behind the #! is not in the platform's image.",
    "let the first line be #!/usr/bin/env bash",
    _NO_FILE,
)
INTERPRETER_UNKNOWN: Final = Kind(
    "bootstrap-interpreter-unknown",
    WARNING,
    "The interpreter behind the #! is none of those that the image is known to have.",
    "let the first line be #!/usr/bin/env bash, or make sure that it is there",
    _NO_FILE,
)
ARCHITECTURE: Final = Kind(
    "bootstrap-architecture",
    ERROR,
    "The program was built for another machine: the platform runs Linux x86-64.",
    "build it for Linux x86-64; with Go: GOOS=linux GOARCH=amd64",
    _FORMAT,
)
LOADER: Final = Kind(
    "bootstrap-loader",
    ERROR,
    "The program needs a dynamic loader that the image does not have (musl), or a newer "
    "C library.",
    "link it statically, or build it on the image's system",
    _NO_FILE,
)
BACKGROUND: Final = Kind(
    "bootstrap-background",
    WARNING,
    "The script puts its last command into the background and ends, and with it the "
    "instance.",
    "leave out the & and let the last line begin with exec",
    "Process exited unexpectedly before completing request",
)
PYTHON_OLD: Final = Kind(
    "command-python",
    ERROR,
    "The command runs a Python that the image does not have, or one that is too old: "
    "python3 of Debian 10 and 11 is not the new one.",
    "put the new one's folder into PATH, or name it by its whole path",
)

#: What `isoruntime package` puts right on the way into the zip.
_MENDED: Final = (MISSING, NOT_EXECUTABLE, CRLF, BOM)
_UTF_8_MARK: Final = b"\xef\xbb\xbf"
_OF_OS: Final = "/lib64/ld-linux-x86-64.so.2"


def check(function: Function) -> Iterator[Finding]:
    """Yield what keeps the function from starting."""
    start = function.start
    if len(start.words) == 1 and " " in start.words[0].strip():
        yield COMMAND_SPACES.at(start.place, f"'{start.words[0]}' is one word")
        return
    yield from _python(function)
    for file in filter(None, (start.program, start.script)):
        is_mended = function.packed and file == function.local(BOOTSTRAP)
        for finding in _file(function, file, is_run=file is start.program):
            if not (is_mended and finding.kind in _MENDED):
                yield finding


def _file(function: Function, file: Path, *, is_run: bool) -> Iterator[Finding]:
    problem = _why_absent(function, file)
    if problem:
        yield problem
        return
    place = Place(shown(file))
    if is_run and not file.stat().st_mode & 0o111:
        mode = file.stat().st_mode & 0o777
        yield NOT_EXECUTABLE.at(place, f"its mode is {mode:o}")
    binary = examine(file)
    if binary:
        yield from _binary(function, place, binary)
    elif is_run or file.suffix != ".py":
        yield from _script(function, file, is_run=is_run)


def _why_absent(function: Function, file: Path) -> Finding | None:
    """Return what to say if the file will not be on the platform."""
    is_default = function.start.words[0] == f"{CODE}/{BOOTSTRAP}"
    what = "bootstrap" if is_default else function.start.words[0]
    folder = function.folder
    if folder is not None and file.is_symlink():
        target = str(file.readlink())
        if not (function.local(target) or file).exists() or _leads_out(file, folder):
            cause = f"{file.name} is a link to {target}, which is not in the package"
            return MISSING.at(Place(shown(file)), cause, "copy the file instead")
    if file.is_file():
        return None
    if is_default:
        there = "is a folder" if file.is_dir() else "does not exist"
        place = Place(shown(file.parent) if not file.exists() else shown(file))
        return MISSING.at(place, f"{what} {there}", _nearby(file))
    cause = f"{CODE}/{file.relative_to(folder) if folder else file} does not exist here"
    return COMMAND_MISSING.at(function.start.place, cause)


def _leads_out(file: Path, folder: Path) -> bool:
    target = str(file.readlink())
    if target.startswith(f"{CODE}/"):
        return False
    return not file.resolve().is_relative_to(folder.resolve())


def _nearby(file: Path) -> str:
    """Return a fix that names what bootstrap may have been called by mistake."""
    for name in ("bootstrap.sh", "Bootstrap", "bootstrap.txt", "bootstrap.py"):
        if (file.parent / name).is_file():
            return f"rename {name} to {BOOTSTRAP}"
    return ""


def _binary(function: Function, place: Place, binary: Binary) -> Iterator[Finding]:
    if not binary.is_x86_64:
        yield ARCHITECTURE.at(place, f"it is a program for {binary.name}")
        return
    image = function.image
    if binary.loader and binary.loader != _OF_OS:
        yield LOADER.at(place, f"it needs {binary.loader}, which the image lacks")
    elif image and binary.glibc > image.glibc:
        cause = (
            f"it needs glibc {text_of(binary.glibc)}, and {image.system} has "
            f"{text_of(image.glibc)}"
        )
        yield LOADER.at(place, cause)


def _script(function: Function, file: Path, *, is_run: bool) -> Iterator[Finding]:
    path, head = shown(file), file.read_bytes()
    first = head.partition(b"\n")[0]
    if head.startswith(_UTF_8_MARK) and is_run:
        yield BOM.at(Place(path, 1), "a byte order mark stands before the #!")
        first = first.removeprefix(_UTF_8_MARK)
    at = next(
        (n for n, one in enumerate(head.split(b"\n"), 1) if one.endswith(b"\r")), 0
    )
    if at:
        yield CRLF.at(Place(path, at), "the line ends with CR LF")
    if is_run:
        yield from _shebang(function, path, first.rstrip(b"\r"), head)
    yield from _background(file, path)


def _background(file: Path, path: str) -> Iterator[Finding]:
    lines = [
        (at, line.strip())
        for at, line in enumerate(script_of(file).splitlines(), 1)
        if line.strip() and not line.strip().startswith("#")
    ]
    if lines and lines[-1][1].endswith("&") and not lines[-1][1].endswith("&&"):
        yield BACKGROUND.at(Place(path, lines[-1][0]), "the last command ends with &")


def _shebang(
    function: Function, path: str, first: bytes, head: bytes
) -> Iterator[Finding]:
    if not first.startswith(b"#!"):
        later = next(
            (
                n
                for n, one in enumerate(head.split(b"\n"), 1)
                if one.lstrip().startswith(b"#!")
            ),
            0,
        )
        cause = "the file is empty" if not head.strip() else "it does not begin with #!"
        if later:
            cause = f"the #! of line {later} is not at the very beginning"
        yield NO_SHEBANG.at(Place(path, 1), cause)
        return
    words = first[2:].decode("utf-8", "replace").split()
    if not words:
        yield NO_SHEBANG.at(Place(path, 1), "nothing follows the #!")
        return
    yield from _interpreter(function, Place(path, 1), words)


def _interpreter(
    function: Function, place: Place, words: list[str]
) -> Iterator[Finding]:
    name = words[0]
    if name == "/usr/bin/env":
        yield from _by_env(function, place, words[1:])
    elif name.startswith(NOWHERE) or not name.startswith("/"):
        yield INTERPRETER.at(place, f"{name} is a path of this machine")
    elif name.startswith((f"{CODE}/", f"{LAYERS}/")):
        yield from _of_the_users(function, place, name)
    elif name.startswith(("/usr/bin/python", "/bin/python")):
        yield from _by_name(function, place, name.rpartition("/")[2])
    elif name not in PROGRAMS and not _is_of_image(function.image, name):
        yield INTERPRETER_UNKNOWN.at(place, f"{name} may not be in the image")


def _by_env(function: Function, place: Place, words: list[str]) -> Iterator[Finding]:
    if len(words) > 1 and not words[0].startswith("-"):
        # The kernel passes on everything behind the first blank as one word.
        text = " ".join(words)
        cause = f"env looks for a program of the name '{text}', blanks and all"
        yield INTERPRETER.at(place, cause, f"write #!/usr/bin/env -S {text}")
        return
    named = [word for word in words if not (word.startswith("-") or "=" in word)]
    if named:
        yield from _by_name(function, place, named[0])
    else:
        yield INTERPRETER.at(place, "env is given no program")


def _of_the_users(function: Function, place: Place, name: str) -> Iterator[Finding]:
    local = function.local(name)
    if local is None and not function.has_layers:
        yield INTERPRETER.at(place, f"{name} would come from a layer: there is none")
    elif local is not None and not local.exists():
        yield INTERPRETER.at(place, f"{name} is not in the folder")


def _is_of_image(image: Image | None, name: str) -> bool:
    if image is None:
        return True
    return name.startswith(f"{image.python_bin}/python3") or name in (
        f"/usr{program}" for program in PROGRAMS
    )


def _by_name(function: Function, place: Place, name: str) -> Iterator[Finding]:
    image = function.image
    if image is None:
        return
    if name.startswith("python3."):
        known = {text_of(image.system_python)}
        if _has_new_python_on_path(function, image):
            known.add(image.python_text)
        if name.removeprefix("python") not in known:
            cause = (
                f"{name} is not there: {image.system} has python3, which is "
                f"{text_of(image.system_python)}, and {image.python_bin}/python3"
            )
            fix = f"name {image.python_bin}/python3 instead"
            yield INTERPRETER.at(place, cause, fix)
    elif name not in NAMES:
        yield INTERPRETER_UNKNOWN.at(place, f"'{name}' may not be in the image")


def _has_new_python_on_path(function: Function, image: Image) -> bool:
    path = environment_of(function).get("PATH", "")
    return image.python_bin == "/usr/bin" or image.python_bin in path.split(":")


def _python(function: Function) -> Iterator[Finding]:
    """Yield a command that is a Python which is not there."""
    start, image = function.start, function.image
    name = start.words[0]
    if image is None or "/" in name or not name.startswith("python"):
        return
    if _has_new_python_on_path(function, image):
        if name in ("python3", f"python{image.python_text}"):
            return
    elif start.is_ours and name == "python3":
        cause = (
            f"python3 of {image.system} is {text_of(image.system_python)}, and "
            "isoruntime needs 3.10"
        )
        yield PYTHON_OLD.at(start.place, cause, _with_path(image))
        return
    elif name in ("python3", f"python{text_of(image.system_python)}"):
        return
    cause = f"'{name}' is not on the PATH of {image.system}"
    yield PYTHON_OLD.at(start.place, cause, _with_path(image))


def _with_path(image: Image) -> str:
    path = f"{image.python_bin}:/usr/local/bin:/usr/bin:/bin"
    return (
        f"set environmentVariables.PATH to {path}, or start bootstrap, which finds it"
    )
