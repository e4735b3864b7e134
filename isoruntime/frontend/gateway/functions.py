"""The functions the gateway reaches, by the names their callers use."""

from __future__ import annotations

from isoruntime.frontend.gateway.refusals import Refusal
from isoruntime.typed import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isoruntime.dispatch.dispatcher import Dispatcher

#: What `s local` calls whichever function it has started.
_ANY: Final = "function"
_MOST_NAMED: Final = 20


class Reachable(NamedTuple):
    """One function, as its callers know it."""

    #: empty where every name is this function's
    name: str
    dispatcher: Dispatcher
    #: context headers that are the same for every invocation
    facts: Mapping[str, str]
    max_event_bytes: int
    #: whether it is a server that wants its events as HTTP requests
    only_http: bool = False
    #: how often a failed task is tried again, and how long it may wait for that
    max_retries: int = 3
    max_age_s: float = 24 * 3600.0


class Functions:
    """Finds a function by its name."""

    def __init__(self, reachable: Sequence[Reachable]) -> None:
        self._all = tuple(reachable)
        self._by_name = {each.name: each for each in reachable}
        self._only = self._all[0] if len(self._all) == 1 else None

    def find(self, name: str) -> Reachable:
        """Return the function of this name.

        Raises:
            Refusal: there is none.
        """
        found = self._by_name.get(name)
        if found is None and self._only is not None:
            found = self._only if not self._only.name or name == _ANY else None
        if found is None:
            raise Refusal(
                "FunctionNotFound", f"function '{name}' does not exist. {self.listing}"
            )
        return found

    @property
    def listing(self) -> str:
        """A sentence that names those there are."""
        names = sorted(self._by_name)
        more = (
            f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        )
        return f"Served here: {', '.join(names[:_MOST_NAMED])}{more}"

    @property
    def is_draining(self) -> bool:
        """Whether nothing new is taken any more."""
        return any(each.dispatcher.is_draining for each in self._all)
