"""Which rights a version of Landlock is asked for, and how it is told."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from isoruntime.sandbox import _libc, landlock
from isoruntime.sandbox.landlock import Grants


@pytest.mark.parametrize(
    ("spoken", "words"),
    [
        (1, [0x1FFF]),
        (2, [0x3FFF]),
        (3, [0x7FFF]),
        (4, [0x7FFF, 3]),
        (5, [0xFFFF, 3]),
        (6, [0xFFFF, 3, 3]),
        (7, [0xFFFF, 3, 3]),
        (12, [0xFFFF, 3, 3]),
    ],
)
def test_a_kernel_is_told_only_what_its_version_knows(
    spoken: int, words: list[int]
) -> None:
    attributes = landlock._attributes(spoken, network=False)
    assert list(struct.unpack(f"={len(words)}Q", attributes)) == words


def test_a_network_that_is_wanted_is_not_handled_at_all() -> None:
    files, network, scopes = struct.unpack("=3Q", landlock._attributes(6, network=True))
    assert (files, network, scopes) == (0xFFFF, 0, 3)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSYS, "no Landlock"),
        (errno.EOPNOTSUPP, "lsm="),
        (errno.EPERM, "filter"),
        (errno.EINVAL, "cannot be used"),
    ],
)
def test_a_kernel_without_it_gives_a_reason(
    monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse() -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_libc, "landlock_version", refuse)
    assert landlock.version() == 0
    assert words in landlock.reason()
    assert not landlock.has_scopes()
    assert not landlock.has_network()


needs_landlock = pytest.mark.skipif(
    landlock.version() == 0, reason=landlock.reason() or "there is one"
)


@needs_landlock
def test_a_kernel_with_it_needs_no_reason() -> None:
    assert landlock.reason() == ""


@needs_landlock
def test_what_cannot_be_granted_is_left_out(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    file = tmp_path / "file"
    file.touch()
    reader, writer = os.pipe()
    missing = (str(tmp_path / "none"), f"{file}/below", str(loop), f"/dev/fd/{reader}")
    some = (*missing, str(file))
    fd = landlock.prepare(Grants(some, some, some), network=True)
    try:
        assert not os.get_inheritable(fd)
    finally:
        for one in (fd, reader, writer):
            os.close(one)
