"""Whether the handler will be found and its modules can be imported; nothing is run."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from isoruntime.project import modules, syntax
from isoruntime.project.finding import ERROR, WARNING, Finding, Kind, Place
from isoruntime.project.function import Function, environment_of
from isoruntime.project.images import BUILT_IN, text_of
from isoruntime.project.manifest import shown
from isoruntime.typed import Final, NamedTuple

NAME: Final = Kind(
    "handler-name",
    ERROR,
    "The handler is no module.function.",
    "write the module, a dot, and the function: index.handler",
    "Invalid handler 'index'",
)
IGNORED: Final = Kind(
    "handler-ignored",
    WARNING,
    "The handler of s.yaml is no module.function, and so isoruntime takes index.handler: "
    "the platform allows any words there.",
    "write the module, a dot, and the function: index.handler",
)
MODULE: Final = Kind(
    "handler-module-missing",
    ERROR,
    "There is no module in the folder that the handler's name leads to.",
    "add the file, or mend the name; the root of the folder is where names begin",
    "Unable to import module 'index'",
)
FUNCTION: Final = Kind(
    "handler-function-missing",
    ERROR,
    "The module has no function of the handler's name.",
    "mend the name, or define the function at the top level of the module",
    "Handler 'handler' is missing on module 'index'",
)
ARGUMENTS: Final = Kind(
    "handler-arguments",
    ERROR,
    "The function takes another number of values than it is given: a handler is given "
    "the event and the context, an initializer or a hook the context.",
    "define it as handler(event, context), or initializer(context)",
    "handler() takes 1 positional argument but 2 were given",
)
SYNTAX: Final = Kind(
    "code-syntax",
    ERROR,
    "The handler's module, or one that it imports, is no Python of the version that the "
    "image has.",
    "write it so that this version understands it, or choose another runtime",
    "Syntax error in module 'index'",
)
GONE: Final = Kind(
    "import-removed",
    ERROR,
    "A module is imported that was a part of Python once, and is not in the image's "
    "version; or that is a part of newer ones only.",
    "use what has taken its place, or choose another runtime",
    "Unable to import module 'index'",
)
IMPORT: Final = Kind(
    "import-missing",
    WARNING,
    "A module is imported that is neither in the folder, nor in ./python, nor in "
    "Python's library. It may be in the image.",
    "vendor it: pip install -t python ...",
    "Unable to import module 'index'",
)

HTTP: Final = Kind(
    "http-trigger-unanswered",
    WARNING,
    "The function has an HTTP trigger, and is for events: a command, or a handler that is no WSGI or ASGI application, and --http names none. "
    "Requests that come through the trigger are answered with 404.",
    "invoke it through the API or an SDK, or give --http an application",
)

_MOST_NAMES: Final = 8
#: Enough to follow what a function of one's own consists of.
_MOST_MODULES: Final = 500
_VENDORED: Final = frozenset({"python", "site-packages", "node_modules"})


class _Wanted(NamedTuple):
    """A function that will be called."""

    what: str
    name: str
    place: Place
    #: how many values it is given; 0: not known
    values: int


def check(function: Function) -> Iterator[Finding]:
    """Yield what keeps the functions from being found."""
    base = _base(function)
    if base is None or not base.is_dir():
        return
    search = _Search(function, base)
    server = _server(function)
    begun = [server.stem] if server else []
    for wanted in _wanted(function):
        module, dot, name = wanted.name.rpartition(".")
        if not (module and dot and name):
            yield NAME.at(wanted.place, f"'{wanted.name}' is no module.function")
            continue
        path = search.find(_dotted(module))
        if path is None:
            yield _no_module(search, wanted, module)
            continue
        if path.suffix == ".py":
            begun.append(_dotted(module))
            yield from _function(path, wanted, name)
            if wanted.what == "handler" and _is_for_events(path, name):
                yield from _http(function)
    yield from search.imports(begun)


def _base(function: Function) -> Path | None:
    """Return where modules are looked for first; None if none are."""
    if function.told:
        settings = function.told.settings
        if settings.command or settings.upstream:
            # There is nothing to import.
            return None
        return Path(settings.code_dir) if function.folder else None
    if server := _server(function):
        return server.parent
    return function.folder if function.runtime in BUILT_IN else None


def _server(function: Function) -> Path | None:
    """Return the script that is started instead of isoruntime, if it is Python."""
    script = None if function.told or not function.is_custom else function.start.file
    return script if script and script.suffix == ".py" else None


def _dotted(module: str) -> str:
    return module.removeprefix("./").replace("/", ".")


def _wanted(function: Function) -> Iterator[_Wanted]:
    if function.told:
        yield from _wanted_by_ours(function)
        return
    if function.is_custom:
        # To other servers the names are words without a meaning.
        return
    for what, key, values in (
        ("handler", "handler", 2),
        ("initializer", "instanceLifecycleConfig.initializer.handler", 1),
        ("hook", "instanceLifecycleConfig.preStop.handler", 1),
    ):
        if name := function.props.text(key):
            yield _Wanted(what, name, function.place(key), values)


def _wanted_by_ours(function: Function) -> Iterator[_Wanted]:
    assert function.told is not None
    settings = function.told.settings
    for what, attribute, values in (
        ("handler", "handler", 2),
        ("initializer", "initializer", 1),
        ("hook", "pre_stop", 1),
        ("hook", "pre_freeze", 1),
        ("application", "http", 0),
    ):
        if attribute == "handler" and not settings.takes_events:
            continue
        if name := settings.value_of(attribute):
            place = _place(function, settings.source(attribute))
            yield _Wanted(what, str(name), place, values)


def _place(function: Function, source: str) -> Place:
    if source in function.variables:
        return function.place(f"environmentVariables.{source}")
    if source.startswith("FC_"):
        return function.place("handler")
    return function.start.place


def _is_for_events(path: Path, name: str) -> bool:
    tree = syntax.parse(path)
    defined = (modules.names_in(tree) or {}).get(name) if tree else None
    taken = modules.parameters_of(defined) if defined else None
    return taken is not None and not taken.is_application


def _http(function: Function) -> Iterator[Finding]:
    """Yield the HTTP triggers of a function that is for events only."""
    told, triggers = function.told, function.props.get("triggers")
    if told is None or told.settings.http or triggers is None:
        return
    for trigger in triggers.items:
        if trigger.text("triggerType") == "http" and function.manifest:
            place = function.manifest.place(trigger)
            yield HTTP.at(place, "requests through this trigger are answered with 404")


def ignored(function: Function) -> Iterator[Finding]:
    """Yield what of s.yaml isoruntime passes over: a handler, an HTTP trigger."""
    handler, told = function.props.text("handler"), function.told
    if told and told.settings.command:
        yield from _http(function)
    if not (told and handler and told.settings.takes_events):
        return
    settings = told.settings
    if settings.command or settings.upstream:
        return
    if settings.source("handler") == "default" and settings.handler != handler:
        cause = (
            f"'{handler}' is no module.function: {settings.handler} is taken instead"
        )
        yield IGNORED.at(function.place("handler"), cause)


def _no_module(search: _Search, wanted: _Wanted, module: str) -> Finding:
    cause = f"{wanted.what} {wanted.name}: {search.where(module)} does not exist"
    known = search.names()
    near = get_close_matches(_dotted(module), known, 1)
    if near:
        cause += f": did you mean {near[0]}.{wanted.name.rpartition('.')[2]}?"
    elif known:
        cause += f"; there is {_list(known)}"
    return MODULE.at(wanted.place, cause)


def _function(path: Path, wanted: _Wanted, name: str) -> Iterator[Finding]:
    tree = syntax.parse(path)
    names = modules.names_in(tree) if tree else None
    if names is None:
        # It cannot be read, which is told elsewhere, or it makes names as it goes.
        return
    defined = names.get(name)
    if defined is None:
        near = get_close_matches(name, names, 1)
        public = [one for one in names if not one.startswith("_")]
        cause = f"{wanted.what} {wanted.name}: {shown(path)} has no '{name}'"
        if near:
            cause += f": did you mean '{near[0]}'?"
        elif public:
            cause += f"; it has {_list(public)}"
        yield FUNCTION.at(wanted.place, cause)
        return
    taken = modules.parameters_of(defined)
    if taken and wanted.values and not _fits(taken, wanted.values):
        most = "any number of" if taken.most is None else max(taken.least, taken.most)
        cause = (
            f"{wanted.what} {name} takes {most} values, and is given {wanted.values}"
        )
        given = "(event, context)" if wanted.values == 2 else "(context)"
        fix = f"define it as {name}{given}"
        yield ARGUMENTS.at(Place(shown(path), defined.lineno), cause, fix)


def _fits(taken: modules.Parameters, values: int) -> bool:
    if taken.is_application and values == 2:
        return True
    return taken.least <= values and (taken.most is None or values <= taken.most)


def _list(names: list[str]) -> str:
    text = ", ".join(names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{text} and {more} more" if more > 0 else text


class _Search:
    """Where modules are looked for, in that order."""

    def __init__(self, function: Function, base: Path) -> None:
        self._function = function
        self._base = base
        self._version = function.python or (3, 12)
        self._folders = [base]
        if function.folder:
            self._folders += [function.folder / "python"] if function.told else []
            for entry in environment_of(function).get("PYTHONPATH", "").split(":"):
                local = function.local(entry) if entry and "$" not in entry else None
                self._folders += [local] if local else []

    def find(self, name: str) -> Path | None:
        """Return the file of a module, None where there is none."""
        found = modules.find(name, self._folders)
        # A folder alone has no functions.
        return found if found is None or found.is_file() else None

    def where(self, module: str) -> str:
        """Return the file that a module's name leads to first."""
        return f"{shown(self._base / _dotted(module).replace('.', '/'))}.py"

    def names(self) -> list[str]:
        """Return what could have been meant."""
        files = [*self._base.glob("*.py"), *self._base.glob("*/*.py")]
        names = [
            ".".join(path.relative_to(self._base).with_suffix("").parts)
            for path in files
            if not _VENDORED.intersection(path.relative_to(self._base).parts)
        ]
        return sorted(
            name for name in names if not name.startswith((".", "isoruntime."))
        )

    def imports(self, begun: list[str]) -> Iterator[Finding]:
        """Yield what is wrong with modules, and with all that they import."""
        missing: dict[str, Finding] = {}
        waiting = [*begun]
        files: dict[Path, str] = {}
        while waiting and len(files) < _MOST_MODULES:
            name = waiting.pop(0)
            path = self.find(name)
            if path is None or path in files or not self._is_users(path):
                continue
            files[path] = name
            for one in _imports(path, name):
                waiting += self._parents(one.name)
                if finding := self._problem(one, path):
                    missing.setdefault(one.name.partition(".")[0], finding)
        for fault in syntax.faults([*files], self._version):
            place = Place(shown(fault.path), fault.line)
            cause = f"Python {text_of(self._version)} says: {fault.message}"
            yield SYNTAX.at(place, cause)
        yield from missing.values()

    def _is_users(self, path: Path) -> bool:
        if path.suffix != ".py" or not path.is_relative_to(self._base):
            return False
        inside = path.relative_to(self._base).parts
        return not _VENDORED.intersection(inside) and inside[0] != "isoruntime"

    def _parents(self, name: str) -> list[str]:
        parts = name.split(".")
        return [".".join(parts[:at]) for at in range(1, len(parts) + 1)]

    def _problem(self, one: modules.Import, path: Path) -> Finding | None:
        top = one.name.partition(".")[0]
        if not one.is_module or modules.find(top, self._folders):
            return None
        if modules.has_in_library(top, self._version):
            return None
        place, version = Place(shown(path), one.line), text_of(self._version)
        if modules.was_in_library(top):
            cause = f"'{top}' is no part of Python {version}, which the image has"
            return GONE.at(place, cause)
        if self._may_come_from_elsewhere():
            return None
        cause = f"'{top}' is neither in the folder nor in Python {version}'s library"
        fix = f"vendor it: pip install -t python {top}"
        if self._function.packed:
            fix = "name the package that has it in requirements.txt"
        return IMPORT.at(place, cause, fix)

    def _may_come_from_elsewhere(self) -> bool:
        function = self._function
        if function.packed and function.packed.has_requirements:
            # Packages are called otherwise than the modules in them.
            return True
        return function.has_layers or function.props.get("nasConfig") is not None


def _imports(path: Path, name: str) -> Iterator[modules.Import]:
    tree = syntax.parse(path)
    if tree is not None:
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        yield from modules.imports_of(tree, package)
