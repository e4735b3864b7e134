"""isoruntime init: a new function, ready to be served and to be deployed."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from isoruntime.cli.text import BAD_USAGE, complain
from isoruntime.cli.words import Parser, Unreadable, own_command
from isoruntime.errors import CannotPackage
from isoruntime.project import template
from isoruntime.project.contents import Entry
from isoruntime.typed import Final

_USAGE: Final = """\
usage: isoruntime init [DIR]

Makes a new function in DIR, or in the current directory: a handler, the start command,
what deploys it, and an event to try it with. What is there already stays as it is.

  --help  print this and exit"""

_PURPOSES: Final = {
    "index.py": "the code: def handler(event, context)",
    "bootstrap": "starts isoruntime on the platform",
    "events/hello.json": "an event to try it with",
    "requirements.txt": "packages that the code imports",
    "s.yaml": "how it is deployed, by s deploy",
    ".fcignore": "what is not deployed",
    ".gitignore": "what is not kept in git",
}
_FAILED: Final = 1


def main(argv: Sequence[str]) -> int:
    """Make what is missing; 1 if it cannot be made, 2 for bad words."""
    if {"-h", "--help"} & set(argv):
        print(_USAGE)
        return 0
    parser = Parser()
    parser.add_argument("dir", nargs="?", default=".")
    try:
        folder = Path(parser.read(argv).dir)
    except Unreadable as error:
        complain(error.told("init"))
        return BAD_USAGE
    if os.path.lexists(folder) and not folder.is_dir():
        complain([f"{folder} is no folder: give one, or a name for a new one"])
        return BAD_USAGE
    try:
        files = template.files(folder.resolve().name)
        kept = {file.name for file in files if not _make(folder / file.name, file)}
    except CannotPackage as error:
        complain(error.problems)
        return _FAILED
    except OSError as error:
        complain([f"{error.filename} cannot be made: {error.strerror}"])
        return _FAILED
    print("\n".join(_report(folder, files, kept)))
    return 0


def _make(path: Path, file: Entry) -> bool:
    """Make a file, unless there is something of its name."""
    assert isinstance(file.source, bytes)
    if os.path.lexists(path):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    # Exclusively: whatever came into being since we looked is kept, too.
    with path.open("xb") as made:
        made.write(file.source)
    if file.mode & stat.S_IXUSR:
        path.chmod(stat.S_IMODE(file.mode))
    return True


def _report(folder: Path, files: Sequence[Entry], kept: set[str]) -> Iterator[str]:
    yield f"{folder.resolve()}:"
    for file in files:
        purpose = _PURPOSES[file.name]
        if file.name in kept:
            purpose = "was there already and is kept"
        yield f"  {file.name:18} {purpose}"
    command = own_command()
    there = "" if folder == Path() else f" --code-dir {shlex.quote(str(folder))}"
    where = "" if folder == Path() else f" {shlex.quote(str(folder))}"
    yield ""
    yield "What to type next:"
    for line, purpose in (
        (f"invoke{there} -e @hello", "run it once"),
        (f"serve{there}", "answer POST localhost:9000/invoke with it"),
        (f"package{where}", "make code.zip, to be deployed"),
    ):
        yield f"  {command} {line:{len(there) + 16}}  # {purpose}"
