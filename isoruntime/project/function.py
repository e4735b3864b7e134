"""`Function`: what is known of one function before it is deployed, and `Start`: how it starts.

s.yaml ----> props ----+
folder ----> files ----+--> Function --> Start --> the settings of `serve`
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from isoruntime.errors import InvalidSettings
from isoruntime.project.finding import Place
from isoruntime.project.images import BUILT_IN, CUSTOM, Image
from isoruntime.project.manifest import Manifest, Node, Resource, shown
from isoruntime.project.packed import Packed
from isoruntime.settings import Settings, read_settings
from isoruntime.typed import Final, NamedTuple

#: Where the platform unpacks the folder.
CODE: Final = "/code"
#: Where it unpacks layers.
LAYERS: Final = "/opt"
BOOTSTRAP: Final = "bootstrap"
DEFAULT_PORT: Final = 9000
_SHELLS: Final = frozenset({"sh", "bash", "dash"})
_OURS: Final = "isoruntime"
_ASSIGNED: Final = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_PYTHON: Final = re.compile(r"python(3(\.\d+)?)?")
#: Beyond this a script is no script.
_LONGEST_SCRIPT: Final = 1 << 20
_PYTHON_IN_PATH: Final = re.compile(r"python3\.(\d+)")

#: From the words behind `serve` to flags for `read_settings`, and what is no option.
ParseOptions = Callable[[Sequence[str]], "tuple[dict[str, object], list[str]]"]


class Line(NamedTuple):
    """A command within a script."""

    #: 0: it is no line, but the start command itself
    number: int
    words: list[str]


class Start(NamedTuple):
    """How the platform starts a function."""

    words: tuple[str, ...]
    #: where that is said
    place: Place
    #: the file in the folder that is run, whether it exists or not; None if the
    #: program is the image's, or nobody knows
    program: Path | None
    #: what an interpreter of the image is given to run, likewise
    script: Path | None
    #: the commands of the script
    lines: tuple[Line, ...]
    #: it starts isoruntime, or will, since there is nothing else yet
    is_ours: bool

    @property
    def file(self) -> Path | None:
        """The user's file that everything begins with."""
        return self.script or self.program


class Told(NamedTuple):
    """What `isoruntime serve` is told by words and variables."""

    settings: Settings
    #: what it would refuse to start for, each with its place
    problems: list[tuple[Place, str]]


class Function:
    """One function: its configuration, its folder, and what follows from them."""

    def __init__(
        self,
        folder: Path | None,
        parse_options: ParseOptions,
        *,
        runtime: str,
        manifest: Manifest | None = None,
        resource: Resource | None = None,
        packed: Packed | None = None,
    ) -> None:
        #: where its code lies; None if that is not on this machine
        self.folder = folder
        #: how the folder becomes the zip, if that is ours to do
        self.packed = packed
        self.manifest = manifest
        self.name = resource.name if resource else ""
        self.props = resource.props if resource else Node({})
        self.runtime = runtime
        self._parse_options = parse_options

    @property
    def image(self) -> Image | None:
        """What it runs on, if that has a Python of its own."""
        return CUSTOM.get(self.runtime) or BUILT_IN.get(self.runtime)

    @property
    def is_custom(self) -> bool:
        """Whether it is started by a command of its own."""
        return self.runtime in CUSTOM

    @property
    def has_layers(self) -> bool:
        """Whether files may come from elsewhere than the folder."""
        layers = self.props.get("layers")
        return bool(layers and (layers.items or layers.is_open))

    def place(self, key: str = "") -> Place:
        """Return where a key stands, or the nearest one around it that does."""
        if self.manifest is None:
            return Place(shown(self.folder) if self.folder else ".")
        node = self.props
        for name in filter(None, key.split(".")):
            node = node.entries.get(name, node)
        return self.manifest.place(node)

    def local(self, path: str) -> Path | None:
        """Return the file here that the platform has at `path`, if it is the folder's."""
        if self.folder is None:
            return None
        if path == CODE or path.startswith(f"{CODE}/"):
            return self.folder / path[len(CODE) :].lstrip("/")
        return None if path.startswith("/") else self.folder / path

    @cached_property
    def port(self) -> int | None:
        """The port that the platform connects to; None if it cannot be known."""
        node = self.props.get("customRuntimeConfig.port")
        if node is None or node.value is None:
            return DEFAULT_PORT
        port = self.props.number("customRuntimeConfig.port")
        return int(port) if port is not None else None

    @cached_property
    def variables(self) -> dict[str, Node]:
        """The environment variables that are configured."""
        node = self.props.get("environmentVariables")
        return node.entries if node else {}

    def variable(self, name: str) -> str:
        """Return a variable's text, none if it is not set or not known."""
        node = self.variables.get(name)
        return str(node.value) if node and node.value is not None else ""

    @cached_property
    def python(self) -> tuple[int, int] | None:
        """The Python that runs the handler, or the server that is started instead."""
        image = self.image
        if image is None or not self.is_custom:
            return image and image.python
        if self.start.is_ours:
            chosen = _PYTHON_IN_PATH.search(self.variable("ISORUNTIME_PYTHON"))
            return (3, int(chosen[1])) if chosen else image.python
        named = f"{environment_of(self).get('PATH', '')}:{self.start.words[0]}"
        return image.python if image.python_bin in named else image.system_python

    @cached_property
    def start(self) -> Start:
        """How the platform starts it."""
        config = self.props.get("customRuntimeConfig") or Node({})
        command, args = config.get("command"), config.get("args")
        words = [*_texts(command)] or [f"{CODE}/{BOOTSTRAP}"]
        place = self.place("customRuntimeConfig.command")
        program, script, rest = self._resolve([*words, *_texts(args)])
        lines = _lines_of(script or program)
        arguments = [*words, *_texts(args)][rest:]
        given = [Line(0, [*words, *_texts(args)])] if command else []
        lines = [Line(at, _expanded(said, arguments)) for at, said in lines]
        is_ours = any(_OURS in word for _, said in (*given, *lines) for word in said)
        # What is missing is most likely to become ours: the handler can be judged.
        is_default = not command or (
            self.packed is not None and program == self.local(BOOTSTRAP)
        )
        is_ours |= is_default and not (program and program.exists())
        return Start(
            (*words, *_texts(args)),
            place,
            program,
            script,
            (*given, *lines),
            is_ours,
        )

    def _resolve(self, words: list[str]) -> tuple[Path | None, Path | None, int]:
        """Return program, script, and where the script's own arguments begin."""
        program = self.local(words[0]) if "/" in words[0] else None
        name = words[0].rpartition("/")[2]
        if program is not None or not (name in _SHELLS or _PYTHON.fullmatch(name)):
            return program, None, 1
        for at, word in enumerate(words[1:], 1):
            if word in ("-c", "-m"):
                break
            if not word.startswith("-"):
                return None, self.local(word), at + 1
        return None, None, 1

    @cached_property
    def told(self) -> Told | None:
        """What isoruntime is told, None if it is not what starts."""
        if not self.start.is_ours:
            return None
        at, words = self._words_for_serve()
        flags, refused = self._parse_options(words)
        for word in ("help", "version"):
            flags.pop(word, None)
        variables, places = self._variables_for_serve()
        code_dir = flags.pop("code_dir", None) or variables.pop(
            "ISORUNTIME_CODE_DIR", None
        )
        local = self.local(str(code_dir)) if code_dir else self.folder
        if local is not None:
            flags["code_dir"] = str(local)
        problems = [(self._place_of_problem(at, one), one) for one in refused]
        if refused and "." not in str(flags.get("handler", ".")):
            # The value of an option that is not known is no handler.
            del flags["handler"]
        platform = self._variables_of_platform()
        try:
            settings = read_settings(flags, {**platform, **variables})
        except InvalidSettings as error:
            for problem in error.problems:
                variable = re.split(r"[= ]", problem)[0]
                place = places.get(variable) or self._place_of_problem(at, problem)
                problems.append((place, problem))
            kept = {"code_dir": str(local)} if local and local.is_dir() else {}
            settings = read_settings(kept, platform)
        return Told(settings, problems)

    @property
    def words_for_serve(self) -> list[str]:
        """What isoruntime is told by words, where it is what starts."""
        return self._words_for_serve()[1]

    def place_of_flag(self, flag: str) -> Place | None:
        """Return where a flag is given, None if it is nowhere to be seen."""
        for key in ("args", "command"):
            words = self.props.get(f"customRuntimeConfig.{key}")
            for word in words.items if words else []:
                if str(word.value).partition("=")[0] == flag and self.manifest:
                    return self.manifest.place(word)
        for number, said in self.start.lines:
            if any(word.partition("=")[0] == flag for word in said):
                return self._place_of_line(number)
        return None

    def _place_of_problem(self, at: Place, problem: str) -> Place:
        return self.place_of_flag(re.split(r"[= ]", problem)[0].strip("'")) or at

    def _words_for_serve(self) -> tuple[Place, list[str]]:
        """Return what stands behind `serve`, as far as it is written out."""
        for number, words in reversed(self.start.lines):
            if "serve" in words:
                place = self._place_of_line(number)
                return place, _literal(words[words.index("serve") + 1 :])
        return self.start.place, []

    def _place_of_line(self, number: int) -> Place:
        file = self.start.file
        if file is None or number == 0:
            return self.start.place
        return Place(shown(file), number)

    def _variables_for_serve(self) -> tuple[dict[str, str], dict[str, Place]]:
        """Return our variables as they are set for the runtime, with their places."""
        values: dict[str, str] = {}
        places: dict[str, Place] = {}
        for name, node in self.variables.items():
            if not node.is_open and node.value is not None:
                values[name] = str(node.value)
                places[name] = self.place(f"environmentVariables.{name}")
        for number, name, value in self.start_assignments():
            if name.startswith(f"{_OURS.upper()}_"):
                values[name] = value
                places[name] = self._place_of_line(number)
        return values, places

    def start_assignments(self) -> Iterator[tuple[int, str, str]]:
        """Yield line, name and value of the variables that the script sets."""
        for number, words in self.start.lines:
            for word in words:
                if word in ("export", "env", "exec"):
                    continue
                assigned = _ASSIGNED.fullmatch(word)
                if not assigned:
                    break
                if "$" not in assigned[2]:
                    yield number, assigned[1], assigned[2]

    def _variables_of_platform(self) -> dict[str, str]:
        """Return what the platform itself sets, as far as settings come from it."""
        variables = {"FC_FUNCTION_NAME": self.name or "function"}
        if handler := self.props.text("handler"):
            variables["FC_FUNCTION_HANDLER"] = handler
        if memory := self.props.number("memorySize"):
            variables["FC_FUNCTION_MEMORY_SIZE"] = f"{memory:g}"
        if self.port:
            variables["FC_CUSTOM_LISTEN_PORT"] = str(self.port)
        return variables


def _texts(node: Node | None) -> list[str]:
    return [str(item.value) for item in node.items] if node else []


def script_of(path: Path | None) -> str:
    """Return the text of a script, nothing if it is none or cannot be read."""
    try:
        if path is None or path.stat().st_size > _LONGEST_SCRIPT:
            return ""
        data = path.read_bytes()
    except OSError:
        return ""
    return "" if b"\0" in data else data.decode("utf-8-sig", "replace")


def _lines_of(path: Path | None) -> list[Line]:
    """Return the commands of a shell script, each with its line."""
    lines: list[Line] = []
    text = script_of(path)
    first = text.partition("\n")[0]
    if not text or (path and path.suffix == ".py") or "python" in first:
        return lines
    begun, number = "", 0
    for at, line in enumerate(text.splitlines(), 1):
        number = number or at
        begun += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        try:
            words = shlex.split(begun, comments=True)
        except ValueError:
            # A text that goes on in the next line, and so on: not looked into.
            words = []
        if words:
            lines.append(Line(number, words))
        begun, number = "", 0
    return lines


def _expanded(words: list[str], arguments: list[str]) -> list[str]:
    expanded: list[str] = []
    for word in words:
        if word in ("$@", "$*"):
            expanded += arguments
        else:
            expanded.append(word)
    return expanded


def _literal(words: list[str]) -> list[str]:
    """Return the words without those that a shell would fill in."""
    literal: list[str] = []
    for word in words:
        if word in ("&", ";", "&&", "||", "|") or word.startswith((">", "2>")):
            break
        if "$" not in word:
            literal.append(word)
        elif literal and literal[-1].startswith("--") and not word.startswith("--"):
            # The option whose value it is.
            literal.pop()
    return literal


def environment_of(function: Function) -> Mapping[str, str]:
    """Return the variables that are set where the function starts, as far as known."""
    values = {name: function.variable(name) for name in function.variables}
    values |= {name: value for _, name, value in function.start_assignments()}
    return values
