"""Capabilities are gone for good, and for programs started later as well."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from isoruntime.sandbox import _libc, capabilities, identity
from tests.sandbox.children import a_child, error_of, in_child

needs_some = pytest.mark.skipif(
    not capabilities.held() >= capabilities.ZYGOTE,
    reason="this user has none of the capabilities that are given up",
)


def sets_of_a_program() -> dict[str, int]:
    """Return the capability sets that a program we start has, by the kernel's names."""
    status = subprocess.run(
        ["cat", "/proc/self/status"], capture_output=True, text=True, check=True
    ).stdout
    lines = (line.split(":") for line in status.splitlines() if line[:3] == "Cap")
    return {name: int(value, 16) for name, value in lines}


def test_one_who_gives_up_all_has_none_left() -> None:
    def give_up() -> list[object]:
        capabilities.drop_all()
        # Again, as a worker does after its zygote.
        capabilities.drop_all()
        return [sorted(capabilities.held()), error_of(os.chroot, "/")]

    assert in_child(give_up) == [[], errno.EPERM]


@needs_some
def test_the_call_made_ready_beforehand_gives_up_as_much() -> None:
    def give_up() -> list[object]:
        # Who could still narrow the bounds has more to do than one call.
        unready = capabilities.ready_to_drop_all()
        capabilities.keep(capabilities.ZYGOTE)
        drop_all = capabilities.ready_to_drop_all()
        assert drop_all is not None
        return [unready is None, drop_all(), sorted(capabilities.held())]

    could_narrow = "SETPCAP" in capabilities.held()
    assert in_child(give_up) == [could_narrow, 0, []]


@needs_some
def test_a_program_started_later_gets_nothing_back() -> None:
    if "SETPCAP" not in capabilities.held():
        pytest.skip("CAP_SETPCAP is missing: only no_new_privs holds")

    def give_up() -> dict[str, int]:
        capabilities.drop_all()
        return sets_of_a_program()

    assert set(in_child(give_up).values()) == {0}


@needs_some
def test_without_the_right_to_narrow_the_bounds_no_new_privileges_hold() -> None:
    setpcap = frozenset({"SETPCAP"})

    def give_up() -> dict[str, int]:
        _, permitted, _ = _libc.capabilities()
        rest = permitted & ~(1 << capabilities.names.index("SETPCAP"))
        _libc.set_capabilities(rest, rest, 0)
        assert not setpcap & capabilities.held()
        _libc.set_no_new_privileges()
        capabilities.drop_all()
        return sets_of_a_program()

    sets = in_child(give_up)
    assert sets["CapBnd"] != 0
    assert sets["CapEff"] == sets["CapPrm"] == sets["CapInh"] == 0


@needs_some
def test_what_a_zygote_keeps_is_enough_for_its_work(tmp_path: Path) -> None:
    def work() -> list[object]:
        capabilities.keep(capabilities.ZYGOTE)
        held = capabilities.held()
        (tmp_path / "own").mkdir(mode=0o700)
        os.chown(tmp_path / "own", 31000, 31000)
        (tmp_path / "own" / "file").write_text("x")
        # Its end kills the worker, which takes CAP_KILL by then.
        with a_child(lambda: identity.take(31000)):
            pass
        return [
            held == capabilities.ZYGOTE,
            error_of(os.chroot, "/"),
            error_of(os.mknod, tmp_path / "sda", 0o60600, os.makedev(8, 0)),
        ]

    assert in_child(work) == [True, errno.EPERM, errno.EPERM]


@needs_some
def test_what_was_given_up_cannot_be_taken_again() -> None:
    def try_again() -> int:
        capabilities.drop_all()
        everything = (1 << len(capabilities.names)) - 1
        return error_of(_libc.set_capabilities, everything, everything, 0)

    assert in_child(try_again) == errno.EPERM
