"""Env files: what people write there, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from isoruntime.cli.env_file import read_env_file


def read(tmp_path: Path, text: str) -> tuple[dict[str, str], list[str]]:
    path = tmp_path / "env"
    path.write_bytes(text.encode())
    return read_env_file(str(path))


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("A = 1  ", "1"),
        ("export A=1", "1"),
        ("A=", ""),
        ("A=a b", "a b"),
        ("A=a#b", "a#b"),
        ("A=a # said", "a"),
        ("A=#", ""),
        ("A='a # b' # said", "a # b"),
        ("A='a\\nb'", "a\\nb"),
        ('A="a\\nb"', "a\nb"),
        ('A="say \\"a\\""', 'say "a"'),
        ("A=a=b", "a=b"),
        ("\ufeffA=1", "1"),
        ("A=\u00e9\r\n", "\u00e9"),
        ("A=1\nA=2", "2"),
    ],
)
def test_a_line_means_what_a_shell_would_make_of_it(
    tmp_path: Path, line: str, value: str
) -> None:
    assert read(tmp_path, line) == ({"A": value}, [])


def test_comments_and_empty_lines_are_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "# A=1\n\n   \n  # B\n") == ({}, [])


def test_every_bad_line_is_told(tmp_path: Path) -> None:
    text = 'A\n2=1\nB=\'x\nC="x" y\nISORUNTIME_PORT=1\naccessKeySecret=1\nD=1\n'
    variables, problems = read(tmp_path, text)
    assert variables == {"D": "1"}
    path = tmp_path / "env"
    starts = [
        f"{path}:1: is not KEY=VALUE",
        f"{path}:2: is not KEY=VALUE",
        f"{path}:3: has a ' that is not closed",
        f'{path}:4: has a " that is not closed, or text after it',
        f"{path}:5: ISORUNTIME_PORT is the runtime's own",
        f"{path}:6: accessKeySecret reaches no worker as a variable",
    ]
    assert len(problems) == len(starts)
    for problem, start in zip(problems, starts, strict=True):
        assert problem.startswith(start)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert "No such file" in read_env_file(str(tmp_path / "none"))[1][0]
    (tmp_path / "env").write_bytes(b"A=\xff")
    assert "not UTF-8" in read_env_file(str(tmp_path / "env"))[1][0]
