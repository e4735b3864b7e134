"""Every attack does its harm where nothing stops it: only then its failure means something."""

from __future__ import annotations

import pytest

from tests.sandbox.conftest import Fight
from tests.sandbox.table import ATTACKS, Attack

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Leave it to the arena, which outlives a test and proves as much at its end."""


@pytest.mark.parametrize(
    ("level", "attack"),
    [
        pytest.param(level, attack, id=f"{level}-{attack.name}")
        for level in ("root", "user")
        for attack in ATTACKS
        if level in attack.works_as
    ],
)
def test_an_attack_does_harm_without_a_sandbox(
    fight: Fight, level: str, attack: Attack
) -> None:
    assert fight(level, "off", *attack.options, base=attack.base).attack(attack.name)
