"""Code at module level is no more trusted than the handler: it runs inside the walls too.

Under standard that is the zygote, whose parent is the front end; under strict a worker.
"""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from tests.sandbox.arena import Arena, state_of, tree_of
from tests.sandbox.levels import LEVELS, missing
from tests.waiting import wait_until

_SLOW = ("root-in-docker", "root-in-kubernetes", "user-in-docker", "user-in-kubernetes")


@pytest.fixture(
    params=[
        pytest.param(
            (profile, level),
            id=f"{profile}-{level}",
            marks=pytest.mark.slow if level in _SLOW else (),
        )
        for profile in ("standard", "strict")
        for level in LEVELS
        if profile == "standard" or LEVELS[level].has_strict
    ]
)
def arena(request: pytest.FixtureRequest) -> Iterator[Arena]:
    """Return an arena whose function attacks while it is imported."""
    profile, name = request.param
    reason = missing(LEVELS[name])
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    made = Arena(LEVELS[name], profile, handler="at_import.handler")
    yield made
    made.close()


def test_an_import_does_no_harm(arena: Arena) -> None:
    before = tree_of(arena.victim)
    front = arena.server.front_end
    reply = arena.invoke({})
    assert reply.status == 200, reply.body
    said = reply.json()
    assert said["canaries"] == []
    assert said["worked"] == []
    state = state_of(front)
    assert state["alive"]
    assert not state["stopped"]
    assert not state["traced"]
    assert tree_of(arena.victim) == before


@pytest.mark.slow
@pytest.mark.parametrize("level", ["root", "user"])
def test_the_same_import_kills_a_runtime_without_a_sandbox(level: str) -> None:
    reason = missing(LEVELS[level])
    if reason is not None:
        pytest.skip(f"{level}: {reason}")
    arena = Arena(LEVELS[level], "off", handler="at_import.handler")
    try:
        before = tree_of(arena.victim)
        wait_until(lambda: not _has_front_end(arena), 10, "the death of the front end")
        assert tree_of(arena.victim) != before
    finally:
        arena.renew()
        arena.close()


def _has_front_end(arena: Arena) -> bool:
    try:
        return bool(state_of(arena.server.front_end)["alive"])
    except (psutil.Error, AssertionError):
        # Gone, or gone before it listened.
        return False
