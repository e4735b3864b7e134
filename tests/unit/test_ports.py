"""Ports of a worker's own: chosen so that nobody else has them, and found again."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from isoruntime.worker import ports
from isoruntime.worker.ports import (
    NoNetwork,
    PortsTaken,
    listening_ports,
    private_port,
)
from tests.waiting import wait_until

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what servers of the platform listen on


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(held: ExitStack, port: int = 0, host: str = "127.0.0.1") -> int:
    """Listen until the test ends; return the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = held.enter_context(socket.socket(family))
    server.bind((host, port))
    server.listen()
    return int(server.getsockname()[1])


def narrow(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Leave one port to choose from."""
    monkeypatch.setattr(ports, "_FIRST", port)
    monkeypatch.setattr(ports, "_COUNT", 1)


def test_a_private_port_can_be_listened_on_by_whoever_insists(held: ExitStack) -> None:
    port, lock = private_port()
    held.enter_context(lock)
    # Without SO_REUSEADDR, so that nothing may be left of our own look at it.
    assert listening(held, port, EVERYWHERE) == port


def test_no_two_have_the_same_one_while_the_lock_is_held(
    held: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, lock = private_port()
    narrow(monkeypatch, port)
    with lock, pytest.raises(PortsTaken, match=f"{port} to {port + 1}"):
        private_port()
    again, lock = private_port()
    held.enter_context(lock)
    assert again == port


@pytest.mark.parametrize("host", ["127.0.0.1", EVERYWHERE])
def test_a_port_that_somebody_listens_on_is_none(
    held: ExitStack, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    narrow(monkeypatch, listening(held, host=host))
    with pytest.raises(PortsTaken):
        private_port()


def test_a_search_in_vain_leaves_no_descriptor(
    held: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow(monkeypatch, listening(held))
    before = psutil.Process().num_fds()
    with pytest.raises(PortsTaken):
        private_port()
    assert psutil.Process().num_fds() == before


def test_a_process_without_a_network_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = socket.socket

    def local_only(family: int, *rest: int) -> socket.socket:
        # As the filter of system calls answers under `--network none`.
        if family != socket.AF_UNIX:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return real(family, *rest)

    before = psutil.Process().num_fds()
    monkeypatch.setattr(socket, "socket", local_only)
    with pytest.raises(NoNetwork, match="not permitted"):
        private_port()
    assert psutil.Process().num_fds() == before


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_port_that_a_process_listens_on_is_found(
    held: ExitStack, host: str
) -> None:
    before = listening_ports(os.getpid())
    try:
        port = listening(held, host=host)
    except OSError as error:
        pytest.skip(f"{host}: {error}")
    assert listening_ports(os.getpid()) == before | {port}


def test_a_connection_is_no_port_that_is_listened_on(held: ExitStack) -> None:
    port = listening(held)
    client = held.enter_context(socket.create_connection(("127.0.0.1", port)))
    found = listening_ports(os.getpid())
    assert port in found
    assert client.getsockname()[1] not in found


def test_the_port_of_a_descendant_is_found(held: ExitStack) -> None:
    server = held.enter_context(socket.socket())
    server.bind(("127.0.0.1", 0))
    server.listen()
    port = server.getsockname()[1]
    # The shell stays and its child has the socket, which we and the shell give up.
    pid = os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", "sleep 60 & exec 5>&-; wait"],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, server.fileno(), 5)],
    )
    try:
        server.close()
        wait_until(
            lambda: not Path(f"/proc/{pid}/fd/5").exists(), 10, "the shell without it"
        )
        assert listening_ports(pid) == {port}
    finally:
        shell = psutil.Process(pid)
        for one in [*shell.children(), shell]:
            one.kill()
        os.waitpid(pid, 0)


def test_a_process_that_is_not_there_listens_on_nothing() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    os.waitpid(pid, 0)
    assert listening_ports(pid) == set()
