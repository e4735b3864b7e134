"""No attack of the table does harm, at any privilege level, but where it says so."""

from __future__ import annotations

import pytest

from tests.sandbox.conftest import Fight
from tests.sandbox.levels import LEVELS
from tests.sandbox.table import ATTACKS, PROFILES, SAID_AT_START, Attack
from tests.waiting import wait_until

#: One user for all, root with a user for its workers, and the most there is.
_ALWAYS = {("standard", "user"), ("standard", "root-with-uids"), ("strict", "root")}


def _arena_of(attack: Attack) -> tuple[str, ...]:
    return (str(attack.base), *attack.options)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Leave it to the arena, which outlives a test and proves as much at its end."""


@pytest.mark.parametrize(
    ("level", "profile", "attack"),
    [
        pytest.param(
            level,
            profile,
            attack,
            id=f"{profile}-{level}-{attack.name}",
            marks=() if (profile, level) in _ALWAYS else pytest.mark.slow,
        )
        for profile in PROFILES
        for level in LEVELS
        if profile == "standard" or LEVELS[level].has_strict
        # Those of one arena together.
        for attack in sorted(ATTACKS, key=_arena_of)
    ],
)
def test_an_attack_does_no_harm(
    fight: Fight, level: str, profile: str, attack: Attack
) -> None:
    arena = fight(level, profile, *attack.options, base=attack.base)
    if attack.why_open(profile, level) is None:
        assert arena.attack(attack.name) == []
        return
    mechanism = SAID_AT_START.get(attack.name)
    if mechanism is not None:
        said, wanted = arena.server.stderr, f"{mechanism} (".encode()
        wait_until(lambda: wanted in said.read(), 5, f"a word about {mechanism}")
    assert arena.attack(attack.name), "it is stopped now: say so in the table"
