"""The user's modules, read and never run: where they are, what they define and import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from isoruntime.typed import Final, NamedTuple

#: Modules of Python's library that came or went, by the version that has changed it.
_ADDED: Final = {(3, 11): {"tomllib"}}
_REMOVED: Final = {
    (3, 12): {"asynchat", "asyncore", "distutils", "imp", "smtpd"},
    (3, 13): {
        *("aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "lib2to3"),
        *("mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes", "sndhdr"),
        *("spwd", "sunau", "telnetlib", "uu", "xdrlib"),
    },
}
_EVER: Final = frozenset(sys.stdlib_module_names).union(
    *_ADDED.values(), *_REMOVED.values()
)


class Import(NamedTuple):
    """An import that is carried out whenever its module is."""

    name: str
    line: int
    #: False: it may be a name within the module, and no module of its own
    is_module: bool = True


class Parameters(NamedTuple):
    """How many values a function takes."""

    least: int
    #: None: any number
    most: int | None
    #: it is a WSGI or ASGI application, as isoruntime tells one: by its arguments
    is_application: bool = False


def has_in_library(name: str, version: tuple[int, int]) -> bool:
    """Tell whether Python's own library has a module in that version."""
    top = name.partition(".")[0]
    if any(top in names and version < since for since, names in _ADDED.items()):
        return False
    if any(top in names and version >= since for since, names in _REMOVED.items()):
        return False
    return top in _EVER


def was_in_library(name: str) -> bool:
    """Tell whether some version of Python has, or had, a module of that name."""
    return name.partition(".")[0] in _EVER


def find(name: str, folders: list[Path]) -> Path | None:
    """Return the file or folder that a dotted name leads to, compiled ones as well."""
    parts = name.split(".")
    for folder in folders:
        at = folder.joinpath(*parts)
        if (at / "__init__.py").is_file():
            return at / "__init__.py"
        if at.with_name(f"{at.name}.py").is_file():
            return at.with_name(f"{at.name}.py")
        compiled = [*at.parent.glob(f"{at.name}.*.so"), at.with_name(f"{at.name}.so")]
        found = next((one for one in compiled if one.is_file()), None)
        if found or at.is_dir():
            return found or at
    return None


def names_in(tree: ast.Module) -> dict[str, ast.stmt] | None:
    """Return what a module defines, None if that cannot be told from its text."""
    names: dict[str, ast.stmt] = {}
    for node in _statements(tree.body):
        for name in _defined(node):
            if name in ("*", "__getattr__"):
                return None
            names[name] = node
    return None if "globals(" in ast.unparse(tree) else names


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that belong to the module itself, however deep."""
    for node in body:
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.stmt):
                yield from _statements([inner])
            elif isinstance(inner, (ast.ExceptHandler, ast.match_case)):
                yield from _statements(inner.body)


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [one.asname or one.name.partition(".")[0] for one in node.names]
    return [
        inner.id
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
    ]


def parameters_of(node: ast.stmt) -> Parameters | None:
    """Return how many values a function takes; None if a decorator may change that."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return None
    if node.decorator_list:
        return None
    taken = node.args
    positional = len(taken.posonlyargs) + len(taken.args)
    least = positional - len(taken.defaults)
    names = [one.arg for one in (*taken.posonlyargs, *taken.args)]
    if _are_of_application(names, is_async=isinstance(node, ast.AsyncFunctionDef)):
        return Parameters(least, positional, is_application=True)
    if any(default is None for default in taken.kw_defaults):
        # A keyword that has to be given never is.
        return Parameters(least, -1)
    return Parameters(least, None if taken.vararg else positional)


def _are_of_application(names: list[str], *, is_async: bool) -> bool:
    if names[-2:] == ["environ", "start_response"]:
        return True
    return names[-3:] == ["scope", "receive", "send"] or (is_async and len(names) >= 3)


def imports_of(tree: ast.Module, package: str) -> Iterator[Import]:
    """Yield what is imported without a condition; `package` is where relative ones begin."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            for one in node.names:
                yield Import(one.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            yield from _from(node, package)


def _from(node: ast.ImportFrom, package: str) -> Iterator[Import]:
    name = node.module or ""
    if node.level:
        parts = package.split(".") if package else []
        above = parts[: len(parts) - node.level + 1]
        if len(parts) < node.level:
            return
        name = ".".join([*above, *([name] if name else [])])
    if name and name != "__future__":
        yield Import(name, node.lineno)
        for one in node.names:
            yield Import(f"{name}.{one.name}", node.lineno, is_module=False)
