"""`isoruntime init` and `isoruntime package`: from nothing to a zip that serves.

Packages come from wheels made here of what is installed; no registry is asked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support import wheels
from tests.support.command import (
    Done,
    a_free_port,
    environment,
    on_a_terminal,
    run,
    without,
)
from tests.support.server import PROJECT, Serve, temp_folder

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
TAG = sys.implementation.cache_tag
SCHEMA = Path(
    os.environ.get("ISORUNTIME_TEST_FC3_SCHEMA")
    or PROJECT.parent / "shared" / "data" / "fc3-schema.json"
)
CODE = """\
import os, signal
import greeter

def handler(event, context):
    if event == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if event == b"where":
        import isoruntime, psutil, waitress
        return [isoruntime.__file__, psutil.__file__, waitress.__file__]
    return greeter.greet(event.decode())
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Make wheels, and return variables that have pip look there alone."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in ("waitress", "psutil"):
        wheels.repacked(name, folder)
    greet = "def greet(name): return f'Hello, {name}!'\n"
    script = "#!/usr/bin/python3.2\n"
    wheels.made(
        "greeter",
        folder,
        {"greeter.py": greet, "greeter-1.0.data/scripts/greet": script},
    )
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": "/"}


@pytest.fixture
def function(tmp_path: Path) -> Path:
    """Make a function with a requirement."""
    made = tmp_path / "greeter"
    assert run("init", str(made)).code == 0
    (made / "index.py").write_text(CODE)
    (made / "requirements.txt").write_text("greeter==1.0\n")
    return made


def package(folder: Path, index: Mapping[str, str], *words: str, **env: str) -> Done:
    given = ("package", str(folder), "--python", VERSION, *words)
    return run(*given, env={**index, **env})


def unpacked(archive: Path, into: Path) -> Path:
    """Unpack as the platform does: with modes and links."""
    into.mkdir()
    with zipfile.ZipFile(archive) as opened:
        for one in opened.infolist():
            mode = one.external_attr >> 16
            if stat.S_ISLNK(mode):
                (into / one.filename).symlink_to(opened.read(one).decode())
            else:
                Path(opened.extract(one, into)).chmod(stat.S_IMODE(mode))
    return into


# A new function


def test_a_new_function_is_complete_and_says_what_to_type(tmp_path: Path) -> None:
    done = run("init", "my app", cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")
    folder = tmp_path / "my app"
    made = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert made == {
        *("index.py", "bootstrap", "events", "events/hello.json", "s.yaml"),
        *("requirements.txt", ".fcignore", ".gitignore"),
    }
    assert stat.S_IMODE((folder / "bootstrap").stat().st_mode) & 0o111 == 0o111
    assert (folder / "bootstrap").read_bytes() == (PROJECT / "bootstrap").read_bytes()
    shown = done.stdout.decode()
    assert all(f"  {name} " in shown for name in made if name != "events")
    typed = [
        line for line in shown.splitlines() if line.startswith(f"  {sys.executable}")
    ]
    assert len(typed) == 3
    env = environment("", tmp_path, {"PIP_NO_INDEX": "1"})
    first = subprocess.run(
        ["sh", "-c", typed[0]], cwd=tmp_path, env=env, capture_output=True, check=True
    )
    assert json.loads(first.stdout) == {"greeting": "Hello, Function Compute!"}


def test_a_new_function_in_the_current_folder_is_served(
    code_dir: Path, serve: Serve
) -> None:
    shown = run("init", cwd=code_dir).stdout.decode()
    assert "-m isoruntime serve  " in shown
    server = serve(code_dir=code_dir)
    assert server.invoke(b"").json() == {"greeting": "Hello, world!"}


def test_a_new_function_may_be_called_like_its_event(tmp_path: Path) -> None:
    run("init", "hello", cwd=tmp_path)
    done = run("invoke", "--code-dir", "hello", "-e", "@hello", cwd=tmp_path)
    assert done.json() == {"greeting": "Hello, Function Compute!"}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text("mine")
    (tmp_path / "bootstrap").symlink_to("nowhere")
    done = run("init", cwd=tmp_path)
    assert done.code == 0
    assert (tmp_path / "index.py").read_text() == "mine"
    assert (tmp_path / "bootstrap").is_symlink()
    kept = [line for line in done.stdout.decode().splitlines() if "is kept" in line]
    assert [line.split()[0] for line in kept] == ["index.py", "bootstrap"]
    before = {path: path.lstat() for path in tmp_path.rglob("*")}
    assert run("init", cwd=tmp_path).code == 0
    assert {path: path.lstat() for path in tmp_path.rglob("*")} == before


def test_where_nothing_can_be_made_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("init", "file", cwd=tmp_path)
    assert done.code == 2
    assert "file is no folder: give one, or a name for a new one" in done.stderr
    done = run("init", "/proc/nothing", cwd=tmp_path)
    assert done.code == 1
    assert "/proc/nothing cannot be made: No such file" in done.stderr
    done = run("init", "a", "b", "--nme", cwd=tmp_path)
    assert done.code == 2
    assert len(done.lines) == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("name", ["my-app", "2048", "Grüße an alle", "___"])
def test_the_manifest_of_a_new_function_is_fine(tmp_path: Path, name: str) -> None:
    run("init", name, cwd=tmp_path)
    done = run("check", name, cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.decode().startswith("nothing found; looked at")


def test_the_manifest_of_a_new_function_passes_the_schema(tmp_path: Path) -> None:
    if not SCHEMA.is_file():
        pytest.skip(f"the schema is not here: {SCHEMA}")
    import jsonschema
    import yaml

    schema = json.loads(SCHEMA.read_text())
    run("init", "fn", cwd=tmp_path)
    for path in (tmp_path / "fn" / "s.yaml", PROJECT / "deploy" / "s.yaml"):
        manifest = yaml.safe_load(path.read_text())
        assert manifest["edition"] == "3.0.0"
        for resource in manifest["resources"].values():
            errors = jsonschema.Draft7Validator(schema).iter_errors(resource["props"])
            assert [error.message for error in errors] == []


# Its zip


def test_the_same_function_makes_the_same_bytes_wherever_it_lies(
    function: Path, index: Mapping[str, str], tmp_path: Path
) -> None:
    done = package(function, index)
    assert (done.code, done.stderr) == (0, "")
    first = (function / "code.zip").read_bytes()
    copy = shutil.copytree(function, tmp_path / "elsewhere")
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    (copy / "code.zip").unlink()
    assert package(copy, index, "-o", str(tmp_path / "other.zip")).code == 0
    assert (tmp_path / "other.zip").read_bytes() == first
    dated = package(function, index, SOURCE_DATE_EPOCH="1700000000")
    assert dated.code == 0
    assert (function / "code.zip").read_bytes() != first


def test_the_report_names_sizes_versions_and_why(
    function: Path, index: Mapping[str, str]
) -> None:
    shown = package(function, index).stdout.decode()
    assert "MB of the 500 MB that a zip may have" in shown
    assert "MB of the function's disk of 512 MB" in shown
    assert f"Python {VERSION} on manylinux_2_28_x86_64: as asked for" in shown
    for name in ("isoruntime", "waitress", "psutil", "greeter 1.0"):
        assert name in shown.splitlines()[3]


def test_the_zip_holds_what_is_needed_and_nothing_of_this_machine(
    function: Path, index: Mapping[str, str]
) -> None:
    script = (function / "bootstrap").read_bytes()
    (function / "bootstrap").write_bytes(script.replace(b"\n", b"\r\n"))
    (function / "bootstrap").chmod(0o644)
    (function / ".fcignore").write_text("tests/\n")
    (function / "tests").mkdir()
    (function / "tests" / "test_it.py").touch()
    (function / "here").symlink_to("index.py")
    shown = package(function, index).stdout.decode()
    assert "bootstrap: its line endings, CRLF, are made LF" in shown
    assert "bootstrap: it is made executable" in shown
    with zipfile.ZipFile(function / "code.zip") as made:
        modes = {one.filename: one.external_attr >> 16 for one in made.infolist()}
        assert made.read("bootstrap") == script
        names = set(made.namelist())
        record = made.read("python/greeter-1.0.dist-info/RECORD").decode()
        everything = b"".join(made.read(name) for name in names)
    assert modes["bootstrap"] == stat.S_IFREG | 0o755
    assert stat.S_ISLNK(modes["here"])
    assert {
        *(
            "index.py",
            "python/isoruntime/__main__.py",
            "python/isoruntime/worker/__init__.py",
        ),
        *("python/isoruntime/project/bootstrap", "python/waitress/__init__.py"),
        *("python/greeter.py", "python/greeter-1.0.dist-info/METADATA"),
    } <= names
    unwanted = [
        name
        for name in names
        if name.endswith(("INSTALLER", "direct_url.json", "code.zip"))
        or name.startswith(("tests/", "python/bin/"))
    ]
    assert unwanted == []
    assert "greeter.py" in record
    assert "bin/greet" not in record
    assert str(function).encode() not in everything
    assert os.fsencode(sys.prefix) not in everything


def test_the_zip_serves_with_a_bare_interpreter(
    function: Path, index: Mapping[str, str], tmp_path: Path, serve: Serve
) -> None:
    assert package(function, index).code == 0
    code = unpacked(function / "code.zip", tmp_path / "unpacked")
    bare = tmp_path / "bare"
    venv.create(bare, with_pip=False, symlinks=True)
    command = [str(code / "bootstrap")]
    env = {"PATH": f"{bare / 'bin'}:/usr/bin:/bin", "PYTHONPATH": ""}
    env |= {"ISORUNTIME_PYTHON": ""}
    server = serve(command=command, code_dir=code, env=env)
    assert server.invoke(b"zip").body == b"Hello, zip!"
    crashed = server.invoke(b"crash")
    assert crashed.error_type == "ProcessExitedError"
    assert crashed.json()["details"]["signal"] == "SIGSEGV"
    assert server.invoke(b"again").body == b"Hello, again!"
    places = server.invoke(b"where").json()
    assert len(places) == 3
    assert all(place.startswith(f"{code}/python/") for place in places)


def test_nothing_is_found_in_a_new_function_nor_in_its_zip(
    tmp_path: Path, index: Mapping[str, str]
) -> None:
    run("init", "fn", cwd=tmp_path)
    assert package(tmp_path / "fn", index).code == 0
    unpacked(tmp_path / "fn" / "code.zip", tmp_path / "code")
    for name in ("fn", "code"):
        done = run("check", name, cwd=tmp_path)
        assert (done.code, done.stderr) == (0, "")
        assert done.stdout.decode().startswith("nothing found; looked at")


def test_the_manifest_of_the_examples_packs_them_as_check_expects(
    tmp_path: Path, index: Mapping[str, str], serve: Serve
) -> None:
    import yaml

    for name in ("deploy", "examples"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    deploy = tmp_path / "deploy"
    done = run("check", "s.yaml", cwd=deploy)
    assert (done.code, done.stderr) == (0, "")
    [function] = yaml.safe_load((deploy / "s.yaml").read_text())["resources"].values()
    [before] = function["actions"]["pre-deploy"]
    command, *words = before["run"].split()
    assert command == "isoruntime"
    where = deploy / before["path"]
    assert run(*words, "--python", VERSION, cwd=where, env=index).code == 0
    props = function["props"]
    code = unpacked(deploy / props["code"], tmp_path / "code")
    [start] = props["customRuntimeConfig"]["command"]
    bootstrap = code / Path(start).relative_to("/code")
    server = serve(props["handler"], command=[str(bootstrap)], code_dir=code)
    assert server.invoke(b'{"key": "value"}').status == 200


def test_without_packages_the_folder_alone_is_packed(function: Path) -> None:
    words = ("package", "--no-vendor", "--python", VERSION)
    done = run(*words, cwd=function)
    assert (done.code, done.stderr) == (0, "")
    files = ["bootstrap", "index.py", "requirements.txt"]
    with zipfile.ZipFile(function / "code.zip") as made:
        assert made.namelist() == [f"__pycache__/index.{TAG}.pyc", *files]
    assert run(*words, "--no-bytecode", cwd=function).code == 0
    with zipfile.ZipFile(function / "code.zip") as made:
        assert made.namelist() == files


def test_all_code_is_shipped_with_its_bytecode_which_is_used(
    function: Path, index: Mapping[str, str], tmp_path: Path
) -> None:
    (function / "lib").mkdir()
    (function / "lib" / "of python 2.py").write_text("print 'no'\n")
    # What is set for the one who packs is not for what is packed.
    done = package(function, index, PYTHONOPTIMIZE="2", PYTHONPYCACHEPREFIX="/x")
    code = unpacked(function / "code.zip", tmp_path / "unpacked")
    sources = {
        path.relative_to(code).with_suffix("")
        for path in code.rglob("*.py")
        if " " not in path.name
    }
    compiled = {
        path.relative_to(code).parent.parent / path.name.removesuffix(f".{TAG}.pyc")
        for path in code.rglob("*.pyc")
    }
    assert compiled == sources
    assert (
        f"  bytecode   for Python {VERSION}, {len(sources)} files"
        in done.stdout.decode()
    )
    path = os.pathsep.join([str(code), str(code / "python")])
    names = ("index", "greeter", "waitress", "isoruntime.worker.main")
    seen = subprocess.run(
        [sys.executable, "-v", "-c", f"import {', '.join(names)}"],
        env={"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        stderr=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    ).stderr
    # "code object from" a source says that it has been compiled.
    loaded = re.findall(rf"# code object from '{re.escape(str(code))}/(.*)'", seen)
    assert {
        f"__pycache__/index.{TAG}.pyc",
        f"python/__pycache__/greeter.{TAG}.pyc",
    } <= {*loaded}
    assert len(loaded) > len(names)
    assert [name for name in loaded if not name.endswith(".pyc")] == []


def test_code_that_is_edited_where_it_was_unpacked_is_compiled_anew(
    function: Path, index: Mapping[str, str], tmp_path: Path, serve: Serve
) -> None:
    assert package(function, index).code == 0
    code = unpacked(function / "code.zip", tmp_path / "unpacked")
    edited = CODE.replace("greeter.greet(event.decode())", "'edited'")
    (code / "index.py").write_text(edited)
    os.utime(code / "index.py", (1, 1))
    server = serve(command=[str(code / "bootstrap")], code_dir=code)
    assert server.invoke(b"who").body == b"edited"


def test_where_the_python_is_not_here_the_zip_has_no_bytecode_and_that_is_said(
    function: Path, tmp_path: Path
) -> None:
    other = "3.12" if VERSION != "3.12" else "3.11"
    programs = tmp_path / "programs"
    programs.mkdir()
    words = ("package", "--no-vendor", "--python", other)
    for program in (
        "",
        "#!/bin/sh\nexit 127\n",
        f"#!/bin/sh\nexec {sys.executable} $@\n",
    ):
        if program:
            (programs / f"python{other}").write_text(program)
            (programs / f"python{other}").chmod(0o755)
        done = run(*words, cwd=function, env={"PATH": str(programs)})
        assert (done.code, done.stderr) == (0, "")
        assert "note       no bytecode, so that each cold start" in done.stdout.decode()
        with zipfile.ZipFile(function / "code.zip") as made:
            assert not [name for name in made.namelist() if name.endswith(".pyc")]


def test_packages_that_lie_in_the_folder_give_way_to_fetched_ones(
    function: Path, index: Mapping[str, str]
) -> None:
    old = function / "python" / "waitress"
    old.mkdir(parents=True)
    (old / "old.py").touch()
    (function / "python" / "waitress-1.0.dist-info").mkdir()
    (function / "python" / "waitress-1.0.dist-info" / "METADATA").touch()
    (function / "python" / "own.py").touch()
    shown = package(function, index).stdout.decode()
    assert "python/ had waitress, waitress.dist-info already: replaced" in shown
    with zipfile.ZipFile(function / "code.zip") as made:
        names = made.namelist()
    assert "python/own.py" in names
    assert len(names) == len(set(names))
    assert not [name for name in names if "old.py" in name or "waitress-1.0" in name]


def test_pips_last_words_are_told_when_it_fails(
    function: Path, index: Mapping[str, str]
) -> None:
    (function / "requirements.txt").write_text("greeter==2.0\n")
    done = package(function, index)
    assert done.code == 1
    assert f"pip did not get what python/ needs for Python {VERSION}" in done.stderr
    assert "No matching distribution found for greeter==2.0" in done.stderr
    assert "PIP_FIND_LINKS=wheels isoruntime package" in done.stderr
    assert not (function / "code.zip").exists()


def test_an_index_that_is_not_reached_is_told_apart_from_a_missing_wheel(
    function: Path,
) -> None:
    nobody = f"http://127.0.0.1:{a_free_port()}/"
    pips = {"PIP_INDEX_URL": nobody, "PIP_RETRIES": "1", "PIP_CONFIG_FILE": "/"}
    done = run("package", str(function), env={**pips, "PIP_FIND_LINKS": ""})
    assert done.code == 1
    assert "the package index was not reached: PIP_INDEX_URL names" in done.lines[-1]
    assert not (function / "code.zip").exists()


def test_where_nothing_can_be_written_the_system_s_reason_is_told(
    function: Path,
) -> None:
    done = run("package", str(function), "--no-vendor", "-o", "/proc/code.zip")
    assert done.code == 1
    assert done.lines == [
        "isoruntime: /proc/code.zip was not written: No such file or directory; "
        "-o names another place"
    ]


def test_what_asks_for_packages_by_python_version_is_named(
    function: Path, index: Mapping[str, str], tmp_path: Path
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    wheels.made("other", links, {"other.py": ""}, requires="x; python_version<'3'")
    (function / "requirements.txt").write_text("greeter\nother\n")
    elsewhere = "3.12" if VERSION != "3.12" else "3.11"
    both = f"{index['PIP_FIND_LINKS']} {links}"
    done = run(
        *("package", str(function), "--python", elsewhere),
        env={**index, "PIP_FIND_LINKS": both},
    )
    assert done.code == 0
    assert "note       other asks for packages depending on" in done.stdout.decode()
    assert "greeter asks" not in done.stdout.decode()


def test_without_pip_it_is_named(function: Path, tmp_path: Path) -> None:
    done = run("package", str(function), env=without("pip", tmp_path))
    assert done.code == 1
    assert "has no pip, which fetches the packages" in done.stderr


@pytest.mark.parametrize(
    ("words", "problems"),
    [
        (["nowhere"], ["nowhere is no folder: give the one with the code"]),
        (["-o", "no/code.zip"], ["no is no folder"]),
        (["-o", "index.py"], ["index.py is there and no zip: it is kept"]),
        (["-o", "events"], ["events is a folder"]),
        (
            ["--pyhton", "3.11", "-x"],
            ["did you mean --python? see isoruntime package", "'-x'"],
        ),
        (["--python"], ["--python"]),
    ],
    ids=["no folder", "no such place", "a file", "a folder", "misspelt", "no value"],
)
def test_what_cannot_be_is_told_and_nothing_is_made(
    function: Path, words: list[str], problems: list[str]
) -> None:
    done = run("package", *words, cwd=function)
    assert (done.code, done.stdout) == (2, b"")
    for line, problem in zip(done.lines, problems, strict=True):
        assert problem in line
    assert not (function / "code.zip").exists()


def test_a_function_that_cannot_be_shipped_is_refused_with_all_reasons(
    function: Path,
) -> None:
    (function / "out").symlink_to("/etc/passwd")
    (function / "up").symlink_to("../other")
    done = run("package", "--no-vendor", cwd=function)
    assert done.code == 1
    assert len(done.lines) == 2
    assert "make it relative, or name it in .fcignore" in done.lines[0]
    (function / "up").unlink()
    (function / "out").unlink()
    with (function / "big.bin").open("wb") as file:
        file.truncate(600 << 20)
    done = run("package", "--no-vendor", cwd=function)
    assert done.code == 1
    assert "unpacked it takes 600 MB, and the function's disk has 512 MB" in done.stderr
    assert not (function / "code.zip").exists()


def test_a_folder_without_anything_is_refused(tmp_path: Path) -> None:
    done = run("package", cwd=tmp_path)
    assert done.code == 1
    assert "nothing to deploy: isoruntime init" in done.stderr


def test_a_moment_that_is_none_is_refused(function: Path) -> None:
    done = run("package", cwd=function, env={"SOURCE_DATE_EPOCH": "yesterday"})
    assert done.code == 2
    assert "SOURCE_DATE_EPOCH='yesterday' is no whole number" in done.stderr


@pytest.mark.parametrize(("seconds", "is_shown"), [("0", False), ("1.1", True)])
def test_what_takes_longer_than_a_second_is_shown_on_a_terminal(
    seconds: str, is_shown: bool
) -> None:
    script = (
        "import subprocess\n"
        "from isoruntime.cli.progress import shown\n"
        f"with shown('baking'): subprocess.run(['sleep', '{seconds}'])\n"
    )
    temp = temp_folder()
    try:
        env = environment("", temp)
        seen = on_a_terminal(sys.executable, "-c", script, cwd=PROJECT, env=env)
        piped = subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, check=True
        )
    finally:
        shutil.rmtree(temp)
    assert ("baking (1 s)" in seen) == is_shown
    assert not is_shown or seen.endswith("\r\033[K")
    assert (piped.stdout, piped.stderr) == (b"", b"")
