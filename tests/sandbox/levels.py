"""The privilege levels that attacks run at, and what each of them needs of this host.

`root` and `root-with-uids` differ in nothing but the interpreter: one that only root
can reach (a home directory is often closed to others) rules out a user of its own for
every worker.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import psutil
import waitress

from tests.support.server import PROJECT

LAUNCH = Path(__file__).parent / "launch.py"
#: A user that owns nothing on any host.
NOBODY = 61234
#: The fourteen capabilities that Docker leaves to root, by number.
DOCKERS = "0,1,3,4,5,6,7,8,10,13,18,27,29,31"
#: Neither below /tmp, /var/tmp or /dev/shm, which functions may write to, nor below
#: /opt, which they may read.
BASE = Path("/srv") if os.access("/srv", os.W_OK) else Path.home()


class Level(NamedTuple):
    """Who the runtime is, and what has been taken from it before it begins."""

    name: str
    #: for readers of docs/threat-model.md
    meaning: str
    #: of launch.py
    options: tuple[str, ...]
    #: whether the interpreter must be one that every user can reach, or must not be
    reachable: bool = True
    needs_root: bool = True
    #: whether `--sandbox strict` can be kept there
    has_strict: bool = True
    has_home: bool = True


LEVELS = {
    level.name: level
    for level in (
        Level("root", "root, with an interpreter only root can reach", (), False),
        Level("root-with-uids", "root, with an interpreter everybody can reach", ()),
        Level(
            "root-in-docker",
            "root in a container: Docker's capabilities and seccomp profile",
            ("--docker", "--filter", "--capabilities", DOCKERS),
            has_strict=False,
        ),
        Level(
            "root-in-kubernetes",
            "root in a pod: Docker's capabilities, no seccomp profile",
            ("--docker", "--capabilities", DOCKERS),
        ),
        Level(
            "user",
            "an ordinary user",
            ("--uid", str(NOBODY), "--capabilities", "none"),
        ),
        Level(
            "user-in-docker",
            "an ordinary user in a container with Docker's seccomp profile, no home",
            ("--docker", "--filter", "--uid", str(NOBODY), "--capabilities", "none"),
            has_strict=False,
            has_home=False,
        ),
        Level(
            "user-in-kubernetes",
            "an ordinary user in a pod, no seccomp profile, no home",
            ("--docker", "--uid", str(NOBODY), "--capabilities", "none"),
            has_home=False,
        ),
    )
}


def uid_of(level: Level) -> int:
    """Return the user the runtime runs as."""
    return NOBODY if "--uid" in level.options else os.getuid()


@functools.cache
def installation() -> Path:
    """Return a folder with the runtime and its dependencies that everybody can read.

    It is removed with `remove_installation`.
    """
    made = Path(tempfile.mkdtemp(prefix="isoruntime-test-", dir=BASE))
    made.chmod(0o755)
    ours = shutil.ignore_patterns("__pycache__")
    for source in (PROJECT / "isoruntime", *_dependencies()):
        shutil.copytree(source, made / source.name, ignore=ours)
    for path in [made, *made.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return made


def remove_installation() -> None:
    """Remove what `installation` has made, if it has."""
    if installation.cache_info().currsize:
        shutil.rmtree(installation())
        installation.cache_clear()


def _dependencies() -> list[Path]:
    return [Path(str(one.__file__)).parent for one in (waitress, psutil)]


@functools.cache
def reachable_python() -> str | None:
    """Return an interpreter that every user can run the runtime with, or None."""
    check = f"import sys, ctypes; sys.path.insert(0, {str(installation())!r})"
    check += "; assert sys.version_info >= (3, 10); import psutil, waitress"
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        argv = [candidate, "-c", check]
        if os.getuid() == 0:
            argv = [sys.executable, str(LAUNCH), "--uid", str(NOBODY), "--", *argv]
        if subprocess.run(argv, capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def python_for(level: Level) -> str:
    """Return the interpreter for a level that is not missing."""
    return str(reachable_python()) if level.reachable else sys.executable


@functools.cache
def missing(level: Level) -> str | None:
    """Return why this host or user cannot have that level; None if it can."""
    if level.needs_root and os.getuid() != 0:
        # As nobody in particular we are the ordinary user ourselves.
        if level.name != "user":
            return "needs root"
        return None if reachable_python() else "no interpreter for the runtime"
    if level.reachable and reachable_python() is None:
        return "every interpreter with the packages is below a closed folder"
    if not level.reachable and reachable_python() == sys.executable:
        return "the interpreter can be reached by everybody"
    tried = subprocess.run(
        launched(level, "true"), capture_output=True, text=True, check=False
    )
    return None if tried.returncode == 0 else tried.stderr.strip() or "cannot be had"


@functools.cache
def can_be_apart() -> bool:
    """Return whether this user can have a namespace in which it is alone."""
    argv = [sys.executable, str(LAUNCH), "--apart", "--", "true"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def launched(level: Level, *argv: str) -> list[str]:
    """Return the command that starts another one at a level."""
    return [*launcher(level), *argv]


def launcher(level: Level, *options: str) -> list[str]:
    """Return the first words of the command that starts another one at a level."""
    apart = ["--apart"] if can_be_apart() else []
    chosen = level.options if os.getuid() == 0 else ()
    return [sys.executable, str(LAUNCH), *apart, *options, *chosen, "--"]
