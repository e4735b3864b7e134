"""What of a folder is shipped, and how it gets into the zip."""

from __future__ import annotations

import os
import socket
import stat
import zipfile
from pathlib import Path

import pytest

from isoruntime.errors import CannotPackage
from isoruntime.project import archive, contents, start
from isoruntime.project.contents import FILE, PROGRAM, Entry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a function with a bit of everything."""
    made = tmp_path / "function"
    for name in ("index.py", "pkg/mod.py", "pkg/data/a.txt", "tool"):
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    (made / "tool").chmod(0o700)
    (made / "empty").mkdir()
    (made / "link").symlink_to("pkg/mod.py")
    return made


def names(folder: Path, *besides: Path) -> list[str]:
    found = contents.read(folder, besides)
    assert found.problems == []
    return [entry.name for entry in found.entries]


def zipped(folder: Path, moment: float | None = None) -> Path:
    path = folder.parent / "made.zip"
    archive.write(path, contents.read(folder).entries, moment)
    return path


def test_files_links_and_empty_folders_are_shipped(folder: Path) -> None:
    assert names(folder) == [
        *("empty/", "index.py", "link", "pkg/data/a.txt", "pkg/mod.py", "tool"),
    ]


def test_what_nobody_needs_there_is_never_shipped(folder: Path) -> None:
    before = names(folder)
    for name in (
        *("__pycache__/index.cpython-311.pyc", "pkg/__pycache__/x.pyc", "old.pyc"),
        *(".git/config", ".venv/bin/python", ".venv-test-3.11/complete", ".s/state"),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert names(folder) == before


def test_fcignore_is_honoured_below_folders_too(folder: Path) -> None:
    (folder / ".fcignore").write_text(".*\n*.txt\r\n/empty/\n!keep.txt\n")
    (folder / "pkg" / "keep.txt").touch()
    assert names(folder) == ["index.py", "link", "pkg/keep.txt", "pkg/mod.py", "tool"]


def test_an_unreadable_link_for_fcignore_is_refused(folder: Path) -> None:
    (folder.parent / "secret").write_text("*")
    (folder / ".fcignore").symlink_to("../secret")
    with pytest.raises(CannotPackage, match=r"\.fcignore is a link that leaves"):
        contents.read(folder)


def test_the_zip_itself_is_left_out_by_whatever_path(folder: Path) -> None:
    (folder / "out.zip").touch()
    alias = folder.parent / "alias"
    alias.symlink_to(folder)
    assert "out.zip" in names(folder)
    assert "out.zip" not in names(folder, alias / "out.zip")


def test_permissions_do_not_depend_on_who_packs(folder: Path) -> None:
    (folder / "index.py").chmod(0o664)
    first = zipped(folder).read_bytes()
    (folder / "index.py").chmod(0o600)
    (folder / "tool").chmod(0o775)
    os.utime(folder / "index.py", (1, 1))
    assert zipped(folder).read_bytes() == first
    (folder / "index.py").chmod(0o755)
    assert zipped(folder).read_bytes() != first


def test_the_zip_has_modes_links_and_one_time(folder: Path) -> None:
    with zipfile.ZipFile(zipped(folder)) as made:
        modes = {one.filename: one.external_attr >> 16 for one in made.infolist()}
        assert {one.date_time for one in made.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert made.read("link") == b"pkg/mod.py"
        assert made.namelist() == sorted(made.namelist())
        assert made.testzip() is None
    assert (modes["index.py"], modes["tool"]) == (FILE, PROGRAM)
    assert stat.S_ISLNK(modes["link"])
    assert stat.S_ISDIR(modes["empty/"])


@pytest.mark.parametrize(
    ("moment", "year"), [(0, 1980), (1_700_000_000, 2023), (1e11, 2107)]
)
def test_a_given_time_is_kept_as_far_as_zips_go(
    folder: Path, moment: float, year: int
) -> None:
    with zipfile.ZipFile(zipped(folder, moment)) as made:
        assert {one.date_time[0] for one in made.infolist()} == {year}


def test_a_zip_that_cannot_be_finished_leaves_the_old_one(folder: Path) -> None:
    path = zipped(folder)
    before = path.read_bytes()
    entries = [Entry("gone", FILE, folder / "index.py")]
    (folder / "index.py").unlink()
    with pytest.raises(CannotPackage, match=r"made\.zip was not written: .*No such"):
        archive.write(path, entries)
    assert path.read_bytes() == before
    assert sorted(one.name for one in folder.parent.iterdir()) == [
        *("function", "made.zip"),
    ]


def test_everything_that_cannot_be_shipped_is_told_at_once(folder: Path) -> None:
    (folder / "out").symlink_to("../elsewhere")
    (folder / "absolute").symlink_to(folder / "index.py")
    (folder / "broken").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(folder / "sock"))
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).touch()
    (folder / ".fcignore").write_text(".*\ntool\n")
    (folder / "to-ignored").symlink_to("tool")
    problems = contents.read(folder).problems
    for name, reason in {
        "out": "leaves the folder, to ../elsewhere",
        "absolute": f"a link to {folder}/index.py: make it relative",
        "broken": "a link to nowhere, which is not shipped",
        "pipe": "neither a file nor a folder nor a link",
        "sock": "neither a file nor a folder nor a link",
        "b'\\xff'": "no name in UTF-8",
        "to-ignored": "a link to tool, which is not shipped",
    }.items():
        (told,) = [one for one in problems if one.startswith(f"{name} ")]
        assert reason in told
        assert ".fcignore" in told
    assert len(problems) == 7


def test_links_within_the_folder_may_go_up_and_to_folders(folder: Path) -> None:
    (folder / "pkg" / "up").symlink_to("../index.py")
    (folder / "all").symlink_to("pkg")
    (folder / "here").symlink_to(".")
    assert {"pkg/up", "all", "here"} <= {*names(folder)}


@pytest.mark.skipif(not os.geteuid(), reason="root reads everything")
def test_what_cannot_be_read_is_told(folder: Path) -> None:
    (folder / "index.py").chmod(0)
    (folder / "pkg").chmod(0)
    try:
        problems = contents.read(folder).problems
    finally:
        (folder / "pkg").chmod(0o755)
    assert any("index.py cannot be read" in one for one in problems)
    assert any("pkg cannot be listed" in one for one in problems)


@pytest.mark.parametrize(
    ("script", "mended", "remark"),
    [
        (b"#!/bin/sh\r\nexec a\r\n", b"#!/bin/sh\nexec a\n", "CRLF"),
        (b"\xef\xbb\xbf#!/bin/sh\n", b"#!/bin/sh\n", "byte order mark"),
        (b"#!/bin/sh\nprintf 'a\rb'\n", b"#!/bin/sh\nprintf 'a\rb'\n", ""),
        (b"\x7fELF\r\n\0", b"\x7fELF\r\n\0", ""),
    ],
    ids=["CRLF", "mark", "a lone CR", "a program"],
)
def test_a_start_command_is_mended_and_that_is_said(
    script: bytes, mended: bytes, remark: str
) -> None:
    found, remarks = start.mended(script)
    assert found == mended
    assert bool(remarks) == bool(remark)
    assert remark in " ".join(remarks)


def test_our_start_command_is_the_projects_own() -> None:
    root = Path(__file__).parents[2]
    assert start.ours() == (root / "bootstrap").read_bytes()
