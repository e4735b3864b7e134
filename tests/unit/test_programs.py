"""Programs in place of handlers: found as a shell would, and judged before they run."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from isoruntime.worker import program
from isoruntime.worker.load import LoadError

SCRIPT = b"#!/bin/sh\nexit 0\n"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return the two folders that PATH names, and go to a third one."""
    first, second, here = (tmp_path / name for name in ("first", "second", "here"))
    for folder in (first, second, here):
        folder.mkdir()
    monkeypatch.setenv("PATH", f"{first}::{second}")
    monkeypatch.chdir(here)
    return first, second


def written(path: Path, content: bytes = SCRIPT, mode: int = 0o755) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def problem(path: Path, content: bytes) -> str:
    """Return why a program of this content cannot be run; empty if it can."""
    written(path, content)
    try:
        program.find(str(path))
    except LoadError as error:
        return f"{error.error_type}: {error}"
    return ""


# Finding one.


def test_the_first_that_may_be_executed_is_taken(folders: tuple[Path, Path]) -> None:
    first, second = folders
    wanted = written(second / "tool")
    assert program.find("tool") == wanted
    written(first / "tool", mode=0o644)
    assert program.find("tool") == wanted
    (first / "tool").unlink()
    (first / "tool").mkdir()
    assert program.find("tool") == wanted


def test_one_that_only_lacks_its_exec_bit_is_not_called_missing(
    folders: tuple[Path, Path],
) -> None:
    written(folders[1] / "tool", mode=0o644)
    with pytest.raises(
        LoadError, match=r"may not be executed: chmod 755 .*second/tool"
    ):
        program.find("tool")


def test_nothing_is_found_where_the_code_is_unless_it_is_named(
    folders: tuple[Path, Path],
) -> None:
    # An empty entry of PATH means this folder to a shell.
    written(Path("tool"))
    with pytest.raises(LoadError, match=r"say \./tool") as raised:
        program.find("tool")
    assert raised.value.error_type == "HandlerNotFound"
    # And its path stays the same when somebody changes the folder.
    assert program.find("./tool") == str(Path.cwd() / "tool")


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("./nothing", "HandlerNotFound", "there is no such file"),
        ("./", "UserCodeError", "it is a folder"),
    ],
)
def test_a_path_that_is_no_file_is_told_as_such(
    folders: tuple[Path, Path], name: str, kind: str, reason: str
) -> None:
    with pytest.raises(LoadError, match=reason) as raised:
        program.find(name)
    assert raised.value.error_type == kind


# Judging it.


@pytest.mark.parametrize(
    "line",
    [
        "#!/bin/sh",
        "#! /bin/sh -e",
        "#!/usr/bin/env sh",
        "#!/usr/bin/env -S sh -e",
        "#!/usr/bin/env -S A=1 no-such-language",
        "#!/usr/bin/env -S -u HOME sh",
        "#!/usr/bin/env -S --chdir / sh",
        "#!/bin/" + "s" * 300,
    ],
)
def test_a_script_that_may_run_is_left_to_the_kernel(tmp_path: Path, line: str) -> None:
    assert problem(tmp_path / "script", f"{line}\nexit 0\n".encode()) == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"#!\n", "names no interpreter"),
        (b"#!/no/such/sh\n", "/no/such/sh does not exist here"),
        (b"#!/usr/bin/env no-such-language\n", "no-such-language is not in PATH"),
        (b"#!/usr/bin/env -S no-such-language -x\n", "no-such-language is not in PATH"),
        (b"#!/bin/sh\r\n", "dos2unix"),
        (b"\x7fELF\x02\x01", "it is cut off"),
        (
            b"\x7fELF\x01\x02\x01" + bytes(9) + struct.pack(">HH", 2, 8),
            "machine number 8",
        ),
        (b"\xca\xfe\xba\xbe", "macOS"),
        (b"#", "neither a program"),
    ],
)
def test_what_cannot_run_is_told_why(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    told = problem(tmp_path / "run", content)
    assert told.startswith(f"UserCodeError: Unable to run '{tmp_path}/run': ")
    assert reason in told


def test_a_program_of_this_machine_is_fine(tmp_path: Path) -> None:
    head = Path("/proc/self/exe").read_bytes()[:64]
    assert problem(tmp_path / "run", head) == ""


# Starting it.


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    made = os.pipe()
    yield made
    for fd in made:
        os.close(fd)


def run(pipe: tuple[int, int], path: str, *argv: str) -> str:
    """Run a program that reads from the pipe; return what it prints."""
    out_r, out_w = os.pipe()
    with os.fdopen(out_r) as output:
        try:
            environ = {"MINE": "yes"}
            pid = program.start(path, [path, *argv], environ, pipe[0], out_w)
        finally:
            os.close(out_w)
        said = output.read()
    assert os.waitpid(pid, 0) == (pid, 0)
    return said


def test_it_gets_its_ends_and_its_environment_alone(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"hello\n")
    line = "read word; echo $word $MINE ${HOME-homeless}"
    assert run(pipe, "/bin/sh", "-c", line) == "hello yes homeless\n"


def test_it_has_no_signal_blocked_and_ignores_none_that_python_does(
    pipe: tuple[int, int],
) -> None:
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        # No shell, which might mend it.
        status = run(pipe, "/bin/cat", "/proc/self/status")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert int(fields["SigBlk"], 16) == 0
    ignored = int(fields["SigIgn"], 16)
    for which in (signal.SIGPIPE, signal.SIGXFSZ):
        assert not ignored & 1 << (which - 1)


def test_one_that_was_spoiled_meanwhile_is_judged_again(tmp_path: Path) -> None:
    path = written(tmp_path / "run")
    assert program.find(path) == path
    written(tmp_path / "run", b"#!/bin/sh\r\n")
    with pytest.raises(LoadError, match="CRLF"):
        program.start(path, [path], os.environ, 0, 1)
    (tmp_path / "run").unlink()
    with pytest.raises(LoadError, match="no such file") as raised:
        program.start(path, [path], os.environ, 0, 1)
    assert raised.value.error_type == "HandlerNotFound"


def test_too_many_arguments_are_no_fault_of_the_program(tmp_path: Path) -> None:
    path = written(tmp_path / "run")
    with pytest.raises(OSError, match="too long"):
        program.start(path, [path, "x" * (1 << 22)], os.environ, 0, 1)
