"""The successor: a zygote with newer code, on trial beside the one that serves."""

from __future__ import annotations

from collections.abc import Callable

from isoruntime.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from isoruntime.errors import InvocationError
    from isoruntime.loop import Loop, Timer
    from isoruntime.wire.order import LoadOrder
    from isoruntime.zygote.client import Zygote

#: Learns why the newer code was not taken into service, or with None that it was.
Verdict = Callable[["InvocationError | None"], object]


class Successor:
    """One attempt: what is tried, since when, and who is told how it ends."""

    __slots__ = (
        "_loop",
        "_timer",
        "began_at",
        "is_on_trial",
        "on_end",
        "order",
        "zygote",
    )

    def __init__(
        self,
        loop: Loop,
        zygote: Zygote,
        order: LoadOrder,
        began_at: float,
        on_end: Verdict,
    ) -> None:
        self._loop = loop
        self._timer: Timer | None = None
        self.zygote = zygote
        self.order = order
        self.began_at = began_at
        self.on_end = on_end
        #: whether it has loaded, as far as it says, and a worker of it is to show it
        self.is_on_trial = False

    def limit(self, timeout_s: float, too_slow: Callable[[], object]) -> None:
        """Have `too_slow` called if the import takes longer than this."""
        self._loop.tickers.add(self)
        self._timer = self._loop.call_later(timeout_s, too_slow)

    def disarm(self) -> None:
        """Have nobody called any more: it has loaded, or is given up."""
        self._loop.tickers.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
