"""What of the sandbox is in force: learnt from the zygote and from each worker.

A worker's word is input like any other: code of the user's may have run before it
spoke. It can only make things look worse than they are, or say nothing.
"""

from __future__ import annotations

import json

from isoruntime.typed import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_REASON: Final = 200
_MAX_MECHANISMS: Final = 32


class Isolation:
    """The mechanisms that had to be skipped on this host, with the reason of each."""

    def __init__(self) -> None:
        self.skipped: dict[str, str] = {}
        #: called with what was not known before
        self.on_news: Callable[[dict[str, str]], object] | None = None

    def learn(self, skipped: dict[Any, Any]) -> None:
        """Take note of mechanisms that were skipped somewhere."""
        news = {
            str(name)[:_MAX_REASON]: str(reason)[:_MAX_REASON]
            for name, reason in list(skipped.items())[:_MAX_MECHANISMS]
            if name not in self.skipped
        }
        if not news or len(self.skipped) >= _MAX_MECHANISMS:
            return
        self.skipped.update(news)
        if self.on_news is not None:
            self.on_news(news)

    def learn_from_worker(self, said: bytes) -> None:
        """Take note of what a worker says as it becomes ready."""
        try:
            skipped = json.loads(said)
        except (ValueError, RecursionError):
            return
        if isinstance(skipped, dict):
            self.learn(skipped)
