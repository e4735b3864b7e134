"""The table, the attacks and the page that shows it say the same."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.sandbox import page
from tests.sandbox.levels import LEVELS
from tests.sandbox.table import ATTACKS, CONVERSATION, PROFILES
from tests.support.server import HANDLERS

ROWS = (*ATTACKS, *CONVERSATION)


def test_the_page_about_threats_is_current() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), (
        "run python -m tests.sandbox.page"
    )


def _attacks_in(path: Path) -> list[str]:
    """Return what a module lists, without running it."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "ATTACKS":
            (made,) = (one for one in ast.walk(node) if isinstance(one, ast.DictComp))
            listed = made.generators[0].iter
            assert isinstance(listed, ast.Tuple)
            return [ast.unparse(one) for one in listed.elts]
    raise AssertionError(f"{path} lists no attacks")


def test_every_attack_has_one_row_and_every_row_its_attack() -> None:
    folder = HANDLERS / "attacks"
    there_are = [name for path in folder.glob("on_*.py") for name in _attacks_in(path)]
    assert sorted(row.name for row in ROWS) == sorted(there_are)


def test_what_is_open_is_open_somewhere_that_exists() -> None:
    cells = {*PROFILES, *(f"{one} {level}" for one in PROFILES for level in LEVELS)}
    for row in ROWS:
        assert set(row.open) <= cells, row.name
