"""One function in every language, built and served as the table of its README says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import EXAMPLES, PROJECT, Server

FOLDER = EXAMPLES / "languages"
LANGUAGES = {
    *("C++", "Dart", "Go", "Lua", "Node.js", "PHP", "PowerShell", "Python"),
    *("Python 2.7", "Ruby", "Rust", "TypeScript"),
}
#: How to ask a program for its version, where it is not by `--version`.
VERSIONS = {"go": "version", "lua5.4": "-v"}

#: A registry that does not answer is given up in less time than a test has.
IMPATIENT_NPM = {"npm_config_fetch_retries": "1", "npm_config_fetch_timeout": "60000"}

UNREACHED = re.compile(
    r"npm (error|ERR!) (network|code (ECONN|ETIMEDOUT|ENOTFOUND|EAI_))"
)


@dataclass(frozen=True)
class Row:
    """A line of the README's table."""

    language: str
    build: str
    serve: str
    needs: str
    status: str

    @property
    def folder(self) -> Path:
        """Where its code is."""
        return PROJECT / self.words[self.words.index("--code-dir") + 1]

    @property
    def words(self) -> list[str]:
        """The command line that serves it."""
        return shlex.split(self.serve)

    @property
    def is_server(self) -> bool:
        """Whether it is a server, not a command."""
        return "--upstream" in self.words

    def __str__(self) -> str:
        """Return what pytest calls it."""
        return f"{self.language} {'server' if self.is_server else 'command'}"


def table() -> list[Row]:
    """Return the rows of the README's table."""
    lines = (FOLDER / "README.md").read_text().splitlines()
    cells = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("| ") and not line.startswith("| language")
    ]
    return [Row(*each) for each in cells]


ROWS = table()


def toolchain(row: Row) -> dict[str, str]:
    """Return the variables that build and serve it, or skip the test."""
    name = row.needs
    folders = os.environ["PATH"].split(os.pathsep)
    # Not on every PATH that has a file of this name: pyenv's stand for nothing.
    folders += map(str, Path.home().glob(".pyenv/versions/*/bin"))
    for folder in folders:
        program = Path(folder) / name
        if os.access(program, os.X_OK) and version_of(program):
            return {"PATH": f"{folder}:{os.environ['PATH']}"}
    pytest.skip(f"{row.language} needs {name}, which is not here")


def version_of(program: Path) -> str:
    """Return a program's version, or nothing if it is no such program."""
    asked = [str(program), VERSIONS.get(program.name, "--version")]
    said = subprocess.run(
        asked,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    found = re.search(r"\d+(\.\d+)+", said.stdout)
    return found[0] if found and not said.returncode else ""


def build(row: Row, place: Path, env: dict[str, str]) -> Path:
    """Copy the code and build it there; return the folder."""
    copied = place / row.folder.name
    shutil.copytree(row.folder, copied, ignore=shutil.ignore_patterns("node_modules"))
    if row.build:
        done = subprocess.run(
            ["sh", "-c", row.build],
            cwd=copied,
            env={**os.environ, **env, **IMPATIENT_NPM},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode and UNREACHED.search(done.stderr):
            pytest.skip(f"{row.language} needs npm's registry, which is not reached")
        assert done.returncode == 0, done.stdout + done.stderr
    return copied


def options(row: Row, env: dict[str, str]) -> list[str]:
    """Return what follows the folder in the command line."""
    program = shutil.which(row.needs, path=env["PATH"])
    assert program
    given = row.words[row.words.index("--code-dir") + 2 :]
    resolved = Path(program).resolve()
    if not resolved.is_relative_to("/usr") and row.needs in given:
        # As the README says of what is installed in unusual places.
        given = ["--allow-read", str(resolved.parents[1]), *given]
    return given


tested: list[str] = []
skipped: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def report(request: pytest.FixtureRequest) -> Iterator[None]:
    """Say at the end which languages were tested and which were not."""
    yield
    plugins = request.config.pluginmanager
    terminal = plugins.get_plugin("terminalreporter")
    capture = plugins.get_plugin("capturemanager")
    if terminal and capture:
        with capture.global_and_fixture_disabled():
            terminal.write_line(f"\nlanguages tested: {', '.join(tested) or 'none'}")
            terminal.write_line(f"languages skipped: {', '.join(skipped) or 'none'}")


def parameters(rows: list[Row]) -> list[Any]:
    """Return what pytest is to try: what has to be built is slow."""
    return [
        pytest.param(
            row,
            id=str(row),
            marks=[
                pytest.mark.timeout(400),
                *([pytest.mark.slow] if row.build else []),
            ],
        )
        for row in rows
    ]


@pytest.fixture(scope="module", params=parameters(ROWS))
def row(request: pytest.FixtureRequest) -> Row:
    chosen = request.param
    assert isinstance(chosen, Row)
    return chosen


@pytest.fixture(scope="module")
def greeter(
    row: Row, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Serve a row of the table as it says."""
    try:
        env = toolchain(row)
        folder = build(row, tmp_path_factory.mktemp("code"), env)
    except pytest.skip.Exception:
        if str(row) not in skipped:
            skipped.append(str(row))
        raise
    failed_before = request.session.testsfailed
    program = shutil.which(row.needs, path=env["PATH"])
    assert program
    with Server(
        None,
        *options(row, env),
        command=[str(PROJECT / row.words[0])],
        code_dir=folder,
        env=env,
        belongs="server" if row.is_server else "",
    ) as server:
        yield server
    if request.session.testsfailed == failed_before:
        tested.append(f"{row} ({row.needs} {version_of(Path(program))})")


def test_it_answers_and_its_line_is_between_start_and_end(greeter: Server) -> None:
    for name in ("Ada", "Grace", "Łukasz"):
        request_id = f"greets-{name.encode().hex()}"
        reply = greeter.invoke(f"{name}\n", request_id=request_id)
        assert (reply.status, reply.body.decode()) == (200, f"Hello, {name}!")
        _, *between, _ = greeter.log_of(request_id)
        lines = [line for line in between if f"{request_id} " in line]
        assert any("greeting" in line for line in lines), between


def test_a_failing_event_is_a_typed_failure(row: Row, greeter: Server) -> None:
    reply = greeter.invoke(b"", request_id="nobody")
    failure = reply.json()
    assert (reply.status, reply.headers["x-fc-status"]) == (404, "404")
    assert "there is nobody to greet" in failure["errorMessage"]
    if row.is_server:
        assert failure["errorType"] == "NoName"
    else:
        assert failure["errorType"] == "CommandFailed"
        assert failure["details"]["exitCode"] == 1
        assert failure["errorMessage"].startswith("The command exited with code 1: ")
    assert greeter.log_of("nobody")[-1].endswith("Error: Unhandled function error")
    assert greeter.invoke(b"Ada").body == b"Hello, Ada!"


@pytest.mark.parametrize(
    "row", parameters([row for row in ROWS if row.is_server]), indirect=True
)
def test_a_crash_costs_one_call(row: Row, greeter: Server) -> None:
    assert greeter.invoke(b"crash").error_type == "ProcessExitedError"
    assert greeter.invoke(b"Ada").body == b"Hello, Ada!"


def test_every_language_of_the_platforms_list_has_a_row() -> None:
    assert {row.language for row in ROWS} == LANGUAGES


def test_every_example_is_in_the_table() -> None:
    folders = {path for path in FOLDER.iterdir() if path.is_dir()}
    assert {row.folder for row in ROWS} == folders


def test_what_nobody_can_run_is_not_claimed() -> None:
    untested = {row.language for row in ROWS if row.status == "UNTESTED"}
    assert {row.status for row in ROWS} == {"tested", "UNTESTED"}
    assert untested == {"Dart", "PowerShell"}
