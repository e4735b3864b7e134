"""House rules that no linter sees: each is a sentence of CONTRIBUTING.md, kept here."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "isoruntime"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TEXTS = sorted(
    path
    for path in chain(
        MODULES,
        TESTS,
        *(
            (ROOT / folder).rglob("*")
            for folder in (".ci", "docs", "examples", "tools")
        ),
        ROOT.glob("*.md"),
        ROOT.glob("*.toml"),
        [ROOT / "bootstrap", ROOT / "tests" / "run"],
    )
    if path.is_file() and path.suffix != ".pyc"
)

#: A call below which the process is another one, or no longer Python's alone.
DANGEROUS = {"os.fork", "os.forkpty", "os.posix_spawn", "os._exit"}
#: How far above such a call its reason may stand, in lines.
REASON_WITHIN = 8
#: Folders that belong to one machine. Where a line has to name one, the line says so.
MACHINE_PATH = re.compile(r"(?<![\w.~/$}-])/(?:root|home/\w+|work)/\w")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and text of every comment."""
    with path.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def dangerous_calls(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and name of every call that needs a reason."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in DANGEROUS:
            yield node.lineno, ast.unparse(node.func)


def test_the_rules_look_at_something() -> None:
    assert len(MODULES) > 10
    assert len(TESTS) > 5
    assert any(True for path in MODULES for _ in dangerous_calls(path))


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_a_text_has_lf_endings_and_names_no_machines_folder(path: Path) -> None:
    text = path.read_bytes()
    assert b"\r\n" not in text
    if path != Path(__file__).resolve():
        assert MACHINE_PATH.findall(text.decode(errors="replace")) == []


def test_every_folder_of_the_package_is_a_package() -> None:
    # Without it a folder is left out of wheels, and of every import contract.
    folders = {path.parent for path in MODULES}
    assert [
        name_of(folder) for folder in folders if not (folder / "__init__.py").exists()
    ] == []


def test_no_module_is_named_after_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "base", "misc"}
    assert [name_of(path) for path in MODULES if path.stem in vague] == []


def test_no_class_is_named_after_a_pattern() -> None:
    vague = re.compile(r"(Manager|Helper|Utils?|Factory|Singleton|Impl)$")
    named = [
        f"{name_of(path)}: {node.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and vague.search(node.name)
    ]
    assert named == []


def test_no_comment_is_a_banner_or_a_promise() -> None:
    empty = re.compile(r"#\s*([-=*#~]{4,}|TODO|FIXME|XXX)")
    found = [
        f"{name_of(path)}:{line}"
        for path in (*MODULES, *TESTS)
        for line, text in comments(path)
        if empty.match(text)
    ]
    assert found == []


def test_a_silenced_linter_is_told_which_rule() -> None:
    bare = re.compile(r"#.*(noqa(?!: [A-Z]+\d)|type: ignore(?!\[))")
    found = [
        f"{name_of(path)}:{line}"
        for path in (*MODULES, *TESTS)
        for line, text in comments(path)
        if bare.match(text) and path != Path(__file__).resolve()
    ]
    assert found == []


@pytest.mark.parametrize(
    "path", [path for path in MODULES if any(dangerous_calls(path))], ids=name_of
)
def test_a_reason_stands_before_a_fork_or_an_exit(path: Path) -> None:
    reasons = {line for line, _ in comments(path)}
    for function in functions(ast.parse(path.read_text())):
        # A function's docstring may give the reason for what all of it is about.
        if documented := ast.get_docstring(function):
            reasons.update(
                range(
                    function.lineno, function.lineno + len(documented.split("\n")) + 1
                )
            )
    unexplained = [
        f"line {line}: {call}"
        for line, call in dangerous_calls(path)
        if not reasons.intersection(range(line - REASON_WITHIN, line + 1))
    ]
    assert unexplained == []


def test_ctypes_is_used_in_one_module_alone() -> None:
    users = [
        name_of(path)
        for path in MODULES
        if re.search(r"^\s*(import|from) ctypes", path.read_text(), re.MULTILINE)
    ]
    assert set(users) <= {"isoruntime/sandbox/_libc.py"}


def test_tests_wait_for_a_condition_and_never_for_a_guess() -> None:
    # Handlers under test may sleep: they are what is waited for.
    sleeping = [
        name_of(path)
        for path in TESTS
        if "handlers" not in path.parts and path.name != "waiting.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"time.sleep", "sleep"}
    ]
    assert sleeping == []


def test_no_part_of_ours_is_mocked() -> None:
    mocking = [
        name_of(path)
        for path in TESTS
        if re.search(
            r"^\s*(from|import) (unittest\.)?mock\b|^\s*from unittest import mock",
            path.read_text(),
            re.MULTILINE,
        )
    ]
    assert mocking == []


def test_a_tests_name_is_a_sentence() -> None:
    short = [
        f"{name_of(path)}: {function.name}"
        for path in TESTS
        for function in functions(ast.parse(path.read_text()))
        if function.name.startswith("test_") and function.name.count("_") < 3
    ]
    assert short == []
