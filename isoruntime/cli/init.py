"""isoruntime init: a new function, ready to be served and to be deployed."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from isoruntime.cli.text import BAD_USAGE, complain
from isoruntime.cli.words import Parser, own_command
from isoruntime.errors import CannotPackage
from isoruntime.project import template
from isoruntime.project.contents import Entry

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
    words, problems = parser.read(argv, "init")
    if problems:
        complain(problems)
        return BAD_USAGE
    folder = Path(str(words["dir"]))
    try:
        files = template.files(folder.resolve().name)
        missing = [one for one in files if not os.path.lexists(folder / one.name)]
        for file in missing:
            _make(folder / file.name, file)
    except CannotPackage as error:
        complain(error.problems)
        return _FAILED
    except OSError as error:
        complain([f"{error.filename} was not made: {error.strerror}"])
        return _FAILED
    print("\n".join(_report(folder, files, missing)))
    return 0


def _make(path: Path, file: Entry) -> None:
    assert isinstance(file.source, bytes)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Exclusively: whatever came into being since we looked is kept, too.
    with path.open("xb") as made:
        made.write(file.source)
    if file.mode & stat.S_IXUSR:
        path.chmod(stat.S_IMODE(file.mode))


def _report(
    folder: Path, files: Iterable[Entry], missing: Sequence[Entry]
) -> Iterator[str]:
    for file in files:
        state = (
            _PURPOSES[file.name] if file in missing else "kept: it was there already"
        )
        yield f"  {file.name:18}  {state}"
    here = shlex.quote(str(folder))
    command = own_command()
    yield ""
    yield "What to type next:"
    yield f"  {command} serve --code-dir {here}"
    yield f"  curl -d @{shlex.quote(str(folder / 'events/hello.json'))} localhost:9000/invoke"
    yield f"  {command} package {here}"
