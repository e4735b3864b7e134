"""Which functions a gateway serves: those of an s.yaml, else the one it was told of.

The manifest lies in the code directory. What it says of a function is what the platform
would do with it; what the operator says by flags or variables holds for all of them, and
before it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from isoruntime.cli.options import parse as parse_options
from isoruntime.environment import OWN_PREFIX, is_never_passed
from isoruntime.errors import CannotRead, InvalidSettings
from isoruntime.function import Described
from isoruntime.settings import DECLARED, read_settings
from isoruntime.settings.parse import dotted_name
from isoruntime.typed import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from isoruntime.project.function import Function
    from isoruntime.project.manifest import Manifest, Node
    from isoruntime.settings import Settings

#: What is run: of several functions each has its own.
_KINDS: Final = ("handler", "command", "upstream", "http")
#: What a manifest says of a function, and the setting it is for.
_NUMBERS: Final = {
    "timeout": "timeout_s",
    "memorySize": "memory_mb",
    "instanceConcurrency": "max_workers",
    "instanceLifecycleConfig.initializer.timeout": "init_timeout_s",
}
_NAMES: Final = {
    "handler": "handler",
    "instanceLifecycleConfig.initializer.handler": "initializer",
    "instanceLifecycleConfig.preStop.handler": "pre_stop",
}
#: About the runtime as a whole, so that no function decides it.
_OF_THE_RUNTIME: Final = frozenset(
    {each.name for each in DECLARED if each.group == "server"}
    | {"log_format", "log_level", "code_dir"}
)


class Told(NamedTuple):
    """What the operator said."""

    settings: Settings
    flags: Mapping[str, object]
    environ: Mapping[str, str]


def functions_of(
    settings: Settings,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    is_told: bool = False,
) -> Sequence[Described]:
    """Return the functions to serve, and tell which of a manifest are not.

    `is_told`: the latter is known already.

    Raises:
        InvalidSettings: lists everything that keeps one of them from being served.
    """
    told = Told(settings, flags, environ)
    path = _manifest_in(Path(settings.code_dir))
    if path is None:
        return [_only(told)]
    from isoruntime.project import manifest

    try:
        found = manifest.read(path, manifest.shown(path))
    except CannotRead as error:
        raise InvalidSettings([str(error)]) from error
    if not found.root.entries:
        raise InvalidSettings(
            [f"{found.shown}:{one.place.line}: {one.cause}" for one in found.findings]
            or [f"{found.shown} is empty: write it, or remove it"]
        )
    return _described(told, found, is_told)


def _manifest_in(folder: Path) -> Path | None:
    # Only the names are needed, and the reader of what is in them is not small.
    names = ("s.yaml", "s.yml", "s.json")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _only(told: Told) -> Described:
    environ = told.environ
    return Described(
        told.settings,
        environ.get("FC_FUNCTION_NAME", ""),
        region=environ.get("FC_REGION", ""),
        account_id=environ.get("FC_ACCOUNT_ID", ""),
    )


def _described(told: Told, found: Manifest, is_told: bool) -> list[Described]:
    functions = list(_servable(found, is_told))
    problems = [*_strangers(told, found, functions)]
    described: dict[str, Described] = {}
    for function in functions:
        name = function.props.text("functionName") or function.name
        if name in described:
            problems.append(f"{found.shown} has two functions named {name}: rename one")
        try:
            described[name] = _describe(told, function, name)
        except InvalidSettings as error:
            problems += [f"{name} in {found.shown}: {one}" for one in error.problems]
    if problems:
        raise InvalidSettings(list(dict.fromkeys(problems)))
    return list(described.values())


def _strangers(
    told: Told, found: Manifest, functions: Sequence[Function]
) -> Iterator[str]:
    if not functions:
        yield (
            f"{found.shown} has no function that can be served: give one with component "
            "fc3 and a runtime custom.debian12 or python3.12, or remove the file"
        )
    for kind in _KINDS:
        if len(functions) > 1 and told.settings.is_chosen(kind):
            yield (
                f"{told.settings.source(kind)} is for one function, and {found.shown} "
                f"has {len(functions)}: leave it out"
            )


def _servable(found: Manifest, is_told: bool) -> Iterator[Function]:
    from isoruntime.project.function import Function

    for resource in found.resources():
        runtime = resource.props.text("runtime")
        code = resource.props.text("code")
        function = Function(
            found.path.parent / code,
            parse_options,
            runtime=runtime,
            manifest=found,
            resource=resource,
        )
        if resource.is_function and function.image is not None:
            yield function
            continue
        if is_told:
            continue
        what = f"its runtime is {runtime}" if runtime else "it is no function"
        print(
            f"isoruntime: {resource.name} in {found.shown} is not served: {what}",
            file=sys.stderr,
        )


def _describe(told: Told, function: Function, name: str) -> Described:
    own_flags, own_variables = _of_its_start(function)
    if "fresh" in own_flags and "max_invocations" in told.flags:
        del own_flags["fresh"]
    # A kind that the operator chose stands in place of all of the function's own.
    if any(told.settings.is_chosen(kind) for kind in _KINDS):
        own_flags = {key: own_flags[key] for key in own_flags if key not in _KINDS}
        own_variables = {
            key: own_variables[key]
            for key in own_variables
            if key.removeprefix(OWN_PREFIX).lower() not in _KINDS
        }
    settings = read_settings(
        {**own_flags, **told.flags, "code_dir": str(function.folder)},
        {**own_variables, **told.environ},
        dict(_declared(function.props)),
    )
    props = function.props
    region = props.text("region") or told.environ.get("FC_REGION", "")
    account_id = told.environ.get("FC_ACCOUNT_ID", "")
    variables = _of_the_platform(settings, name, region, account_id)
    variables.update(_variables(function))
    return Described(
        settings,
        name,
        {key: text for key, text in variables.items() if not is_never_passed(key)},
        region,
        account_id,
        _whole(props, "asyncInvokeConfig.maxAsyncRetryAttempts", 3),
        _whole(props, "asyncInvokeConfig.maxAsyncEventAgeInSeconds", 24 * 3600),
    )


def _of_the_platform(
    settings: Settings, name: str, region: str, account_id: str
) -> dict[str, str]:
    """Return the variables by which the platform tells a function who it is."""
    variables = {
        "FC_FUNCTION_NAME": name,
        "FC_FUNCTION_HANDLER": settings.handler,
        "FC_FUNCTION_MEMORY_SIZE": str(settings.memory_mb or ""),
        "FC_FUNC_CODE_PATH": settings.code_dir,
        "FC_REGION": region,
        "FC_ACCOUNT_ID": account_id,
    }
    return {key: text for key, text in variables.items() if text}


def _of_its_start(function: Function) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the flags and variables by which its own start command sets us up.

    Raises:
        InvalidSettings: it gives us options that there are not.
    """
    variables = {key: text for key, text in _variables(function) if _is_ours(key)}
    if not function.is_custom:
        return {}, variables
    if not function.start.is_ours:
        words = [_here(function, word) for word in function.start.words]
        return {"upstream": words}, variables
    for _, key, value in function.start_assignments():
        if _is_ours(key):
            variables[key] = value
    flags, refused = parse_options(function.words_for_serve)
    if refused:
        raise InvalidSettings(refused)
    unwanted = _OF_THE_RUNTIME | {"help", "version"}
    return {key: flags[key] for key in flags if key not in unwanted}, variables


def _is_ours(variable: str) -> bool:
    """Tell whether a variable is ours, and a function's to set."""
    name = variable.removeprefix(OWN_PREFIX)
    of_the_runtime = {
        each.variable for each in DECLARED if each.name in _OF_THE_RUNTIME
    }
    return name != variable and variable not in of_the_runtime


def _here(function: Function, word: str) -> str:
    """Return a word of a start command with the path that a file has on this machine."""
    if not word.startswith("/"):
        return word
    path = function.local(word)
    return str(path) if path is not None else word


def _variables(function: Function) -> Iterator[tuple[str, str]]:
    for key, node in function.variables.items():
        if node.value is not None and not node.is_open:
            yield key, _text(node.value)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _declared(props: Node) -> Iterator[tuple[str, str]]:
    """Yield the settings that a manifest has for a function, as text."""
    for path, name in _NUMBERS.items():
        number = props.number(path)
        if number is not None:
            yield name, f"{number:g}" if name.endswith("_s") else str(int(number))
    for path, name in _NAMES.items():
        text = props.text(path)
        try:
            # For a custom runtime the platform takes any words here.
            yield name, dotted_name(text)
        except ValueError:
            continue


def _whole(props: Node, path: str, default: int) -> int:
    number = props.number(path)
    return default if number is None else int(number)
