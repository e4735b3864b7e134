"""Finding the user's function by its name, as the built-in runtime does.

A handler is `module.function`, the module with dots or slashes: `index.handler`,
`pkg.mod.handler`, `a/b/main.handler` (fc-contract.md 4.1). Whatever keeps it from
being found is told in the built-in runtime's words (4.5).
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder

from isoruntime.typed import TYPE_CHECKING, Any, Final
from isoruntime.worker.faults import message_of, place_of, type_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

#: Where the platform unpacks layers (fc-contract.md 5.2).
_LAYERS: Final = "/opt/python"
#: Put before the name of a user's module that cannot have its own name, because one
#: of Python's is loaded by it already. No import statement can say it.
_ALIAS: Final = "handler:"
#: So many names are enough to see a misspelling.
_MAX_NAMES_SHOWN: Final = 10


class LoadError(Exception):
    """The handler cannot be had; the fields are what the caller is answered."""

    def __init__(
        self, error_type: str, message: str, stack: list[str], place: str = ""
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.stack = stack
        #: file and line, which the caller is not told: the answer is the platform's
        self.place = place


class _Place:
    # A module imported earlier may have changed both the working directory and
    # `sys.path`, so neither can tell later where the code is.
    code_dir = ""


def prepare_path(code_dir: str, layers: str = _LAYERS) -> None:
    """Put the user's code and then the layers before everything else on `sys.path`."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    _Place.code_dir = os.path.abspath(code_dir)  # noqa: PTH100 - importing pathlib takes longer than all this
    in_layers = (f"{layers}/lib/{version}/site-packages", layers)
    ours = [_Place.code_dir, *filter(os.path.isdir, in_layers)]
    sys.path[:] = [*ours, *(entry for entry in sys.path if entry not in ours)]


def load(handler: str) -> Callable[..., Any]:
    """Import what `handler` names and return it, callable or not.

    A failure leaves nothing behind: the next call runs the user's code again.

    Raises:
        LoadError: there is no such function, or its module does not import.
    """
    module_path, dot, name = handler.rpartition(".")
    if not dot:
        raise LoadError(
            "InvalidHandleName",
            f"Invalid handler '{handler}'",
            [
                "ValueError: not enough values to unpack (expected 2, got 1)",
                *_what_files_there_are(""),
            ],
        )
    loaded_before = set(sys.modules)
    try:
        return _attribute(_import(module_path), module_path, name)
    except BaseException:
        # What failed is gone already; but modules it had imported may hold on to
        # half of it, and would not be read again when the user has mended them.
        _forget(set(sys.modules) - loaded_before)
        raise


def _import(module_path: str) -> ModuleType:
    name = module_path.removeprefix("./").replace("/", ".")
    try:
        if "" in name.split("."):
            raise ModuleNotFoundError(f"No module named {module_path!r}")  # noqa: TRY301 - told like any other
        return _import_users(name)
    except ImportError as error:
        kind, message = "ImportModuleError", f"Unable to import module '{module_path}'"
        stack = [_line_of(error)]
        if _is_about(error, name):
            stack += _what_files_there_are(module_path)
        raise LoadError(kind, message, stack, _where(error)) from error
    except SyntaxError as error:
        kind, message = "UserCodeSyntaxError", f"Syntax error in module '{module_path}'"
        raise LoadError(kind, message, _source_of(error), _where(error)) from error
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise _broken_by(error) from error


def _attribute(module: ModuleType, module_path: str, name: str) -> Callable[..., Any]:
    try:
        function: Callable[..., Any] = getattr(module, name)
    except AttributeError as error:
        stack = [_line_of(error), *_what_there_is(module, name)]
        message = f"Handler '{name}' is missing on module '{module_path}'"
        raise LoadError("HandlerNotFound", message, stack) from error
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        # A module can compute its attributes.
        raise _broken_by(error) from error
    return function


def _broken_by(error: BaseException) -> LoadError:
    message = f"Module initialization error: '{message_of(error)}'"
    return LoadError("UserCodeError", message, [_line_of(error)], _where(error))


def _where(error: BaseException) -> str:
    return place_of(error, _code_dir())


def _line_of(error: BaseException) -> str:
    message = message_of(error)
    return f"{type_of(error)}: {message}" if message else type_of(error)


def _source_of(error: SyntaxError) -> list[str]:
    return [
        f'File "{error.filename or "<unknown>"}"',
        f"line {error.lineno or 0}",
        (error.text or "").strip(),
        f"{type_of(error)}: {error.msg}",
    ]


def _what_there_is(module: ModuleType, wanted: str) -> list[str]:
    """Return a line that helps somebody who misspelt a name, if there is one."""
    names = _public_functions(module)
    return _found("in the module", names, wanted, names)


def _is_about(error: ImportError, name: str) -> bool:
    """Tell whether it is the handler's own module that is missing."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return missing is not None and f"{name}.".startswith(f"{missing}.")


def _what_files_there_are(wanted: str) -> list[str]:
    """Return a line that helps somebody who misspelt a module, if there is one."""
    folder, slash, _ = wanted.removeprefix("./").rpartition("/")
    try:
        files = sorted(os.listdir(f"{_code_dir()}/{folder}"))  # noqa: PTH208 - see above
    except OSError:
        return []
    found = [f"{folder}{slash}{file}" for file in files if file.endswith(".py")]
    modules = [file.removesuffix(".py") for file in found]
    return _found("in the code directory", found, wanted, modules)


def _found(where: str, shown: list[str], wanted: str, names: list[str]) -> list[str]:
    if not names:
        return []
    line = f"Found {where}: {', '.join(shown[:_MAX_NAMES_SHOWN])}"
    if len(shown) > _MAX_NAMES_SHOWN:
        line += f" and {len(shown) - _MAX_NAMES_SHOWN} more"
    try:
        from difflib import get_close_matches
    except ImportError:
        # The user's code may have a file of that name.
        return [line]
    near = get_close_matches(wanted, names, 1)
    return [f"{line}. Did you mean '{near[0]}'?" if near else line]


def _public_functions(module: ModuleType) -> list[str]:
    found = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value)
    }
    own = module.__name__
    # What the module defines itself first, before what it has imported.
    return sorted(found, key=lambda at: getattr(found[at], "__module__", None) != own)


def _import_users(name: str) -> ModuleType:
    """Import the user's module `name`, even where that name leads to another.

    While Python's own `json` is loaded, or a package `test` is installed, an import
    looks at neither `json.py` nor `test/main.py` of the user's. Those are loaded from
    their files then, under a name of their own: everybody else's imports of `json`
    go on meaning Python's.
    """
    top, _, rest = name.partition(".")
    if not rest:
        import_pythons(top)
    users = PathFinder.find_spec(top, [_code_dir()])
    if (
        users is None
        or _is_same(users, _found_by_import(top))
        or not _contains(users, rest)
    ):
        return importlib.import_module(name)
    alias = _ALIAS + top
    module = sys.modules.get(alias) or _load_as(alias, users)
    return importlib.import_module(f"{alias}.{rest}") if rest else module


def import_pythons(name: str) -> None:
    """Import Python's module of that name, if there is one, and not the user's.

    A handler in `random.py` is not what `tempfile` wants to import, later and perhaps
    for that very handler. While this goes on no other thread can import the user's.
    """
    if name not in sys.stdlib_module_names or name in sys.modules:
        return
    path = sys.path.copy()
    sys.path[:] = [entry for entry in path if entry != _code_dir()]
    try:
        importlib.import_module(name)
    except Exception:  # noqa: BLE001, S110 - not every Python has all of it, or what it needs
        pass
    finally:
        sys.path[:] = path


def _found_by_import(top: str) -> ModuleSpec | None:
    if sys.modules.get(top) is not None:
        return getattr(sys.modules[top], "__spec__", None)
    # As `importlib.util.find_spec`, whose import takes a millisecond.
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        found: ModuleSpec | None = find_spec(top, None) if find_spec else None
        if found is not None:
            return found
    return None


def _is_same(users: ModuleSpec, found: ModuleSpec | None) -> bool:
    if found is None or users.origin != found.origin:
        return False
    # A folder without `__init__.py` has no origin, and may be one of several.
    return users.origin is not None or set(_folders(users)) <= set(_folders(found))


def _contains(package: ModuleSpec, rest: str) -> bool:
    if not rest:
        # A folder alone has no functions.
        return package.origin is not None
    paths = [f"{at}/{rest.replace('.', '/')}" for at in _folders(package)]
    return any(os.path.isfile(f"{at}.py") or os.path.isdir(at) for at in paths)  # noqa: PTH112, PTH113 - see above


def _folders(spec: ModuleSpec) -> list[str]:
    return list(spec.submodule_search_locations or ())


def _load_as(name: str, found: ModuleSpec) -> ModuleType:
    from importlib.util import module_from_spec, spec_from_file_location

    if found.origin is None:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = _folders(found)
    else:
        made = spec_from_file_location(
            name,
            found.origin,
            submodule_search_locations=found.submodule_search_locations,
        )
        if made is None:
            raise ModuleNotFoundError(f"No module named {found.name!r}")
        spec = made
    module = module_from_spec(spec)
    sys.modules[name] = module
    if spec.loader is not None:
        spec.loader.exec_module(module)
    return module


def _forget(names: set[str]) -> None:
    """Let the user's modules among `names` be imported anew, but not what they use."""
    inside = _code_dir().rstrip("/") + "/"
    # All are judged before the first one goes: where the parent of a folder without
    # `__init__.py` is gone, the folder cannot be asked any more.
    for name in [name for name in names if _is_users(sys.modules[name], inside)]:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()


def _is_users(module: ModuleType, inside: str) -> bool:
    spec = getattr(module, "__spec__", None)
    if not isinstance(spec, ModuleSpec):
        return False
    try:
        file = spec.origin or next((f"{at}/" for at in _folders(spec)), "")
    except KeyError:
        # Its parent was imported with it and is among what failed.
        return True
    # Installed packages stay: some of them cannot be loaded twice in one process.
    return (
        file.startswith(inside)
        and not file.startswith(f"{inside}python/")
        and "/site-packages/" not in file
        and not file.endswith(".so")
    )


def _code_dir() -> str:
    return _Place.code_dir or os.getcwd()  # noqa: PTH109 - see above
