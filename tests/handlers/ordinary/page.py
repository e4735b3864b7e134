"""Writes docs/compatibility.md from the actions.

python -m tests.handlers.ordinary.page
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from .index import ACTIONS, GROUPS
from .registry import Action, Refused, Worker

PAGE = Path(__file__).parents[3] / "docs" / "compatibility.md"

_INTRODUCTION = """\
# What functions can do inside the walls

<!-- Made by `python -m tests.handlers.ordinary.page`; a test compares. -->

Each row is something ordinary functions do. All of them work under `--sandbox off`; the
columns say how they fare under the two other profiles. `tests/sandbox` runs
every one of them under every profile, as root, as root with a user per worker, and as
an ordinary user, and fails where this page is wrong.

- **works**: as it does without a sandbox
- **refused**: the handler gets the error named; the last column says why, and what to do instead

Children of a handler are inside the same walls as the handler itself. Further paths are
opened with `--allow-read PATH` and `--allow-write PATH`.
"""


def page() -> str:
    """Return the whole page."""
    titles = {
        module.__name__.rpartition(".")[2]: (module.__doc__ or "").split("\n")[0]
        for module in GROUPS
    }
    parts = [_INTRODUCTION]
    for group, actions in groupby(ACTIONS.values(), lambda one: one.group):
        parts.append(_section(titles[group].rstrip("."), list(actions)))
    return "\n".join(parts)


def _section(title: str, actions: list[Action]) -> str:
    rows = [
        f"## {title}",
        "",
        "| action | standard | strict | remarks |",
        "|---|---|---|---|",
    ]
    rows += map(_row, actions)
    return "\n".join(rows) + "\n"


def _row(action: Action) -> str:
    cells = [action.name, _verdict(action.standard), _verdict(action.strict)]
    refused = action.standard or action.strict
    remark = action.remark
    if refused is not None:
        remark = f"{refused.why}. Instead: {refused.instead}"
    return f"| {' | '.join([*cells, remark])} |"


def _verdict(refused: Refused | None) -> str:
    if refused is None:
        return "works"
    if refused.worker is Worker.ANY:
        return f"refused: `{refused.error}`"
    return f"refused {refused.worker.value}: `{refused.error}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
