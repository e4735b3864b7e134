"""How long to wait before trying again what keeps failing."""

from __future__ import annotations

from isoruntime.typed import Final

#: Seconds before the first, second, … further attempt; the last one repeats.
SCHEDULE_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


class Backoff:
    """The spacing of attempts: it grows with every failure, success resets it."""

    __slots__ = ("_failed_at", "_failures")

    def __init__(self) -> None:
        self._failures = 0
        self._failed_at = 0.0

    @property
    def failures(self) -> int:
        """How many attempts have failed in a row."""
        return self._failures

    def fail(self, now: float) -> float:
        """Note a failure; return the seconds until the next attempt is due."""
        delay_s = SCHEDULE_S[min(self._failures, len(SCHEDULE_S) - 1)]
        self._failures += 1
        self._failed_at = now
        return delay_s

    def succeed(self) -> None:
        """Note that it works."""
        self._failures = 0

    def may_try(self, now: float) -> bool:
        """Return whether somebody who asks may have an attempt out of turn.

        A function that was just repaired should not be down for another half
        minute; one that is called a thousand times a second should not be imported
        as often.
        """
        return now - self._failed_at >= SCHEDULE_S[0]
