"""The life of a worker: what the table promises, whatever it says in detail."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoruntime.errors import IllegalTransition
from isoruntime.pool import states
from isoruntime.pool.states import TRANSITIONS, WorkerEvent, WorkerState, next_state

LIVE = [state for state in WorkerState if state is not WorkerState.DEAD]
#: From here no invocation is ever begun again.
ON_ITS_WAY_OUT = {WorkerState.RETIRING, WorkerState.DOOMED, WorkerState.DEAD}


def reachable(start: WorkerState) -> set[WorkerState]:
    """Return the states that lie behind `start`."""
    found: set[WorkerState] = set()
    pending = [start]
    while pending:
        state = pending.pop()
        after = {to for (of, _), to in TRANSITIONS.items() if of is state} - found
        found |= after
        pending += after
    return found


@pytest.mark.parametrize("state", LIVE)
def test_every_live_state_can_die(state: WorkerState) -> None:
    assert next_state(state, WorkerEvent.EXITED) is WorkerState.DEAD


@pytest.mark.parametrize("state", LIVE)
def test_every_live_state_can_be_killed(state: WorkerState) -> None:
    assert next_state(state, WorkerEvent.KILL) is WorkerState.DOOMED


@pytest.mark.parametrize("event", WorkerEvent)
def test_nothing_leads_out_of_death(event: WorkerEvent) -> None:
    with pytest.raises(IllegalTransition, match=f"{event.value} while dead"):
        next_state(WorkerState.DEAD, event)


def test_every_state_is_reached_from_the_first() -> None:
    assert reachable(WorkerState.BOOTING) | {WorkerState.BOOTING} == set(WorkerState)


def test_only_an_exit_is_death() -> None:
    deadly = {event for (_, event), to in TRANSITIONS.items() if to is WorkerState.DEAD}
    assert deadly == {WorkerEvent.EXITED}


def test_only_an_idle_worker_is_leased() -> None:
    leased = {of for of, event in TRANSITIONS if event is WorkerEvent.LEASE}
    assert leased == {WorkerState.IDLE}


@pytest.mark.parametrize("state", sorted(ON_ITS_WAY_OUT, key=str))
def test_what_is_on_its_way_out_never_serves_again(state: WorkerState) -> None:
    assert reachable(state) <= ON_ITS_WAY_OUT


def test_a_doomed_worker_only_dies() -> None:
    assert reachable(WorkerState.DOOMED) == {WorkerState.DOOMED, WorkerState.DEAD}


def test_the_table_can_not_be_changed() -> None:
    with pytest.raises(TypeError):
        TRANSITIONS[WorkerState.DEAD, WorkerEvent.LEASE] = WorkerState.BUSY  # type: ignore[index]


def test_what_the_table_lacks_is_refused_by_name() -> None:
    missing = set(product(WorkerState, WorkerEvent)) - set(TRANSITIONS)
    assert missing
    for state, event in missing:
        with pytest.raises(IllegalTransition) as caught:
            next_state(state, event)
        assert str(caught.value) == f"{event.value} while {state.value}"


@given(st.lists(st.sampled_from(list(WorkerEvent)), max_size=30))
def test_no_history_lends_a_worker_twice_or_after_its_end(
    history: list[WorkerEvent],
) -> None:
    state, is_lent, is_ending = WorkerState.BOOTING, False, False
    for event in history:
        try:
            state = next_state(state, event)
        except IllegalTransition:
            continue
        if event is WorkerEvent.LEASE:
            assert not is_lent
            assert not is_ending
            is_lent = True
        elif event is WorkerEvent.RELEASE:
            assert is_lent
            is_lent = False
        elif event is not WorkerEvent.READY:
            is_ending = True
    if state is WorkerState.IDLE:
        assert not is_lent
        assert not is_ending


# The drawing claims: these arrows, and that all of them exist.
ARROWS = [
    ("BOOTING", "ready", "IDLE"),
    ("IDLE", "lease", "BUSY"),
    ("BUSY", "release", "IDLE"),
    ("BUSY", "retire", "RETIRING"),
    ("RETIRING", "release", "DOOMED"),
    ("BOOTING", "retire", "DOOMED"),
    ("IDLE", "retire", "DOOMED"),
    ("BOOTING", "kill", "DOOMED"),
    ("IDLE", "kill", "DOOMED"),
    ("BUSY", "kill", "DOOMED"),
    ("DOOMED", "exited", "DEAD"),
]


@pytest.mark.parametrize(("of", "event", "to"), ARROWS, ids=str)
def test_the_drawing_agrees_with_the_table(of: str, event: str, to: str) -> None:
    assert TRANSITIONS[WorkerState[of], WorkerEvent(event)] is WorkerState[to]


def test_the_drawing_names_what_exists_and_its_first_line_holds() -> None:
    assert states.__doc__ is not None
    drawing = states.__doc__.split("`exited` leads")[0]
    assert set(re.findall(r"\b[A-Z]{4,}\b", drawing)) == set(WorkerState.__members__)
    assert set(re.findall(r"-\s*([a-z]+)\s*-|retire(?=:)", drawing)) - {""} == {
        event.value for event in WorkerEvent
    }
    first = next(line for line in drawing.split("\n") if "BOOTING" in line)
    words = re.findall(r"[A-Za-z]+", first)
    for of, event, to in zip(words[0::2], words[1::2], words[2::2], strict=False):
        assert TRANSITIONS[WorkerState[of], WorkerEvent(event)] is WorkerState[to]
