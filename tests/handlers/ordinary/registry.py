"""What actions there are, and what is expected of each inside the walls.

The same entries drive the tests and write docs/compatibility.md. An action is a
function without arguments that raises if something did not work.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Worker(enum.Enum):
    """Of which workers something is said; the values are the page's words."""

    ANY = ""
    #: as with a user per worker, which no file lists
    NAMELESS = "where the worker's user has no name in `/etc/passwd`"


class Refused(NamedTuple):
    """What an action meets where the walls forbid it."""

    #: the `errorType` a handler's caller sees
    error: str
    why: str
    instead: str
    worker: Worker = Worker.ANY


@dataclass(frozen=True)
class Action:
    """Something a function does, and how it fares under each profile."""

    name: str
    #: the module it is in, which has the heading
    group: str
    perform: Callable[[], object]
    #: What it cannot be tried without: a program; "/path"; "module NAME"; "$ COMMAND"
    #: that works outside the walls; "IPv6"; with the walls down "own files" and "user
    #: name".
    needs: tuple[str, ...]
    #: None: it works
    standard: Refused | None
    strict: Refused | None
    #: what has to be said of an action that works
    remark: str


#: The actions by name, in the order they are declared in.
ACTIONS: dict[str, Action] = {}


def action(
    name: str,
    *needs: str,
    refused: Refused | None = None,
    strict: Refused | None = None,
    remark: str = "",
) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Declare an action; `strict` tells where that profile differs from `refused`."""

    def declare(perform: Callable[[], object]) -> Callable[[], object]:
        assert name not in ACTIONS, f"two actions are called {name}"
        group = perform.__module__.rpartition(".")[2]
        ACTIONS[name] = Action(
            name, group, perform, needs, refused, strict or refused, remark
        )
        return perform

    return declare
