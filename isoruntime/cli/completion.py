"""isoruntime completion: commands, options, values and handlers, completed by a shell.

`argcomplete` does the shells' part. It wants an `argparse` parser, which is made here
from what the commands declare, and only while a shell asks.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
from pathlib import Path

from isoruntime.cli import events
from isoruntime.cli.invoke.command import OWN, TAKEN
from isoruntime.cli.main import COMMANDS
from isoruntime.cli.samples import SAMPLES
from isoruntime.cli.text import BAD_USAGE, complain
from isoruntime.project.images import CUSTOM
from isoruntime.project.target import PYTHONS
from isoruntime.settings import DECLARED
from isoruntime.settings.parse import OneOf, closest
from isoruntime.typed import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from isoruntime.cli.options import Option
    from isoruntime.settings import Setting

SHELLS: Final = {
    "bash": "source <(isoruntime completion bash)",
    "zsh": "source <(isoruntime completion zsh)",
    "fish": "isoruntime completion fish | source",
}
#: A larger file is no handler somebody wrote, and is not read.
_MAX_SOURCE_BYTES: Final = 256 * 1024

_USAGE: Final = """\
usage: isoruntime completion bash|zsh|fish

Prints what has a shell complete commands, options, their values, handlers and events.
To have it always, put the line into the file that your shell reads at its start:

"""


def main(argv: Sequence[str]) -> int:
    """Print the code for a shell; 2 if that cannot be."""
    if {"-h", "--help"} & set(argv):
        lines = [f"  {shell:5} {line}" for shell, line in SHELLS.items()]
        print(_USAGE + "\n".join(lines))
        return 0
    problem = _problem(argv)
    if problem:
        complain([problem])
        return BAD_USAGE
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError:
        complain(
            [
                "completion needs argcomplete, which is not installed: "
                "pip install 'isoruntime[completion]'"
            ]
        )
        return BAD_USAGE
    print(shellcode(["isoruntime"], shell=argv[0]))
    return 0


def _problem(argv: Sequence[str]) -> str:
    known = f"give one of {', '.join(SHELLS)}"
    if len(argv) != 1:
        return f"completion takes the name of a shell: {known}"
    if argv[0] not in SHELLS:
        return f"'{argv[0]}' is no shell known here: {closest(argv[0], SHELLS)}{known}"
    return ""


def complete() -> NoReturn:
    """Tell a shell what could come next, and end."""
    try:
        import argcomplete
    except ImportError:
        # A shell that waits for words has no use for a complaint.
        sys.exit(1)
    argcomplete.autocomplete(parser())
    sys.exit(1)


def parser() -> argparse.ArgumentParser:
    """Return a parser of all commands, good for completion only."""
    whole = argparse.ArgumentParser(prog="isoruntime", allow_abbrev=False)
    commands = whole.add_subparsers()
    made = {
        name: commands.add_parser(name, help=purpose, allow_abbrev=False)
        for name, (_, purpose) in COMMANDS.items()
    }
    _add_settings(made["serve"], DECLARED)
    _add_settings(made["invoke"], TAKEN)
    for name in ("serve", "invoke"):
        made[name].add_argument("--fresh", action="store_true")
    for option in OWN:
        _add_option(made["invoke"], option)
    _add_settings(made["doctor"], [one for one in DECLARED if one.group == "isolation"])
    made["doctor"].add_argument("--require", choices=("standard", "strict"))
    made["doctor"].add_argument("--json", action="store_true")
    event = made["event"]
    event.add_argument("--set", metavar="PATH=VALUE")
    event.add_argument("--list", action="store_true")
    event.add_argument("--code-dir", dest="code_dir", help="where the function is")
    _complete_with(event.add_argument("name", nargs="?"), _event_names)
    _add_project_words(made)
    made["completion"].add_argument("shell", choices=tuple(SHELLS))
    return whole


def _add_project_words(made: dict[str, argparse.ArgumentParser]) -> None:
    """Add what the commands take that look at a function's folder."""
    for name in ("init", "check", "package"):
        made[name].add_argument("dir", nargs="?")
    made["check"].add_argument("--json", action="store_true")
    made["check"].add_argument("--strict", action="store_true")
    made["check"].add_argument("--runtime", choices=tuple(CUSTOM))
    made["package"].add_argument("-o", "--output")
    made["package"].add_argument("--python", choices=tuple(sorted(PYTHONS.values())))
    made["package"].add_argument("--platform")
    made["package"].add_argument("--no-vendor", action="store_true")
    made["package"].add_argument("--no-bytecode", action="store_true")


def _add_settings(to: argparse.ArgumentParser, settings: Iterable[Setting]) -> None:
    for setting in settings:
        choices = setting.parse.choices if isinstance(setting.parse, OneOf) else None
        if setting.is_switch:
            to.add_argument(setting.flag, action="store_true", help=setting.doc)
        elif setting.flag.startswith("--"):
            to.add_argument(
                setting.flag, dest=setting.name, choices=choices, help=setting.doc
            )
        else:
            _complete_with(to.add_argument(setting.name, nargs="?"), _handlers)


def _add_option(to: argparse.ArgumentParser, option: Option) -> None:
    if option.is_switch:
        to.add_argument(*option.flags, action="store_true", help=option.doc)
        return
    # argparse reads a per cent sign in a help as a format.
    added = to.add_argument(*option.flags, help=option.doc.replace("%", "%%"))
    if option.name == "event":
        _complete_with(added, _events)


def _complete_with(action: argparse.Action, completer: Any) -> None:
    action.completer = completer  # type: ignore[attr-defined]  # argcomplete's own


def _code_dir(parsed_args: argparse.Namespace) -> str:
    given = getattr(parsed_args, "code_dir", None)
    return given or os.environ.get("ISORUNTIME_CODE_DIR") or "."


def _handlers(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return what could be a handler: public functions of the files in the code folder."""
    found = []
    for path in sorted(Path(_code_dir(parsed_args)).glob("*.py")):
        found += [f"{path.stem}.{name}" for name in _functions_in(path)]
    return found


def _functions_in(path: Path) -> list[str]:
    try:
        if path.stat().st_size > _MAX_SOURCE_BYTES:
            return []
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    return [
        node.name
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and not node.name.startswith("_")
    ]


def _events(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    names = events.saved(_code_dir(parsed_args))
    return ["-", *(f"@{events.FOLDER}/{path.name}" for path in names.values())]


def _event_names(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    return [*SAMPLES, *events.saved(_code_dir(parsed_args))]
