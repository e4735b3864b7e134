"""Arenas live from one attack to the next, and end when no attack follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.arena import Arena, arena_for, close_all
from tests.sandbox.levels import BASE, LEVELS, missing, remove_installation
from tests.sandbox.table import PROFILES
from tests.support.host import has_strict

Fight = Callable[..., Arena]


@pytest.fixture
def fight() -> Fight:
    """Return the arena of a level and profile: `fight("user", "standard")`."""

    def start(level: str, profile: str, *options: str, base: Path = BASE) -> Arena:
        reason = missing(LEVELS[level])
        if reason is not None:
            pytest.skip(f"{level}: {reason}")
        return arena_for(LEVELS[level], profile, *options, base=base)

    return start


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: Any, nextitem: Any) -> None:
    """End the arenas before a test of something else begins."""
    if nextitem is None or "fight" not in nextitem.fixturenames:
        close_all()


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest) -> str:
    """Return each profile that this host has."""
    if request.param == "strict" and not has_strict():
        pytest.skip("doctor says that strict is not to be had here")
    return str(request.param)


def pytest_sessionfinish() -> None:
    """Remove what the privilege levels have installed for everybody to read."""
    remove_installation()
