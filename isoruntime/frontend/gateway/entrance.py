"""The entrance of a runtime that also answers the API: who is to answer a request."""

from __future__ import annotations

from isoruntime.frontend.gateway.functions import Functions
from isoruntime.frontend.gateway.gateway import Gateway
from isoruntime.frontend.gateway.paths import FC3
from isoruntime.frontend.gateway.tasks import Tasks
from isoruntime.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isoruntime.contract.answer import Details
    from isoruntime.frontend.gateway.functions import Reachable
    from isoruntime.frontend.http import Exchange
    from isoruntime.frontend.routes import Routes
    from isoruntime.loop import Loop

#: What is the runtime's own, however many functions there are.
_OF_ALL = frozenset({"/health", "/live"})


class Entrance:
    """The gateway, and beside it the routes of the only function there may be."""

    def __init__(
        self,
        reachable: Sequence[Reachable],
        first: Routes,
        loop: Loop,
        key: tuple[str, str] | None,
        details: Details,
    ) -> None:
        self.functions = Functions(reachable)
        self.tasks = Tasks(loop, details)
        self._first = first
        self._is_only = len(reachable) == 1
        verifier = None
        if key is not None:
            # Only here: without a key nothing is signed.
            from isoruntime.frontend.gateway.signatures import Verifier

            verifier = Verifier(key)
        self._gateway = Gateway(
            self.functions, self.tasks, details=details, verifier=verifier
        )

    def route(self, exchange: Exchange) -> None:
        """Hand a request to whoever answers it."""
        request = exchange.request
        if self._gateway.takes(exchange):
            self._gateway.route(exchange)
        elif self._is_only or request.error is not None or request.path in _OF_ALL:
            self._first.route(exchange)
        else:
            self._first.answer_not_found(
                exchange,
                "Several functions are served here, each at "
                f"/{FC3}/functions/NAME/invocations. {self.functions.listing}",
            )
