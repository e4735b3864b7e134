"""Which users workers get, and what another user can get at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from isoruntime.sandbox import capabilities, identity


def test_every_runtime_has_users_of_its_own() -> None:
    size = identity.UIDS_PER_RUNTIME
    bases = [identity.base_uid(pid) for pid in range(1, 50)]
    assert len(set(bases)) == len(bases)
    assert all(base % size == 30000 % size for base in bases)
    assert all(base >= 30000 and base + size <= 60000 for base in bases)


def test_a_runtime_keeps_its_users_when_it_starts_again() -> None:
    assert identity.base_uid(4711) == identity.base_uid(4711)


def others_may(path: Path, mode: int) -> Path:
    path.chmod(mode)
    return path


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """Return a folder that everybody can enter, as its parents are (or not)."""
    for parent in tmp_path.parents:
        if identity.reachable([str(parent)]) and os.access(parent, os.W_OK):
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    problem = identity.reachable([str(tmp_path)])
    if problem:
        pytest.skip(problem)
    return tmp_path


def test_system_folders_are_reachable() -> None:
    assert identity.reachable(["/usr/bin", "/usr/lib", "/bin/sh", "/etc/passwd"]) == ""


def test_the_folder_in_the_way_is_named(open_folder: Path) -> None:
    inner = open_folder / "closed" / "deep"
    inner.mkdir(parents=True)
    others_may(open_folder / "closed", 0o750)
    assert identity.reachable(["/usr", str(inner)]) == (
        f"{open_folder}/closed cannot be entered by other users"
    )


def test_a_link_is_followed_to_where_it_leads(open_folder: Path) -> None:
    closed = open_folder / "closed"
    (closed / "inner").mkdir(parents=True)
    (closed / "python").touch()
    (open_folder / "absolute").symlink_to(closed / "python")
    (open_folder / "relative").symlink_to("./closed/../closed/inner")
    (open_folder / "twice").symlink_to("absolute")
    links = [str(open_folder / name) for name in ("absolute", "relative", "twice")]
    assert identity.reachable(links) == ""

    closed.chmod(0o700)
    for link in links:
        assert f"{closed} cannot be entered" in identity.reachable([link])


def test_entering_is_not_reading(open_folder: Path) -> None:
    folder = open_folder / "folder"
    folder.mkdir()
    folder.chmod(0o711)
    (folder / "file").touch(mode=0o644)
    (folder / "file").chmod(0o644)
    assert f"{folder} cannot be read" in identity.reachable([str(folder)])
    assert identity.reachable([str(folder / "file")]) == ""
    (folder / "file").chmod(0o640)
    assert "file cannot be read" in identity.reachable([str(folder / "file")])


def test_what_leads_nowhere_is_not_reachable(open_folder: Path) -> None:
    (open_folder / "loop").symlink_to("loop")
    assert "No such file" in identity.reachable([str(open_folder / "none")])
    assert "too many links" in identity.reachable([str(open_folder / "loop")])


def test_the_first_unreadable_entry_is_named(open_folder: Path) -> None:
    (open_folder / "fine.py").touch(mode=0o644)
    (open_folder / "dangling").symlink_to("nowhere")
    assert identity.unreadable_in(str(open_folder)) == ""
    (open_folder / "key.pem").touch()
    (open_folder / "key.pem").chmod(0o600)
    assert "key.pem cannot be read" in identity.unreadable_in(str(open_folder))
    assert identity.unreadable_in(str(open_folder), at_most=0) == ""
    assert "No such file" in identity.unreadable_in(str(open_folder / "none"))


def test_a_folder_of_ones_own_alone_is_named(open_folder: Path) -> None:
    open_folder.chmod(0o777)
    assert identity.unwritable([str(open_folder)]) == ""
    open_folder.chmod(0o755)
    assert identity.unwritable(["/tmp", str(open_folder)]) == (
        f"{open_folder} cannot be written by other users"
    )
    assert "No such file" in identity.unwritable([str(open_folder / "none")])


@pytest.mark.parametrize(
    ("uid", "missing", "reason"),
    [
        (1000, "", "not started as root"),
        (0, "SETUID", "CAP_SETUID is missing"),
        (0, "SETGID", "CAP_SETGID is missing"),
        (0, "KILL", "CAP_KILL is missing: a worker could not be ended"),
        (0, "CHOWN", "CAP_CHOWN is missing: a worker could not have a folder"),
    ],
)
def test_a_host_that_cannot_gives_its_reason(
    monkeypatch: pytest.MonkeyPatch, uid: int, missing: str, reason: str
) -> None:
    held = frozenset(capabilities.names) - {missing}
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(capabilities, "held", lambda: held)
    assert identity.available() == reason


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("         0          0 4294967295\n", True),
        ("0 1000 1\n", False),
        ("0 1000 1\n1 100000 65536\n", True),
        ("0 100000 50000\n", False),
        ("", False),
    ],
)
def test_a_user_namespace_has_to_know_the_users(
    tmp_path: Path, table: str, expected: bool
) -> None:
    (tmp_path / "map").write_text(table)
    assert identity._is_mapped(str(tmp_path / "map")) is expected
