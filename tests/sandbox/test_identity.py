"""A user of its own: out of reach of siblings, and without any way back."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import termios
from pathlib import Path

import pytest

from isoruntime.sandbox import capabilities, identity
from tests.sandbox.children import a_child, error_of, expire, in_child
from tests.waiting import wait_until

UID = 30007

pytestmark = pytest.mark.skipif(
    identity.available() != "", reason=identity.available() or "it can be had"
)


def unread(reader: int) -> int:
    """Return how many bytes a pipe holds."""
    (count,) = struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, b"\0" * 4))
    return int(count)


def test_one_becomes_that_user_alone() -> None:
    def become() -> list[object]:
        identity.take(UID)
        return [
            os.getresuid(),
            os.getresgid(),
            os.getgroups(),
            sorted(capabilities.held()),
            error_of(os.setresuid, 0, 0, 0),
            error_of(os.setgroups, [0]),
            error_of(Path("/etc/shadow").read_bytes),
        ]

    denied = [errno.EPERM, errno.EPERM, errno.EACCES]
    assert in_child(become) == [[UID] * 3, [UID] * 3, [], [], *denied]


def test_a_refusal_is_an_error() -> None:
    def become() -> list[int]:
        capabilities.keep(frozenset({"SETGID"}))
        return [error_of(identity.take, UID), *os.getresuid()]

    assert in_child(become) == [errno.EPERM, 0, 0, 0]


def test_a_sibling_is_somebody_else(tmp_path: Path) -> None:
    own = tmp_path / "sibling"
    own.mkdir(mode=0o700)
    (own / "file").write_text("theirs")
    os.chown(own, UID + 1, UID + 1)
    with a_child(lambda: identity.take(UID + 1)) as sibling:

        def attack() -> list[int]:
            identity.take(UID)
            return [
                error_of(os.kill, sibling, 0),
                error_of(Path(f"/proc/{sibling}/environ").read_bytes),
                error_of(os.listdir, own),
                error_of(os.setpriority, os.PRIO_PROCESS, sibling, 10),
            ]

        answers = in_child(attack)
    assert answers[0] == errno.EPERM
    assert set(answers) <= {errno.EPERM, errno.EACCES}


def test_all_of_one_user_can_be_killed_in_one_call() -> None:
    def run_away(writer: int) -> None:
        """Become a session leader and two more processes, all of one user."""
        identity.take(UID + 2)
        os.fork()
        os.setsid()
        os.fork()
        expire()
        os.write(writer, b"x")
        signal.pause()

    def kill_all() -> int:
        identity.take(UID + 2)
        os.kill(-1, signal.SIGKILL)
        return 0

    reader, writer = os.pipe()
    try:
        with a_child(lambda: run_away(writer), is_awaited=False):
            # Four wrote; nobody is left who could once they are dead.
            wait_until(lambda: unread(reader) == 4)
            in_child(kill_all)
            os.close(writer)
            assert os.read(reader, 9) == b"xxxx"
            assert os.read(reader, 9) == b""
    finally:
        os.close(reader)
