"""`Finding`: one thing that would go wrong on the platform, and `Kind`: what it is a case of.

A kind has a name that never changes, so that scripts and searches can rely on it; every
kind stands in docs/checks.md.
"""

from __future__ import annotations

from isoruntime.typed import Final, NamedTuple

#: It will not work.
ERROR: Final = "error"
#: It may not work, or not as it was meant.
WARNING: Final = "warning"


class Place(NamedTuple):
    """Where something is said."""

    #: as it is shown: relative to the current directory where that is shorter
    path: str
    #: 0: the file as a whole
    line: int = 0
    #: of s.yaml, such as `resources.fn.props.timeout`
    key: str = ""


class Finding(NamedTuple):
    """One thing that would go wrong."""

    kind: Kind
    place: Place
    cause: str
    fix: str


class Kind(NamedTuple):
    """One way in which something goes wrong."""

    name: str
    severity: str
    #: in general, for the documentation
    cause: str
    fix: str
    #: what the platform says then, for those who search for it
    says: str = ""

    def at(self, place: Place, cause: str, fix: str = "") -> Finding:
        """Return a case of this kind: the cause here, and the fix if it is special."""
        return Finding(self, place, cause, fix or self.fix)
