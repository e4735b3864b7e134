"""What a run found: raw numbers, in a form that can be stored and judged again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.measure.noise import Quiet
from benchmarks.measure.row import Row
from benchmarks.measure.samples import Samples, failed, spread

#: Rounds of the server that others are compared with, further apart than this: no steady
#: machine, whatever it looked like before and after.
MAX_APART: Final = 0.5


#: Stands after a commit that is not quite what was measured.
WITH_CHANGES: Final = " with changes"


class About(NamedTuple):
    """How, where and when the numbers were taken."""

    machine: str
    versions: Mapping[str, str]
    commit: str
    began: str
    rounds: int
    seconds: float
    is_quick: bool

    @property
    def has_changes(self) -> bool:
        """Whether something else was measured than the commit says."""
        return self.commit.endswith(WITH_CHANGES)


class Measured(NamedTuple):
    """One row: its numbers, or why there are none; and the machine around it."""

    samples: Samples
    error: str
    before: Quiet
    after: Quiet
    took_s: float


class Results(NamedTuple):
    """A whole run."""

    about: About
    rows: dict[str, Measured]

    def write(self, path: Path) -> None:
        """Store it."""
        rows = {
            name: {
                **measured._asdict(),
                "before": measured.before._asdict(),
                "after": measured.after._asdict(),
            }
            for name, measured in self.rows.items()
        }
        numbers = {"about": self.about._asdict(), "rows": rows}
        path.write_text(json.dumps(numbers, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Return what was stored."""
        numbers: dict[str, Any] = json.loads(path.read_text())
        rows = {
            name: Measured(
                **{
                    **fields,
                    "before": Quiet(**fields["before"]),
                    "after": Quiet(**fields["after"]),
                }
            )
            for name, fields in numbers["rows"].items()
        }
        return cls(About(**numbers["about"]), rows)


def why_noisy(row: Row, measured: Measured) -> str:
    """Return why a row's numbers compare nothing; empty if they do."""
    if measured.before.is_unusable:
        return f"before it {measured.before}"
    # How steady it was in between, the rounds say better than half a second after them.
    if measured.after.is_disturbed:
        return f"after it {measured.after}"
    case, metric = row.reference
    values = measured.samples.get(case, {}).get(metric)
    if values and spread(values) > MAX_APART:
        return f"rounds of {case} lie {spread(values):.0%} apart ({metric})"
    return ""


def why_failed(measured: Measured) -> str:
    """Return what went wrong in a row; empty if nothing did."""
    if measured.error:
        return measured.error
    calls = [f"{count} of {case}" for case, count in failed(measured.samples).items()]
    return f"calls failed: {', '.join(calls)}" if calls else ""
