"""The life of a worker, as a table.

    BOOTING --ready--> IDLE --lease--> BUSY --release--> IDLE
       |                |               |
       +---- retire ----+               | retire: RETIRING --release--> DOOMED
       |                |               |
       +----- kill -----+------ kill ---+--> DOOMED --exited--> DEAD

`exited` leads to DEAD from everywhere. The drawing is for orientation; the table
is what holds. Actions live with the caller; nothing here touches a process.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

from isoruntime.errors import IllegalTransition
from isoruntime.typed import Final


class WorkerState(enum.Enum):
    """Where a worker is between the order to fork it and its reaping."""

    BOOTING = "booting"  # ordered or forked, has not said READY
    IDLE = "idle"  # ready, nobody holds it
    BUSY = "busy"  # leased, one invocation in flight
    RETIRING = "retiring"  # finishing its last invocation
    DOOMED = "doomed"  # told to go or killed, not reaped yet
    DEAD = "dead"  # reaped; nothing leads out of here

    # By identity, for tables looked into on the way of every invocation: the hash of an
    # Enum is a function in Python.
    __hash__ = object.__hash__


class WorkerEvent(enum.Enum):
    """What can happen to a worker."""

    READY = "ready"
    LEASE = "lease"
    RELEASE = "release"
    RETIRE = "retire"
    KILL = "kill"
    EXITED = "exited"

    __hash__ = object.__hash__  # as above


_S, _E = WorkerState, WorkerEvent

TRANSITIONS: Final[Mapping[tuple[WorkerState, WorkerEvent], WorkerState]] = (
    MappingProxyType(
        {
            (_S.BOOTING, _E.READY): _S.IDLE,
            (_S.BOOTING, _E.RETIRE): _S.DOOMED,
            (_S.BOOTING, _E.KILL): _S.DOOMED,
            (_S.BOOTING, _E.EXITED): _S.DEAD,
            (_S.IDLE, _E.LEASE): _S.BUSY,
            (_S.IDLE, _E.RETIRE): _S.DOOMED,
            (_S.IDLE, _E.KILL): _S.DOOMED,
            (_S.IDLE, _E.EXITED): _S.DEAD,
            (_S.BUSY, _E.RELEASE): _S.IDLE,
            (_S.BUSY, _E.RETIRE): _S.RETIRING,
            (_S.BUSY, _E.KILL): _S.DOOMED,
            (_S.BUSY, _E.EXITED): _S.DEAD,
            (_S.RETIRING, _E.RELEASE): _S.DOOMED,
            (_S.RETIRING, _E.RETIRE): _S.RETIRING,
            (_S.RETIRING, _E.KILL): _S.DOOMED,
            (_S.RETIRING, _E.EXITED): _S.DEAD,
            (_S.DOOMED, _E.READY): _S.DOOMED,
            (_S.DOOMED, _E.RETIRE): _S.DOOMED,
            (_S.DOOMED, _E.KILL): _S.DOOMED,
            (_S.DOOMED, _E.EXITED): _S.DEAD,
        }
    )
)


def next_state(state: WorkerState, event: WorkerEvent) -> WorkerState:
    """Return the state `event` leads to.

    Raises:
        IllegalTransition: the table has no such move; the caller has a bug.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"{event.value} while {state.value}") from None
