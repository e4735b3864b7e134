"""An ordinary function within what a worker may reach, and what it may not."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isoruntime.sandbox import _libc, landlock, paths
from tests.sandbox.children import error_of, in_child

pytestmark = pytest.mark.skipif(
    landlock.version() == 0, reason=landlock.reason() or "there is one"
)


class Place:
    """Folders of a function as a runtime would have them, outside of /tmp."""

    def __init__(self, base: Path) -> None:
        self.code, self.own, self.siblings = base / "code", base / "t/1", base / "t/2"
        for folder in (self.code, self.own, self.siblings):
            folder.mkdir(parents=True)
        (self.code / "index.py").write_text("x = 1\n")
        (self.siblings / "file").write_text("theirs")

    def enter(self) -> None:
        """Become a worker of it."""
        os.chdir(self.code)
        grants = paths.for_worker(str(self.code), str(self.own), (), ())
        fd = landlock.prepare(grants, network=True)
        _libc.set_no_new_privileges()
        landlock.restrict(fd)
        os.close(fd)
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.own)
        # git, for one, ends when it may not read its settings in the home.
        os.environ["HOME"] = str(self.own)


@pytest.fixture
def place() -> Iterator[Place]:
    # Where a runtime would go, since the folders pytest makes are below /tmp.
    for parent in paths.temp_parents({"HOME": os.environ.get("HOME", "")}):
        if parent not in paths.SHARED and os.access(parent, os.W_OK):
            with tempfile.TemporaryDirectory(dir=parent) as base:
                yield Place(Path(base))
            return
    pytest.skip("this user may write to no place outside of /tmp")


def test_a_worker_reaches_nothing_that_is_not_its_own(place: Place) -> None:
    def attack() -> dict[str, int]:
        place.enter()
        return {
            "own code": error_of((place.code / "index.py").read_bytes),
            "own folder": error_of((place.own / "file").write_text, "mine"),
            "change code": error_of((place.code / "index.py").write_text, "x = 2"),
            "add code": error_of((place.code / "json.py").write_text, "x = 2"),
            "sibling": error_of((place.siblings / "file").read_bytes),
            "siblings": error_of(os.listdir, place.siblings.parent),
            "shadow": error_of(Path("/etc/shadow").read_bytes),
            "home": error_of(os.listdir, "/root"),
            "etc": error_of(os.listdir, "/etc"),
            "log": error_of(os.listdir, "/var/log"),
            "sysctl": error_of(os.open, "/proc/sys/kernel/core_pattern", os.O_WRONLY),
            "oom": error_of(os.open, "/proc/self/oom_score_adj", os.O_WRONLY),
            "cgroup": error_of(os.mkdir, "/sys/fs/cgroup/x"),
        }

    answers = in_child(attack)
    allowed = [answers.pop("own code"), answers.pop("own folder")]
    assert allowed == [0, 0]
    assert set(answers.values()) <= {errno.EACCES, errno.ENOENT, errno.EROFS}
    assert (place.code / "index.py").read_text() == "x = 1\n"


def imports() -> None:
    run(sys.executable, "-c", "import json, ssl, sqlite3, ctypes, http.client, index")


def starts_programs() -> None:
    run("sh", "-c", "grep x index.py | sort > /dev/null")
    assert "index.py" in run("ls", "-l")


def trusts_certificates() -> None:
    import ssl

    assert ssl.create_default_context().cert_store_stats()["x509_ca"] > 0


def resolves_names() -> None:
    import pwd
    import socket

    assert socket.getaddrinfo("localhost", "http")
    assert pwd.getpwnam("root").pw_uid == 0


def keeps_files() -> None:
    import sqlite3

    with tempfile.NamedTemporaryFile("w") as file:
        file.write("x")
    for folder in (os.environ["TMPDIR"], "/tmp"):
        path = f"{folder}/isoruntime-test-{os.getpid()}.db"
        with sqlite3.connect(path) as database:
            database.execute("create table t (x)")
        database.close()
        Path(path).unlink()


def shares_locks() -> None:
    run(
        sys.executable,
        "-c",
        "from multiprocessing import Lock, shared_memory\n"
        "Lock().acquire()\n"
        "m = shared_memory.SharedMemory(create=True, size=9); m.close(); m.unlink()",
    )


def opens_a_terminal() -> None:
    import pty

    ours, theirs = pty.openpty()
    os.write(theirs, b"x")
    assert os.read(ours, 1) == b"x"
    os.close(ours)
    os.close(theirs)


def knows_the_time() -> None:
    import zoneinfo

    assert zoneinfo.ZoneInfo("Europe/Berlin")
    assert run("date")


def knows_the_machine() -> None:
    import platform

    assert platform.freedesktop_os_release()["ID"]
    assert os.cpu_count()
    assert Path("/proc/meminfo").read_text()


def uses_git() -> None:
    run("git", "-c", "init.defaultBranch=main", "init", "-q", os.environ["TMPDIR"])


def uses_node() -> None:
    run("node", "-e", "require('fs').readFileSync('index.py')")


ORDINARY = [
    imports,
    starts_programs,
    trusts_certificates,
    resolves_names,
    keeps_files,
    shares_locks,
    opens_a_terminal,
    knows_the_time,
    knows_the_machine,
    uses_git,
    uses_node,
]
NEEDS = {"uses_git": "git", "uses_node": "node"}


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("action", ORDINARY, ids=lambda action: action.__name__)
def test_an_ordinary_function_still(place: Place, action: Callable[[], None]) -> None:
    import shutil

    program = NEEDS.get(action.__name__, "sh")
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program} here")

    def work() -> None:
        place.enter()
        action()

    in_child(work)
