"""Seeing that files have changed: what counts as a change, and when it is told."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from isoruntime.function import Described
from isoruntime.loop import Loop
from isoruntime.reload.look import Folder, changed
from isoruntime.reload.settings import after_restart, in_place
from isoruntime.reload.watcher import Watcher
from isoruntime.settings import Settings
from tests.waiting import wait_until

#: How the watcher learns when to look.
WAYS = ("told", "untold")
#: A burst is told of once, so long after its end at the latest.
SOON_S = 5.0


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Return a folder with a handler."""
    made = tmp_path / "code"
    made.mkdir()
    (made / "index.py").write_text("one")
    return made


class Changes:
    """What a watcher of one folder tells."""

    def __init__(self, folder: Path, files: list[str], way: str) -> None:
        self.loop = Loop()
        self.told: list[list[str]] = []
        self.threads: set[int] = set()
        self.root = Path(os.path.realpath(folder))
        self.watcher = Watcher(self.loop, [Folder(str(folder))], files, self._prepare)
        self.watcher.is_told = way == "told"
        self.watcher.start()

    def _prepare(self, paths: list[str]) -> Callable[[], object]:
        self.threads.add(threading.get_ident())
        return lambda: self.told.append([os.path.relpath(p, self.root) for p in paths])

    def wait(self, condition: Callable[[], object]) -> None:
        """Take turns of the loop until it holds."""
        deadline = time.monotonic() + SOON_S
        while not condition():
            assert time.monotonic() < deadline, self.told
            self.loop.turn(0.01)

    def close(self) -> None:
        """Watch no more."""
        self.watcher.close()
        self.loop.close()


@pytest.fixture(params=WAYS)
def changes(request: pytest.FixtureRequest, code: Path) -> Iterator[Changes]:
    """Return what is told of the folder's changes."""
    made = Changes(code, [], request.param)
    yield made
    made.close()


def fingerprint(code: Path) -> Callable[[], list[str]]:
    """Return what tells how a folder differs from now."""
    folder = Folder(str(code))
    before = folder.look()
    root = os.path.realpath(code)
    return lambda: [
        os.path.relpath(path, root) for path in changed(before, folder.look())
    ]


def test_what_is_written_made_or_removed_is_a_change(code: Path) -> None:
    (code / "old.py").touch()
    since = fingerprint(code)
    assert since() == []
    (code / "index.py").write_text("three")
    (code / "old.py").unlink()
    (code / "deep" / "er").mkdir(parents=True)
    (code / "deep" / "er" / "new.py").touch()
    assert since() == ["deep/er/new.py", "index.py", "old.py"]


@pytest.mark.parametrize(
    "name",
    [
        *("index.py~", "#index.py#", ".#index.py", ".index.py.swp", ".index.py.swx"),
        *("4913", "index.py___jb_tmp___", "index.py___jb_old___", "sedA1b2C3"),
        *(".goutputstream-X1Y2Z3", "index.py.tmp", "x.pyc", ".nfs000001", ".DS_Store"),
        *("__pycache__/index.py", ".git/index", "node_modules/a.js", ".venv/a.py"),
    ],
)
def test_what_editors_and_tools_write_is_no_change(code: Path, name: str) -> None:
    since = fingerprint(code)
    path = code / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert since() == []
    assert not Folder(str(code)).counts(os.path.realpath(path))


def test_what_fcignore_leaves_out_is_no_change(code: Path) -> None:
    (code / ".fcignore").write_text("*.log\n/data/\n.env\n")
    (code / "data").mkdir()
    since = fingerprint(code)
    (code / "a.log").touch()
    (code / "data" / "rows.csv").touch()
    assert since() == []
    # It is not deployed, and is read all the same.
    (code / ".env").write_text("A=1")
    assert since() == [".env"]


def test_patterns_that_were_changed_hold_at_the_next_look(code: Path) -> None:
    since = fingerprint(code)
    (code / "rows.csv").touch()
    assert since() == ["rows.csv"]
    (code / ".fcignore").write_text("*.csv\n")
    assert since() == []
    (code / ".fcignore").unlink()
    assert since() == ["rows.csv"]


def test_a_file_that_is_removed_and_made_again_is_a_change(code: Path) -> None:
    since = fingerprint(code)
    (code / "index.py").unlink()
    (code / "index.py").write_text("one")
    assert since() == ["index.py"]


def test_the_right_to_be_run_is_a_change(code: Path) -> None:
    since = fingerprint(code)
    (code / "index.py").chmod(0o755)
    assert since() == ["index.py"]


def test_links_lead_to_what_counts_and_never_round_and_round(
    code: Path, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "lib.py").write_text("one")
    (tmp_path / "single.py").write_text("one")
    (code / "shared").symlink_to(shared)
    (code / "single.py").symlink_to(tmp_path / "single.py")
    (code / "round").symlink_to(code)
    (code / "dangling").symlink_to(tmp_path / "nowhere")
    since = fingerprint(code)
    (shared / "lib.py").write_text("another")
    (tmp_path / "single.py").write_text("another")
    assert since() == ["shared/lib.py", "single.py"]


def test_a_folder_that_is_gone_looks_empty(code: Path) -> None:
    since = fingerprint(code)
    shutil.rmtree(code)
    assert since() == ["index.py"]


def test_a_change_is_told_once_in_the_loop(changes: Changes, code: Path) -> None:
    (code / "index.py").write_text("two!")
    changes.wait(lambda: changes.told)
    assert changes.told == [["index.py"]]
    assert threading.get_ident() not in changes.threads


def test_a_file_written_beside_and_renamed_is_one_change(
    changes: Changes, code: Path
) -> None:
    (code / "index.py.tmp").write_text("two!")
    (code / "index.py.tmp").rename(code / "index.py")
    changes.wait(lambda: changes.told)
    assert changes.told == [["index.py"]]


def test_a_burst_is_told_when_it_is_over(changes: Changes, code: Path) -> None:
    deadline = time.monotonic() + 0.6
    written = 0
    while time.monotonic() < deadline:
        folder = code / f"package{written // 20}"
        folder.mkdir(exist_ok=True)
        (folder / f"m{written}.py").touch()
        written += 1
        changes.loop.turn(0.005)
        assert changes.told == []
    changes.wait(lambda: changes.told)
    assert [len(paths) for paths in changes.told] == [written]


def test_what_was_put_back_before_anybody_looked_is_no_change(
    changes: Changes, code: Path
) -> None:
    (code / "index.py").rename(code / "away.py")
    (code / "away.py").rename(code / "index.py")
    (code / "new.py").touch()
    changes.wait(lambda: changes.told)
    assert changes.told == [["new.py"]]


def test_a_single_file_is_watched_wherever_it_lies(code: Path, tmp_path: Path) -> None:
    manifest = Path(os.path.realpath(tmp_path)) / "s.yaml"
    for way in WAYS:
        changes = Changes(code, [str(manifest)], way)
        manifest.write_text(way)
        (tmp_path / "other").write_text(way)
        changes.wait(lambda: changes.told)  # noqa: B023
        assert changes.told == [["../s.yaml"]]
        changes.close()


def test_a_watcher_leaves_no_thread_and_no_descriptor(code: Path) -> None:
    threads = threading.active_count()
    for way in WAYS:
        before = psutil.Process().num_fds()
        changes = Changes(code, [], way)
        (code / "index.py").write_text(f"{way} way")
        changes.wait(lambda: changes.told)  # noqa: B023
        changes.close()
        assert threading.active_count() == threads
        # The system's thread that was told of changes ends a little later.
        wait_until(lambda: psutil.Process().num_fds() == before)  # noqa: B023


def described(**values: object) -> Described:
    return Described(Settings(**values), "a")


def test_settings_of_workers_change_in_place_and_others_with_a_restart() -> None:
    serving = described(handler="a.one", timeout_s=1.0, sandbox="off")
    wanted = described(handler="a.two", timeout_s=2.0, sandbox="standard")
    got = in_place(serving, wanted).settings
    assert (got.handler, got.timeout_s, got.sandbox) == ("a.two", 2.0, "off")
    assert after_restart(serving, wanted) == ["--sandbox"]


def test_a_function_of_another_kind_needs_a_restart() -> None:
    serving = described(command=("cat",), memory_mb=64)
    wanted = described(upstream=("server",), memory_mb=128)
    got = in_place(serving, wanted).settings
    assert (got.command, got.upstream, got.memory_mb) == (("cat",), None, 128)
    assert after_restart(serving, wanted) == ["--command", "--upstream"]
    other = described(command=("tac",))
    assert in_place(serving, other).settings.command == ("tac",)
