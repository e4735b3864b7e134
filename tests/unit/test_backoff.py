"""Back-off: attempts grow apart, success forgets, an asker need not wait for long."""

from __future__ import annotations

import pytest

from isoruntime.pool.backoff import SCHEDULE_S, Backoff


def test_the_spacing_grows_and_then_stays() -> None:
    backoff = Backoff()
    delays = [backoff.fail(now=float(number)) for number in range(8)]
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert backoff.failures == 8


def test_every_delay_is_longer_than_the_one_before() -> None:
    assert list(SCHEDULE_S) == sorted(set(SCHEDULE_S))
    assert SCHEDULE_S[0] > 0


def test_success_forgets_the_failures() -> None:
    backoff = Backoff()
    backoff.fail(0.0)
    backoff.fail(1.0)
    backoff.succeed()
    assert backoff.failures == 0
    assert backoff.fail(2.0) == SCHEDULE_S[0]


@pytest.mark.parametrize(
    ("after_s", "may"), [(0.0, False), (0.99, False), (1.0, True), (60.0, True)]
)
def test_an_asker_gets_an_attempt_a_second_after_the_last_failure(
    after_s: float, may: bool
) -> None:
    backoff = Backoff()
    for _ in range(10):
        backoff.fail(100.0)
    assert backoff.may_try(100.0 + after_s) is may


def test_the_last_failure_counts_and_not_the_first() -> None:
    backoff = Backoff()
    backoff.fail(100.0)
    backoff.fail(105.0)
    assert not backoff.may_try(105.5)
