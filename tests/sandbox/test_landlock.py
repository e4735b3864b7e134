"""Landlock: files, signals, sockets and TCP out of reach, for children as well."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from pathlib import Path

import pytest

from isoruntime.sandbox import _libc, landlock
from isoruntime.sandbox.landlock import Grants
from tests.sandbox.children import a_child, error_of, in_child

pytestmark = pytest.mark.skipif(
    landlock.version() == 0, reason=landlock.reason() or "there is one"
)
needs_scopes = pytest.mark.skipif(
    not landlock.has_scopes(), reason="this Landlock has no scopes (before 6.12)"
)

SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/proc")


def confine(
    read: tuple[str, ...] = SYSTEM,
    write: tuple[str, ...] = (),
    *,
    listed: tuple[str, ...] = (),
    network: bool = True,
) -> None:
    """Put this process under a domain."""
    fd = landlock.prepare(Grants(read, write, listed), network=network)
    _libc.set_no_new_privileges()
    landlock.restrict(fd)
    os.close(fd)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_not_granted_can_be_neither_read_nor_written(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")

    def attack() -> list[int]:
        confine()
        return [
            error_of(secret.read_text),
            error_of(secret.write_text, "t"),
            error_of(names_in, tmp_path),
            error_of(os.truncate, secret, 0),
            error_of(os.unlink, secret),
            error_of(os.rename, secret, tmp_path / "other"),
            error_of(os.mkdir, tmp_path / "folder"),
            error_of(os.symlink, "x", tmp_path / "link"),
            error_of(os.mkfifo, tmp_path / "fifo"),
        ]

    truncate = errno.EACCES if landlock.version() >= 3 else 0
    assert in_child(attack) == [errno.EACCES] * 3 + [truncate] + [errno.EACCES] * 5
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_what_may_be_read_may_not_be_changed(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text("one")

    def attack() -> list[object]:
        confine((*SYSTEM, str(tmp_path)))
        return [
            code.read_text(),
            names_in(tmp_path),
            error_of(code.write_text, "two"),
            error_of(os.link, code, tmp_path / "link"),
            error_of((tmp_path / "new.py").write_text, "three"),
        ]

    denied = [errno.EACCES] * 3
    assert in_child(attack) == ["one", ["code.py"], *denied]
    assert code.read_text() == "one"


def test_what_may_be_written_may_be_changed_in_every_way(tmp_path: Path) -> None:
    def use() -> list[str]:
        confine(write=(str(tmp_path),))
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        (tmp_path / "a" / "file").write_text("long")
        os.truncate(tmp_path / "a" / "file", 1)
        if landlock.version() >= 2:
            (tmp_path / "a" / "file").rename(tmp_path / "b" / "file")
        else:
            (tmp_path / "a" / "file").rename(tmp_path / "a" / "other")
        (tmp_path / "link").symlink_to("b")
        os.mkfifo(tmp_path / "fifo")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
        (tmp_path / "s").unlink()
        return names_in(tmp_path)

    assert in_child(use) == ["a", "b", "fifo", "link"]


def test_a_file_can_be_granted_alone(tmp_path: Path) -> None:
    for name in ("read", "write", "none"):
        (tmp_path / name).write_text(name)

    def look() -> list[object]:
        confine((str(tmp_path / "read"),), (str(tmp_path / "write"),))
        return [
            (tmp_path / "read").read_text(),
            (tmp_path / "write").write_text("4444"),
            error_of((tmp_path / "none").read_text),
        ]

    assert in_child(look) == ["read", 4, errno.EACCES]


def test_names_can_be_granted_without_what_they_name(tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text("x")
    (tmp_path / "secret").write_text("x")

    def look() -> list[object]:
        confine((str(tmp_path / "index.py"),), listed=(str(tmp_path),))
        return [
            names_in(tmp_path),
            (tmp_path / "index.py").read_text(),
            error_of((tmp_path / "secret").read_text),
        ]

    assert in_child(look) == [["index.py", "secret"], "x", errno.EACCES]


def test_a_child_works_inside_the_same_walls(tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "file").touch()

    def run() -> list[object]:
        confine(write=("/dev/null", str(tmp_path / "shown")))
        ls = [
            subprocess.run(["ls", tmp_path / name], capture_output=True, check=False)
            for name in ("shown", "hidden")
        ]
        return [ls[0].returncode, b"file" in ls[0].stdout, ls[1].returncode]

    assert in_child(run) == [0, True, 2]


def test_an_outer_domain_holds_inside_an_inner_one(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "siblings").mkdir()
    (tmp_path / "siblings" / "file").write_text("s")

    def nest() -> list[int]:
        confine(write=(str(tmp_path),))
        before = error_of((tmp_path / "siblings" / "file").read_text)
        confine(write=("/", str(tmp_path / "own")), read=())
        everything = error_of(names_in, Path("/"))
        confine(write=(str(tmp_path / "own"),), read=())
        return [
            before,
            everything,
            error_of((tmp_path / "siblings" / "file").read_text),
            error_of((tmp_path / "own" / "file").write_text, "o"),
        ]

    assert in_child(nest) == [0, errno.EACCES, errno.EACCES, 0]


@needs_scopes
def test_a_sibling_and_what_is_outside_cannot_be_signalled() -> None:
    outside = os.getpid()
    with a_child(confine) as sibling, a_child(lambda: None) as free:

        def attack() -> list[int]:
            confine()
            return [error_of(os.kill, pid, 0) for pid in (sibling, free, outside)]

        assert in_child(attack) == [errno.EPERM] * 3


@needs_scopes
def test_the_outer_domain_still_signals_the_inner_one() -> None:
    def signal_own_worker() -> int:
        confine()
        with a_child(confine) as worker:
            return error_of(os.kill, worker, 0)

    assert in_child(signal_own_worker) == 0


@needs_scopes
def test_an_abstract_socket_outside_cannot_be_connected_to() -> None:
    name = f"\0isoruntime-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()

        def connect() -> int:
            confine()
            with socket.socket(socket.AF_UNIX) as client:
                return error_of(client.connect, name)

        assert in_child(connect) == errno.EPERM


@pytest.mark.skipif(
    not landlock.has_network(), reason="this Landlock has no TCP (before 6.7)"
)
@pytest.mark.parametrize(
    ("network", "expected"),
    [
        pytest.param(True, 0, id="the network is wanted"),
        pytest.param(False, errno.EACCES, id="it is not"),
    ],
)
def test_tcp_goes_where_the_network_is_wanted(network: bool, expected: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def connect() -> list[int]:
            confine(network=network)
            with socket.socket() as client, socket.socket() as other:
                return [
                    error_of(client.connect, server.getsockname()),
                    error_of(other.bind, ("127.0.0.1", 0)),
                ]

        assert in_child(connect) == [expected] * 2


def test_another_process_cannot_be_looked_into() -> None:
    def look() -> list[int]:
        confine()
        # As a worker has none: a holder of CAP_PERFMON sees `environ` all the same.
        _libc.set_capabilities(0, 0, 0)
        parent = f"/proc/{os.getppid()}"
        return [
            error_of(Path(f"{parent}/environ").read_bytes),
            error_of(Path(f"{parent}/maps").read_bytes),
            error_of(Path(f"{parent}/fd/1").readlink),
            error_of(Path("/proc/self/environ").read_bytes),
        ]

    assert in_child(look) == [errno.EACCES] * 3 + [0]
