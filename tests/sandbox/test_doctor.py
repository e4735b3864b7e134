"""isoruntime doctor: what it says at a privilege level is what holds there."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from isoruntime.cli.isolation import MECHANISMS, REQUIRED_BY_STRICT
from isoruntime.sandbox import landlock
from isoruntime.wire.order import LoadOrder
from isoruntime.zygote.rehearsal import rehearse
from tests.sandbox.levels import (
    LEVELS,
    Level,
    installation,
    launched,
    missing,
    python_for,
    remove_installation,
)
from tests.support.server import MARK, PROJECT, marked
from tests.waiting import wait_until

#: Where handlers reach nothing, and so where private files can be.
PRIVATE = next(
    (path for path in (Path("/srv"), Path("/var/cache")) if os.access(path, os.W_OK)),
    Path.home(),
)
#: Where the host does not let an ordinary user or a container make namespaces.
_CLOSED = {"root-in-docker", "user-in-docker"}


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def found(self) -> Any:
        return json.loads(self.out)

    def states(self, profile: str) -> dict[str, str]:
        return {one["name"]: one[profile]["state"] for one in self.found["mechanisms"]}


@pytest.fixture(scope="module")
def code() -> Iterator[Path]:
    """Return a code directory that every user can read; beside it one to write to."""
    with tempfile.TemporaryDirectory(prefix="isoruntime-test-", dir=PRIVATE) as folder:
        Path(folder).chmod(0o755)
        for name, mode in (("code", 0o755), ("cache", 0o1777)):
            path = Path(folder, name)
            path.mkdir()
            path.chmod(mode)
        yield Path(folder, "code")
    remove_installation()


def run(level: Level, *words: str, code: Path, **variables: str) -> Done:
    """Run a command of ours at a privilege level, from start to end."""
    reason = missing(level)
    if reason is not None:
        pytest.skip(f"{level.name}: {reason}")
    home = str(installation() if level.reachable else PROJECT)
    done = subprocess.run(
        launched(level, python_for(level), "-m", "isoruntime", *words),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": home,
            "PYTHONDONTWRITEBYTECODE": "1",
            "ISORUNTIME_CODE_DIR": str(code),
            "COLUMNS": "100",
            # An ordinary user has a home; this one has nothing else.
            "XDG_CACHE_HOME": str(code.parent / "cache"),
            **variables,
        },
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
def test_the_verdict_on_strict_is_what_serve_does(level: Level, code: Path) -> None:
    done = run(level, "doctor", "--json", code=code)
    assert (done.code, done.err) == (0, "")
    verdict = done.found["profiles"]["strict"]
    required = run(level, "doctor", "--require", "strict", code=code)
    assert required.code == (1 if verdict["lacking"] else 0)
    assert f"strict     {verdict['verdict'].split(',')[0]}" in required.out
    if not verdict["lacking"]:
        return
    served = run(level, "serve", "--sandbox", "strict", "--port", "0", code=code)
    assert (served.code, served.out) == (2, "")
    for line in served.err.splitlines():
        assert line.startswith("isoruntime: --sandbox strict cannot be kept: ")
    assert any("namespaces: " in line for line in served.err.splitlines())
    assert "Operation not permitted" in served.err


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
def test_standard_is_in_full_at_every_level(level: Level, code: Path) -> None:
    if not landlock.has_scopes():
        pytest.skip("the kernel is older than 6.12")
    done = run(level, "doctor", "--json", "--require", "standard", code=code)
    assert (done.code, done.err) == (0, "")
    assert done.found["profiles"]["standard"] == {
        "verdict": "in full",
        "lacking": [],
        "workers_isolated": True,
    }
    states = done.states("standard")
    assert list(states) == [mechanism.name for mechanism in MECHANISMS]
    assert "unknown" not in states.values()


@pytest.mark.parametrize("name", sorted(_CLOSED))
def test_forbidden_namespaces_are_named_with_cause_and_remedy(
    name: str, code: Path
) -> None:
    done = run(LEVELS[name], "doctor", "--json", code=code)
    (row,) = [one for one in done.found["mechanisms"] if one["name"] == "namespaces"]
    assert row["required_by_strict"]
    assert row["standard"]["state"] == "unused"
    assert row["strict"]["state"] == "missing"
    assert "namespaces refused" in row["strict"]["reason"]
    assert "seccomp" in row["strict"]["remedy"]
    # What does not hang on them was tried all the same.
    states = done.states("strict")
    for mechanism in set(REQUIRED_BY_STRICT) - {"namespaces", "private-tmp", "network"}:
        assert states[mechanism] == "enforced"


def test_a_user_of_its_own_is_reported_where_there_is_one(code: Path) -> None:
    states = {
        name: run(LEVELS[name], "doctor", "--json", code=code).states("standard")
        for name in ("root-with-uids", "user")
    }
    assert states["root-with-uids"]["uid"] == "enforced"
    assert states["user"]["uid"] == "missing"


def test_no_reason_is_a_bare_error_number(code: Path) -> None:
    for name in ("user", "user-in-docker"):
        for row in run(LEVELS[name], "doctor", "--json", code=code).found["mechanisms"]:
            for profile in ("standard", "strict"):
                found = row[profile]
                assert bool(found["reason"]) == (
                    found["state"] in ("missing", "unknown")
                )
                assert "Errno" not in found["reason"]


def test_the_table_fits_a_terminal_and_has_no_colours_in_a_file(code: Path) -> None:
    done = run(LEVELS["user"], "doctor", code=code)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 100
    assert "\033" not in done.out
    for mechanism in MECHANISMS:
        assert any(line.startswith(f"{mechanism.name} ") for line in lines)
    assert "uid: not started as root" in lines


def test_temporary_files_that_siblings_reach_are_reported(code: Path) -> None:
    # Neither a home nor a cache: nothing is left but /tmp, which all workers may use.
    words = ("doctor", "--json", "--require", "standard")
    done = run(LEVELS["user"], *words, code=code, XDG_CACHE_HOME="")
    assert done.code == 0
    assert done.found["profiles"]["standard"]["workers_isolated"] is False
    assert done.found["profiles"]["strict"]["workers_isolated"] is True
    assert done.states("standard")["temporary-files"] == "missing"
    (row,) = [
        one for one in done.found["mechanisms"] if one["name"] == "temporary-files"
    ]
    assert "set TMPDIR" in row["standard"]["remedy"]


def test_a_code_directory_below_tmp_is_pointed_out(tmp_path: Path) -> None:
    done = run(LEVELS["user"], "doctor", "--code-dir", "/tmp", code=tmp_path)
    assert "which is below a folder that handlers may write to" in done.out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--require", "paranoid"), "invalid choice: 'paranoid'"),
        (("--portt", "1"), "--portt"),
        (("--code-dir", "/no/such/folder"), "/no/such/folder"),
        (("--network", "some"), "some"),
    ],
)
def test_bad_words_are_refused(
    words: tuple[str, ...], problem: str, tmp_path: Path
) -> None:
    done = run(Level("here", "", (), False, False), "doctor", *words, code=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert problem in done.err
    assert done.err.count("\n") == 1


def test_without_a_sandbox_the_attempts_get_through(tmp_path: Path) -> None:
    # Else it would prove nothing that they fail inside the walls.
    order = LoadOrder(handler="", code_dir=str(tmp_path))
    seen = rehearse(order, {}, [str(tmp_path)])
    assert seen.refused == ""
    through = {name for name, (end, _) in seen.attempts.items() if end == "through"}
    assert through >= {
        "gain-privileges",
        "be-the-same-user",
        "make-forbidden-calls",
        "signal-the-runtime",
        "signal-a-sibling",
        "look-into-a-sibling",
        "read-outside",
        "change-the-code",
        "take-the-bait",
        "find-files-in-tmp",
        "connect",
        "connect-by-name",
        "share-namespaces",
    }


@pytest.mark.parametrize("at_most_s", [0.001, 0.05, 0.1])
def test_a_rehearsal_that_takes_too_long_is_given_up_and_leaves_nothing(
    tmp_path: Path, at_most_s: float
) -> None:
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    order = LoadOrder(handler="", code_dir=str(tmp_path), sandbox="standard")
    started = time.monotonic()
    seen = rehearse(order, {MARK: mark}, [str(tmp_path)], at_most_s=at_most_s)
    assert time.monotonic() - started < at_most_s + 1
    assert seen.refused in ("", f"the rehearsal took longer than {at_most_s:g} s")

    def is_all_gone() -> bool:
        return not list(tmp_path.iterdir()) and not marked(mark)

    wait_until(is_all_gone, 5, "the end of the zygote and its folder")
    assert list(Path("/tmp").glob(f"isoruntime-rehearsal-{os.getpid()}-*")) == []
