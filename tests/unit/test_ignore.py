"""`.fcignore`: what is left out, held to what git leaves out for the same patterns."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from isoruntime.project.ignore import Ignore

#: What patterns are put together from, the awkward ones included.
PIECES = [
    *("a", "b", "c", "*", "**", "/", "?", ".", " ", "-", "!", "#", "\\", "]", "["),
    *("[ab]", "[!a]", "[^b-c]", "[]a]", "[!]]", "[a\\]]", "[\\\\]", "[a-\\c]", "[a-"),
    *("[b-a]", "[[:alpha:]]", "[[:punct:]]", "[![:digit:]]", "[[:x:]]", "[[:a]"),
    *("\\*", "\\ ", "/**/", "**/", "/**"),
]
NAMES = [
    *("a", "b", "c", "ab", "abc", "a.b", "*", "a b", "]", "-", "[", "!a", "#a", "ba"),
    *("\\", "a ", "z9"),
]
#: Where git does not follow its manual: these stars match no slash, as the manual says.
STRAYED = re.compile(r"[^/!]\*\*+/")


@pytest.mark.parametrize(
    ("patterns", "path", "is_folder", "ignored"),
    [
        pytest.param([], "index.py", False, False, id="no patterns"),
        pytest.param(["*.log"], "a/b/x.log", False, True, id="a name anywhere"),
        pytest.param(["/*.log"], "a/x.log", False, False, id="anchored by a slash"),
        pytest.param(["a/x"], "b/a/x", False, False, id="anchored by a slash inside"),
        pytest.param(["**/a/x"], "b/a/x", False, True, id="any folders before"),
        pytest.param(["a/**/x"], "a/x", False, True, id="no folder between"),
        pytest.param(["a/**"], "a", True, False, id="everything in it, not itself"),
        pytest.param(["build/"], "build", False, False, id="a file named as a folder"),
        pytest.param(["build/"], "build/x/y", False, True, id="below a folder"),
        pytest.param(["*", "!index.py"], "index.py", False, False, id="taken back in"),
        pytest.param(["!a", "a"], "a", False, True, id="the last one decides"),
        pytest.param(["a/", "!a/x"], "a/x", False, True, id="not below a folder"),
        pytest.param(["#a"], "#a", False, False, id="a comment"),
        pytest.param(["\\#a"], "#a", False, True, id="no comment"),
        pytest.param(["a  "], "a", False, True, id="spaces at the end"),
        pytest.param(["a\\ "], "a ", False, True, id="a space that is meant"),
        pytest.param(["a[b"], "a[b", False, False, id="an open bracket"),
        pytest.param(["?"], "é", False, True, id="one character of two bytes"),
        pytest.param(["a?b"], "a/b", False, False, id="a slash is no character"),
        pytest.param([".*", "!.env"], ".git", True, True, id="hidden ones"),
        pytest.param(["*.pyc"], "a\nb.pyc", False, True, id="a newline in a name"),
    ],
)
def test_a_path_is_judged_as_the_manual_says(
    patterns: list[str], path: str, is_folder: bool, ignored: bool
) -> None:
    assert Ignore(patterns).matches(path, is_folder) is ignored


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_the_file_is_read_however_its_lines_end(tmp_path: Path, ending: str) -> None:
    text = ending.join(["# tools", "*.log", "", "caf\u00e9/"])
    (tmp_path / ".fcignore").write_bytes(b"\xef\xbb\xbf" + text.encode())
    ignore = Ignore.read(tmp_path)
    assert ignore.matches("x.log", False)
    assert ignore.matches("café/x", False)
    assert not ignore.matches("x.py", False)


def test_without_the_file_nothing_is_ignored(tmp_path: Path) -> None:
    assert not Ignore.read(tmp_path).matches(".fcignore", False)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    """Fill a folder; return the path of all there is, and whether it is a folder."""
    root = tmp_path_factory.mktemp("tree")
    draw = random.Random(7)  # noqa: S311 - the same tree every time
    for _ in range(150):
        path = root.joinpath(*(draw.choice(NAMES) for _ in range(draw.randint(1, 4))))
        if any(parent.is_file() for parent in (path, *path.parents)):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.mkdir() if draw.random() < 0.4 else path.touch()
    return {str(path): path.is_dir() for path in [root, *root.rglob("*")]}


def ignored_by_git(root: Path, paths: list[str]) -> set[str]:
    """Return those of the paths that git leaves out."""
    done = subprocess.run(
        ["git", "check-ignore", "-z", "--no-index", "--stdin"],
        cwd=root,
        input="\0".join(paths).encode(),
        capture_output=True,
        check=False,
        env={"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"},
    )
    assert done.returncode in (0, 1), done.stderr
    return set(done.stdout.decode().split("\0")) - {""}


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git to ask")
@pytest.mark.parametrize("seed", range(4))
def test_git_leaves_out_the_same(tree: dict[str, bool], seed: int) -> None:
    root, *paths = map(Path, tree)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    names = [str(path.relative_to(root)) for path in paths]
    draw = random.Random(seed)  # noqa: S311 - the same patterns every time
    for _ in range(60):
        lines = []
        while len(lines) < draw.choice([1, 1, 2, 4]):
            line = draw.choice(["", "", "!"])
            line += "".join(draw.choice(PIECES) for _ in range(draw.randint(1, 6)))
            lines += [] if STRAYED.search(line) else [line]
        (root / ".gitignore").write_text("\n".join(lines) + "\n")
        ignore = Ignore(lines)
        ours = {
            name
            for name, path in zip(names, paths, strict=True)
            if ignore.matches(name, tree[str(path)])
        }
        assert ours == ignored_by_git(root, names), lines
