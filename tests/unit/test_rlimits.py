"""Which limits there are, and that memory is not among them."""

from __future__ import annotations

import resource

from isoruntime.sandbox import rlimits
from isoruntime.zygote import held_pages


def test_memory_is_left_to_the_watchdog() -> None:
    limited = {which for which, _ in rlimits._BY_NAME.values()}
    assert not limited & {
        resource.RLIMIT_AS,
        resource.RLIMIT_DATA,
        resource.RLIMIT_STACK,
        resource.RLIMIT_CPU,
    }


def test_strict_is_never_wider() -> None:
    assert rlimits._OPEN_FILES_STRICT <= rlimits._OPEN_FILES
    assert rlimits._FILE_BYTES_STRICT <= rlimits._FILE_BYTES


def test_there_is_room_for_all_that_is_held() -> None:
    assert held_pages.MOST_BYTES <= rlimits._HELD_BYTES
