"""The command line, as a shell would use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isoruntime import __version__
from isoruntime.cli import options
from isoruntime.cli.invoke.command import OWN, TAKEN
from isoruntime.cli.main import COMMANDS
from isoruntime.settings import DECLARED

ROOT = Path(__file__).parents[2]


def isoruntime(
    *words: str, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isoruntime", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **(variables or {})},
    )


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_the_help_names_every_command(words: tuple[str, ...]) -> None:
    done = isoruntime(*words)
    assert (done.returncode, done.stderr) == (0, "")
    for usage, purpose in COMMANDS.values():
        assert usage in done.stdout
        assert purpose in done.stdout


def test_the_help_fits_a_screen_and_begins_with_what_is_needed_first() -> None:
    lines = isoruntime().stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    first = [line.split()[1] for line in lines if line.startswith("  isoruntime ")]
    assert len(first) == 3
    assert {"invoke", "serve"} <= set(first)
    assert set(first) <= set(COMMANDS)


def test_the_help_of_invoke_tells_every_option_and_setting() -> None:
    done = isoruntime("invoke", "--help", variables={"COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    words = " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 80
    for option in OWN:
        assert f" {', '.join(option.flags)} {option.metavar}".rstrip() in words
    for setting in TAKEN:
        assert f" {setting.flag} " in words
        assert setting.variable in words


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(command: str) -> None:
    done = isoruntime(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: isoruntime {command}")


@pytest.mark.parametrize(
    "words", [("version",), ("--version",), ("serve", "--version")]
)
def test_the_version_is_told(words: tuple[str, ...]) -> None:
    done = isoruntime(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"isoruntime {__version__} ")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("srve",), "'srve' is not a command: did you mean serve?"),
        (("nonsense",), f"the commands are {', '.join(COMMANDS)}"),
        (("index.handler",), "to run this handler, isoruntime serve index.handler"),
        (("--port", "1"), "--port stands where a command should"),
        (("version", "--all"), "version takes no arguments: leave out --all"),
    ],
)
def test_a_wrong_command_is_answered_with_the_right_ones(
    words: tuple[str, ...], problem: str
) -> None:
    done = isoruntime(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_the_help_of_serve_tells_every_setting_and_fits(columns: str) -> None:
    done = isoruntime("serve", "--help", variables={"COLUMNS": columns})
    assert (done.returncode, done.stderr) == (0, "")
    words = " ".join(done.stdout.split())
    for setting in DECLARED:
        assert f" {setting.flag} " in words
        assert setting.variable in words
        assert f"else {setting.default_text}]" in words
        assert all(variable in words for variable in setting.fc)
    assert "--fresh" in words
    assert max(map(len, done.stdout.splitlines())) <= min(100, max(60, int(columns)))


def test_all_problems_come_at_once_and_nothing_starts() -> None:
    done = isoruntime(
        *("serve", "index.handler", "stray", "--prot=80", "--timeout", "never"),
        *("--port", "--queue", "-3"),
        variables={"ISORUNTIME_SANDBOX": "of", "ISORUNTIME_MAX_WORKER": "2"},
    )
    assert (done.returncode, done.stdout) == (2, "")
    wanted = [
        "'stray' is one argument too many: give one HANDLER",
        "--prot is no option: did you mean --port?",
        "--port lacks its value: give --port N",
        "--timeout 'never' is not a number of seconds:",
        "--queue '-3' is too small:",
        "ISORUNTIME_SANDBOX='of' is not known: did you mean off?",
        "ISORUNTIME_MAX_WORKER is no setting: did you mean ISORUNTIME_MAX_WORKERS?",
    ]
    lines = done.stderr.splitlines()
    assert len(lines) == len(wanted)
    for line, start in zip(lines, wanted, strict=True):
        assert line.startswith(f"isoruntime: {start}")


def test_an_abbreviated_flag_is_not_guessed() -> None:
    done = isoruntime("serve", "--max-work", "3")
    assert done.returncode == 2
    assert "--max-work is no option: did you mean --max-workers?" in done.stderr


def test_a_switch_with_a_value_is_told_beside_bad_variables() -> None:
    done = isoruntime("serve", "--fresh=1", variables={"ISORUNTIME_PORT": "x"})
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert "--fresh" in first
    assert "ISORUNTIME_PORT='x'" in second


def test_a_current_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && exec "$2" -m isoruntime serve'
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(gone), sys.executable],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert "current directory" in done.stderr
    assert "--code-dir" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        pytest.param([], {}, id="nothing"),
        pytest.param(["a.b"], {"handler": "a.b"}, id="the handler first"),
        pytest.param(
            ["--port", "0", "--fresh", "a.b"],
            {"port": "0", "fresh": True, "handler": "a.b"},
            id="the handler last",
        ),
        pytest.param(
            ["--port=0", "a.b", "--drain", "1"],
            {"port": "0", "handler": "a.b", "drain_s": "1"},
            id="the handler in between",
        ),
        pytest.param(["--queue", "-5"], {"queue": "-5"}, id="a negative number"),
        pytest.param(["--port", "1", "--port", "2"], {"port": "2"}, id="the last wins"),
        pytest.param(
            ["--env", "A", "--env", "B,C"], {"env": ["A", "B,C"]}, id="repeated"
        ),
        pytest.param(
            ["--port", "1", "--command", "--", "ls", "--port", "--", "2"],
            {"port": "1", "command": ["ls", "--port", "--", "2"]},
            id="a command keeps its own words",
        ),
        pytest.param(["--upstream", "--"], {"upstream": []}, id="an empty command"),
        pytest.param(["--", "a.b"], {"handler": "a.b"}, id="a bare double dash"),
        pytest.param(["--", "-5"], {"handler": "-5"}, id="no option after it"),
        pytest.param(["--network="], {"network": ""}, id="an empty value"),
        pytest.param(["--env", "--fresh"], {"env": [None], "fresh": True}, id="none"),
    ],
)
def test_words_are_read_as_flags(words: list[str], flags: dict[str, object]) -> None:
    assert options.parse(words) == (flags, [])


def test_an_option_of_one_letter_can_have_its_value_at_its_heels() -> None:
    wanted = {"event": "- a b"}
    for words in (["-e", "- a b"], ["-e=- a b"], ["-e- a b"], ["--event", "- a b"]):
        assert options.parse(words, "invoke", OWN, TAKEN) == (wanted, [])


def test_the_value_of_an_unknown_option_is_not_taken_for_the_handler() -> None:
    flags, problems = options.parse(["--prot", "80", "--pre-load=x", "a.b"])
    assert flags == {"handler": "a.b"}
    assert problems == [
        "--prot is no option: did you mean --port? see isoruntime serve --help",
        "--pre-load is no option: did you mean --preload? see isoruntime serve --help",
    ]


def test_what_is_on_or_off_has_no_value() -> None:
    flags, problems = options.parse(["--fresh=no", "--port", "1"])
    assert flags["port"] == "1"
    assert problems == ["--fresh takes no value: leave out '=no'"]


def test_a_stray_word_after_an_unknown_option_is_taken_for_its_value() -> None:
    _, problems = options.parse(["a.b", "--prot", "80"])
    assert len(problems) == 1
