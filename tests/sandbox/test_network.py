"""`--network` says whether handlers reach anything, whatever the profile."""

from __future__ import annotations

import pytest

from tests.sandbox.conftest import Fight
from tests.sandbox.table import ATTACKS, Attack

NETWORK = [attack for attack in ATTACKS if attack.subject == "Network"]
_LEVELS = (
    pytest.param("user"),
    pytest.param("root-with-uids"),
    pytest.param("root", marks=pytest.mark.slow),
    pytest.param("root-in-docker", marks=pytest.mark.slow),
)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Leave it to the arena, which outlives a test and proves as much at its end."""


def by_name(attack: Attack) -> str:
    return attack.name


@pytest.mark.parametrize("level", _LEVELS)
@pytest.mark.parametrize("attack", NETWORK, ids=by_name)
def test_nothing_is_reached_under_standard_where_no_network_was_asked_for(
    fight: Fight, level: str, attack: Attack
) -> None:
    arena = fight(level, "standard", "--network", "none")
    assert arena.attack(attack.name) == []


@pytest.mark.slow
@pytest.mark.parametrize("level", ["root", "user"])
@pytest.mark.parametrize("attack", NETWORK, ids=by_name)
def test_under_strict_the_network_of_the_host_is_given_in_full(
    fight: Fight, level: str, attack: Attack
) -> None:
    arena = fight(level, "strict", "--network", "host")
    assert arena.attack(attack.name)
