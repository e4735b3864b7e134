"""The names of capabilities and which of them a zygote keeps."""

from __future__ import annotations

import os
from pathlib import Path

from isoruntime.sandbox import capabilities


def effective_of_this_process() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("CapEff:")[2].split()[0], 16)


def test_what_is_held_is_what_the_kernel_says() -> None:
    mask = sum(1 << capabilities.names.index(name) for name in capabilities.held())
    assert mask == effective_of_this_process()


def test_the_kernels_numbers_stand_behind_the_names() -> None:
    # From linux/capability.h: a few spread over the table fix all between them.
    for name, number in (
        ("CHOWN", 0),
        ("KILL", 5),
        ("SETPCAP", 8),
        ("SYS_PTRACE", 19),
        ("SYS_ADMIN", 21),
        ("MKNOD", 27),
        ("SYSLOG", 34),
        ("CHECKPOINT_RESTORE", 40),
    ):
        assert capabilities.names[number] == name
    assert len(set(capabilities.names)) == len(capabilities.names) == 41


def test_a_zygote_keeps_nothing_that_changes_the_host() -> None:
    assert set(capabilities.names) >= capabilities.ZYGOTE
    assert not capabilities.ZYGOTE & {"SYS_ADMIN", "SYS_MODULE", "MKNOD", "SETFCAP"}


def test_looking_changes_nothing() -> None:
    before = capabilities.held()
    assert capabilities.held() == before
    assert os.geteuid() == 0 or before == frozenset()
