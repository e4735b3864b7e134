"""What ordinary functions do still works inside the walls, or is refused as the docs say.

The actions are in tests/handlers/ordinary; each runs in a worker of the real runtime,
under every profile, as every kind of user that this host lets us be. A server
serves all actions of one such combination.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import waitress

from isoruntime.sandbox import paths
from isoruntime.sandbox.landlock import Grants
from tests.handlers.ordinary import page
from tests.handlers.ordinary.index import ACTIONS
from tests.handlers.ordinary.registry import Action, Refused, Worker
from tests.support.server import HANDLERS, PROJECT, Reply, Server, temp_folder

#: Nobody's, so that nothing on this host belongs to it.
ORDINARY_UID = 61234
#: Where the packages are that the runtime imports.
PACKAGES = Path(waitress.__file__).parents[1]

#: What functions bring along most often; releases that are there for all our Pythons.
LIBRARIES = (
    *("numpy==2.2.6", "pandas==2.3.3", "pillow==12.3.0", "requests==2.34.2"),
    *("httpx==0.28.1", "lxml==6.1.3", "cryptography==50.0.2", "uvloop==0.23.0"),
    *("joblib==1.6.0", "psutil==7.2.2", "gevent==26.9.0"),
)

_BECOME = """
import os, sys
uid = int(sys.argv[1])
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class User:
    """Who starts the runtime, and with which interpreter."""

    uid: int
    python: str

    @property
    def command(self) -> list[str]:
        """How the runtime is started."""
        return self.as_this_user(self.python, "-m", "isoruntime", "serve")

    def as_this_user(self, *command: str) -> list[str]:
        """Return a command that runs another one as this user."""
        if self.uid == os.getuid():
            return list(command)
        return [sys.executable, "-S", "-c", _BECOME, str(self.uid), *command]

    @property
    def has_uid_per_worker(self) -> bool:
        """Whether the walls can give every worker a user of its own."""
        return self.uid == 0 and is_reachable(Path(self.python))


def is_reachable(path: Path) -> bool:
    """Return whether everybody may read what this path leads to."""
    real = path.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in real.parents) and bool(
        real.stat().st_mode & 0o004
    )


@functools.cache
def reachable_python() -> str | None:
    """Return an interpreter that everybody may run, of the version of our packages."""
    for candidate in (sys.executable, shutil.which("python3", path="/usr/bin:/bin")):
        if candidate and is_reachable(Path(candidate)) and _serves(candidate):
            return candidate
    return None


def _serves(python: str) -> bool:
    version = sys.version_info[:2]
    program = f"import sys, waitress, psutil; assert sys.version_info[:2] == {version}"
    environment = {"PYTHONPATH": str(PACKAGES)}
    command = [python, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    return done.returncode == 0


def ourselves() -> User:
    return User(os.getuid(), sys.executable)


def root_whose_workers_are_others() -> User:
    if os.getuid() != 0:
        pytest.skip("only root can give workers a user of their own")
    return User(0, python_for_everybody())


def an_ordinary_user() -> User:
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    return User(ORDINARY_UID, python_for_everybody())


def python_for_everybody() -> str:
    for path in (HANDLERS, PACKAGES / "waitress"):
        if not is_reachable(path):
            pytest.skip(f"others than root may not read {path}")
    python = reachable_python()
    if python is None:
        pytest.skip("no interpreter is there for others than root")
    return python


USERS = {
    "as we are": ourselves,
    "as root with a user per worker": root_whose_workers_are_others,
    "as an ordinary user": an_ordinary_user,
}


@dataclass(frozen=True)
class Place:
    """A running server under one profile, and who runs it."""

    server: Server
    profile: str
    user: User

    def expected(self, action: Action) -> Refused | None:
        """Return what an action meets here; None if it works."""
        if self.profile == "off":
            return None
        refused = action.standard if self.profile == "standard" else action.strict
        if refused is None:
            return None
        return refused if self._is_said_here(refused.worker) else None

    def _is_said_here(self, worker: Worker) -> bool:
        if worker is Worker.NAMELESS:
            return self.user.has_uid_per_worker or not has_name(self.user.uid)
        return True

    def lacks(self, action: Action) -> str | None:
        """Return what this host has not, and the action cannot be tried without."""
        return next((need for need in action.needs if not self._has(need)), None)

    def _has(self, need: str) -> bool:
        if need.startswith("/"):
            return Path(need).exists()
        if need.startswith("module "):
            return has_module(self.user.python, need.partition(" ")[2])
        if need.startswith("$ "):
            return succeeds(*need[2:].split())
        special = {
            "own files": lambda: self.profile != "off" or self.user.uid == os.getuid(),
            "user name": lambda: self.profile != "off" or has_name(self.user.uid),
            "IPv6": has_ipv6,
        }
        if need in special:
            return special[need]()
        return shutil.which(need) is not None


@functools.cache
def has_module(python: str, name: str) -> bool:
    """Return whether an interpreter outside all walls can import a module."""
    command = [python, "-c", f"import {name}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@functools.cache
def succeeds(*words: str) -> bool:
    """Return whether a command works outside all walls."""
    if shutil.which(words[0]) is None:
        return False
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def has_namespaces(user: User) -> bool:
    """Return whether the kernel lets a user have what strict is made of."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    namespaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork"]
    mount = ["mount", "-t", "tmpfs", "none", "/mnt"]
    return any(
        succeeds(*user.as_this_user(unshare, *first, *namespaces, *mount))
        for first in ([], ["--user", "--map-root-user"])
    )


def has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


@functools.cache
def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


WE, ROOT, SOMEBODY = USERS
#: Who is tried under which profile. "off" is the control: what does not work there is
#: no action.
COMBINATIONS = [
    ("off", WE),
    *(("standard", user) for user in USERS),
    ("strict", WE),
    ("strict", SOMEBODY),
]
#: Differ from those above in one thing that another of those differs in as well.
LESS_TELLING = [("off", ROOT), ("off", SOMEBODY), ("strict", ROOT)]
in_every_combination = functools.partial(
    pytest.fixture,
    scope="module",
    params=[
        *COMBINATIONS,
        *(pytest.param(one, marks=pytest.mark.slow) for one in LESS_TELLING),
    ],
    ids=", ".join,
)


@contextmanager
def running(
    combination: tuple[str, str], code_dir: Path, *paths: Path
) -> Iterator[Place]:
    """Serve the actions below a folder; `paths` lead to the packages that it needs."""
    profile, who = combination
    user = USERS[who]()
    if profile == "strict" and not has_namespaces(user):
        pytest.skip(f"no namespaces for mounts, processes and networks {who}")
    with Server(
        "ordinary.index.handler",
        *("--sandbox", profile, "--max-workers", "2"),
        code_dir=code_dir,
        env={"PYTHONPATH": ":".join(map(str, (PROJECT, PACKAGES, *paths)))},
        command=user.command,
    ) as server:
        yield Place(server, profile, user)


@pytest.fixture(scope="session")
def code() -> Iterator[Path]:
    """Return the folder of the handlers, a copy if they are where handlers may write."""
    if not paths.reaches(Grants((), paths.SHARED), str(HANDLERS)):
        yield HANDLERS
        return
    made = temp_folder()
    made.chmod(0o755)
    try:
        yield shutil.copytree(HANDLERS, made / "handlers")
    finally:
        shutil.rmtree(made)


@in_every_combination()
def place(request: pytest.FixtureRequest, code: Path) -> Iterator[Place]:
    with running(request.param, code) as place:
        yield place


@pytest.fixture(scope="session")
def packages() -> Iterator[Path]:
    """Return a folder with the packages, installed as functions bring theirs along."""
    with tempfile.TemporaryDirectory(prefix="packages-") as made:
        Path(made).chmod(0o755)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", made]
        command += ["--disable-pip-version-check", "--no-compile"]
        subprocess.run([*command, "--only-binary=:all:", *LIBRARIES], check=True)
        yield Path(made)


@in_every_combination()
def place_with_packages(
    request: pytest.FixtureRequest, code: Path, packages: Path
) -> Iterator[Place]:
    with running(request.param, code, packages) as place:
        yield place


def needs_packages(name: str) -> bool:
    return ACTIONS[name].group == "libraries"


def story_of(reply: Reply) -> str:
    """Return what an answer says, with the stack if there is one."""
    if reply.status == 200:
        return "it worked"
    told = reply.json()
    stack = [str(line) for line in told.get("stackTrace", [])]
    return "\n".join([f"{told['errorType']}: {told['errorMessage']}", *stack])


def check(place: Place, name: str) -> None:
    """Have an action performed and compare with what the page says."""
    action = ACTIONS[name]
    if lacking := place.lacks(action):
        pytest.skip(f"not on this host: {lacking}")
    reply = place.server.invoke(name)
    expected = place.expected(action)
    if expected is None:
        assert reply.body == b"done", story_of(reply)
    else:
        assert reply.status == 404, "it worked, against what the page says"
        assert reply.error_type == expected.error, story_of(reply)


@pytest.mark.parametrize("name", [name for name in ACTIONS if not needs_packages(name)])
def test_an_ordinary_action_works_or_is_refused_as_documented(
    place: Place, name: str
) -> None:
    check(place, name)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name in ACTIONS if needs_packages(name)])
def test_a_package_works_or_is_refused_as_documented(
    place_with_packages: Place, name: str
) -> None:
    check(place_with_packages, name)


def test_the_page_about_compatibility_is_current() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), (
        "run python -m tests.handlers.ordinary.page"
    )


def test_what_was_demanded_is_among_the_actions() -> None:
    # 46 checks were measured when the walls were designed; those and more are kept.
    assert len(ACTIONS) >= 46
    for named in ("ls -l", "multiprocessing.Pool", "sqlite in /tmp", "node"):
        assert named in ACTIONS
