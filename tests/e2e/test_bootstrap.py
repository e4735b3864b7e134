"""`./bootstrap`, run for real: which Python it becomes, and what it says if there is none.

Most tests put the real script beside a small package called `isoruntime` that prints
what it was given; which interpreter is chosen does not depend on what it then runs.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("bootstrap", "tools/make-venv", "tests/run", ".ci/run")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
#: A run takes some 50 ms; one that never ends must not take the whole suite along.
RUN_WITHIN_S = 30
ON_PLATFORM = {"FC_FUNCTION_NAME": "hello"}

TELL = """\
import json, os, sys
print(json.dumps({"pid": os.getpid(), "arguments": sys.argv[1:], "prefix": sys.prefix,
                  "path": sys.path, "pythonpath": os.environ.get("PYTHONPATH"),
                  "executable": sys.executable}))
"""


@dataclass(frozen=True)
class Run:
    """How one run of the script ended."""

    pid: int
    status: int
    stdout: str
    stderr: str

    @property
    def told(self) -> dict[str, Any]:
        """What the Python that bootstrap became said of itself."""
        assert self.status == 0, self.stderr
        told: dict[str, Any] = json.loads(self.stdout)
        return told


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment of this Python that has neither waitress nor psutil."""
    made = tmp_path_factory.mktemp("bare")
    venv.create(made, with_pip=False, symlinks=True)
    return made


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder for PATH with what the script needs and no Python."""
    made = tmp_path_factory.mktemp("tools")
    for name in (
        "bash",
        "env",
        "flock",
        "mktemp",
        "mkdir",
        "mv",
        "readlink",
        "rm",
        "cat",
    ):
        found = shutil.which(name)
        assert found is not None
        (made / name).symlink_to(found)
    return made


@dataclass(frozen=True)
class Deployment:
    """A folder with the real script and a package that tells what it was given."""

    folder: Path
    path: str

    def vendor(self, *packages: str) -> None:
        """Put copies of installed packages into ./python, as `pip install -t` would."""
        for package in packages:
            spec = importlib.util.find_spec(package)
            assert spec is not None
            assert spec.submodule_search_locations is not None
            source = spec.submodule_search_locations[0]
            shutil.copytree(source, self.folder / "python" / package)

    def run(
        self,
        *arguments: str,
        script: str | Path | None = None,
        cwd: Path | None = None,
        path: str | None = None,
        **variables: str,
    ) -> Run:
        """Run the script in an environment that has nothing but `variables`."""
        command = [str(script or self.folder / "bootstrap"), *arguments]
        environment: Mapping[str, str] = {"PATH": path or self.path, **variables}
        with subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                stdout, stderr = process.communicate(timeout=RUN_WITHIN_S)
            except BaseException:
                # Leaving the block would wait for it.
                process.kill()
                raise
        return Run(process.pid, process.returncode, stdout, stderr)


@pytest.fixture
def deployment(tmp_path: Path, bare: Path, tools: Path) -> Deployment:
    """Deploy with nothing vendored; python3 is one without packages."""
    folder = tmp_path / "a code dir"
    (folder / "isoruntime").mkdir(parents=True)
    (folder / "isoruntime" / "__init__.py").touch()
    (folder / "isoruntime" / "__main__.py").write_text(TELL)
    shutil.copy(ROOT / "bootstrap", folder)
    return Deployment(folder, f"{bare / 'bin'}:{tools}")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_can_be_started_by_the_platform(script: str) -> None:
    text = (ROOT / script).read_bytes()
    assert text.startswith(b"#!/usr/bin/env bash\n")
    assert b"\r" not in text
    assert stat.S_IMODE((ROOT / script).stat().st_mode) & 0o111 == 0o111


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_keeps_its_exec_bit_in_git(script: str) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-s", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.startswith("100755 ")


def test_the_started_process_becomes_python_and_gets_the_options(
    deployment: Deployment,
) -> None:
    deployment.vendor("waitress", "psutil")
    run = deployment.run("--port", "0", "two words", "")
    assert run.told["pid"] == run.pid
    assert run.told["arguments"] == ["serve", "--port", "0", "two words", ""]
    assert run.stderr == ""


@pytest.mark.parametrize(
    "start", ["an absolute path", "a relative path", "a name for bash"]
)
def test_it_finds_what_lies_beside_it(
    deployment: Deployment, start: str, tmp_path: Path
) -> None:
    deployment.vendor("waitress", "psutil")
    if start == "an absolute path":
        run = deployment.run(cwd=tmp_path)
    elif start == "a relative path":
        run = deployment.run(script="./bootstrap", cwd=deployment.folder)
    else:
        run = deployment.run("bootstrap", script="bash", cwd=deployment.folder)
    assert str(deployment.folder / "python") in run.told["path"]


def test_a_symbolic_link_leads_to_what_lies_beside_the_script(
    deployment: Deployment, tmp_path: Path
) -> None:
    deployment.vendor("waitress", "psutil")
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "start"
    link.symlink_to(Path("..") / deployment.folder.name / "bootstrap")
    run = deployment.run(script=link, cwd=tmp_path / "elsewhere")
    assert str(deployment.folder) in run.told["path"]


def test_shipped_packages_come_before_the_users_path_which_stays(
    deployment: Deployment, tmp_path: Path
) -> None:
    deployment.vendor("waitress", "psutil")
    mine = f"{tmp_path / 'mine'}:{tmp_path / 'other'}"
    shipped = f"{deployment.folder / 'python'}:{deployment.folder}"
    run = deployment.run(PYTHONPATH=mine)
    assert run.told["pythonpath"].startswith(f"{shipped}:{mine}")


def test_the_working_directory_replaces_no_module_of_ours_or_the_standard_librarys(
    deployment: Deployment, tmp_path: Path
) -> None:
    deployment.vendor("waitress", "psutil")
    (tmp_path / "json.py").write_text("raise SystemExit('a handler was imported')")
    (tmp_path / "isoruntime.py").write_text(
        "raise SystemExit('a handler was imported')"
    )
    assert str(tmp_path) not in deployment.run(cwd=tmp_path).told["path"]


def test_an_interpreters_own_packages_will_do(
    deployment: Deployment, tools: Path
) -> None:
    run = deployment.run(path=f"{Path(sys.executable).parent}:{tools}")
    assert run.told["prefix"] == sys.prefix


def test_a_venv_beside_it_comes_before_python3(
    deployment: Deployment, bare: Path
) -> None:
    deployment.vendor("waitress", "psutil")
    (deployment.folder / ".venv").symlink_to(bare)
    expected = str(deployment.folder / ".venv" / "bin" / "python")
    run = deployment.run(path=f"{Path(sys.executable).parent}:{deployment.path}")
    assert run.told["executable"] == expected


def test_the_named_interpreter_comes_first(deployment: Deployment) -> None:
    run = deployment.run(ISORUNTIME_PYTHON=sys.executable)
    assert run.told["prefix"] == sys.prefix


@pytest.mark.parametrize("named", ["/nowhere/python3", "bare"])
def test_a_named_interpreter_that_will_not_do_is_an_error(
    deployment: Deployment, named: str, bare: Path, tools: Path
) -> None:
    named = str(bare / "bin" / "python3") if named == "bare" else named
    run = deployment.run(
        path=f"{Path(sys.executable).parent}:{tools}", ISORUNTIME_PYTHON=named
    )
    assert (run.status, run.stdout) == (2, "")
    assert run.stderr.count("\n") == 1
    assert "ISORUNTIME_PYTHON" in run.stderr
    assert named in run.stderr


@pytest.fixture
def counted(tmp_path: Path, bare: Path, tools: Path) -> tuple[str, Path]:
    """Return a PATH whose python3 writes a line to a file each time it is started."""
    folder, starts = tmp_path / "counted", tmp_path / "starts"
    folder.mkdir()
    starts.touch()
    launcher = folder / f"python{VERSION}"
    launcher.write_text(
        f"#!/usr/bin/env bash\necho start >>'{starts}'\nexec '{bare / 'bin' / 'python'}' \"$@\"\n"
    )
    launcher.chmod(0o755)
    (folder / "python3").symlink_to(launcher.name)
    return f"{folder}:{tools}", starts


def test_a_vendored_deployment_starts_python_once(
    deployment: Deployment, counted: tuple[str, Path]
) -> None:
    path, starts = counted
    deployment.vendor("waitress", "psutil")
    assert deployment.run(path=path, **ON_PLATFORM).status == 0
    assert starts.read_text().split() == ["start"]


def test_a_hard_linked_launcher_is_asked_for_its_version(
    deployment: Deployment, counted: tuple[str, Path]
) -> None:
    path, starts = counted
    deployment.vendor("waitress", "psutil")
    python3 = Path(path.split(":")[0]) / "python3"
    python3.unlink()
    # As version managers do: one file under many names, which therefore mean nothing.
    python3.hardlink_to(python3.with_name(f"python{VERSION}"))
    assert deployment.run(path=path, **ON_PLATFORM).status == 0
    assert starts.read_text().split() == ["start", "start"]


def test_a_python3_that_is_too_old_by_name_is_refused_unstarted(
    deployment: Deployment, tmp_path: Path, tools: Path
) -> None:
    old, started = tmp_path / "old", tmp_path / "started"
    old.mkdir()
    (old / "python3.9").write_text(f"#!/usr/bin/env bash\ntouch '{started}'\n")
    (old / "python3.9").chmod(0o755)
    (old / "python3").symlink_to("python3.9")
    run = deployment.run(path=f"{old}:{tools}", **ON_PLATFORM)
    assert run.status == 1
    assert f"{old}/python3: Python 3.9 is older than 3.10" in run.stderr
    assert not started.exists()


@pytest.mark.parametrize(
    "variable", ["FC_INSTANCE_ID", "FC_FUNCTION_NAME", "FC_ACCOUNT_ID"]
)
def test_on_the_platform_it_installs_nothing_and_names_the_fix(
    deployment: Deployment, variable: str, bare: Path
) -> None:
    make_checkout(deployment.folder)
    run = deployment.run(**{variable: "x"})
    assert (run.status, run.stdout) == (1, "")
    assert run.stderr.count("\n") == 1
    assert "pip install -t python waitress psutil" in run.stderr
    assert f"{bare}/bin/python3: it lacks waitress, psutil" in run.stderr
    assert not (deployment.folder / ".venv").exists()


def test_a_psutil_built_for_another_system_is_named(deployment: Deployment) -> None:
    deployment.vendor("waitress", "psutil")
    for built in (deployment.folder / "python" / "psutil").glob("_psutil_linux*.so"):
        built.unlink()
    run = deployment.run(**ON_PLATFORM)
    assert run.status == 1
    assert f"it lacks psutil for Linux and Python {VERSION}" in run.stderr


def test_layers_serve_what_was_not_shipped(deployment: Deployment) -> None:
    if subprocess.run(
        ["unshare", "-rm", "true"], check=False, capture_output=True
    ).returncode:
        pytest.skip("this host lets us mount nothing")
    layer = f"/opt/python/lib/python{VERSION}/site-packages"
    deployment.vendor("waitress", "psutil")
    vendored = (deployment.folder / "python").rename(deployment.folder / "layer")
    script = (
        f"mount -t tmpfs none /opt && mkdir -p {layer} && "
        f'cp -r "{vendored}/waitress" /opt/python/ && cp -r "{vendored}/psutil" {layer} && '
        f'exec "{deployment.folder}/bootstrap"'
    )
    unshare = shutil.which("unshare")
    assert unshare is not None
    run = deployment.run(
        "-rm",
        "bash",
        "-c",
        script,
        script=unshare,
        path=f"{deployment.path}:{os.environ['PATH']}",
    )
    assert run.told["pythonpath"] == f"{deployment.folder}:/opt/python:{layer}"


def make_checkout(folder: Path) -> None:
    """Add what makes `folder` a source checkout."""
    (folder / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "make-venv", folder / "tools")
    shutil.copy(ROOT / "pyproject.toml", folder)


def test_a_python_without_venv_is_told_what_to_install(
    deployment: Deployment, tmp_path: Path, bare: Path, tools: Path
) -> None:
    make_checkout(deployment.folder)
    # Debian's python3 without python3-venv: everything but ensurepip.
    split = tmp_path / "split"
    split.mkdir()
    (split / "python3").write_text(
        "#!/usr/bin/env bash\n"
        f'[[ $* == *ensurepip* ]] && exit 1\nexec "{bare}/bin/python" "$@"\n'
    )
    (split / "python3").chmod(0o755)
    run = deployment.run(path=f"{split}:{tools}")
    assert run.status == 1
    assert run.stderr.count("\n") == 1
    assert "apt-get install python3-venv" in run.stderr


def test_a_venv_that_is_not_ours_is_left_alone(deployment: Deployment) -> None:
    make_checkout(deployment.folder)
    venv.create(deployment.folder / ".venv", with_pip=False, symlinks=True)
    before = sorted((deployment.folder / ".venv").rglob("*"))
    run = deployment.run()
    assert run.status == 1
    assert "was not made by this script" in run.stderr
    assert sorted((deployment.folder / ".venv").rglob("*")) == before


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """Make a new clone, in a folder with a space in its name."""
    clone = tmp_path / "a fresh clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    return clone


def start_fresh(clone: Path, bare: Path) -> subprocess.Popen[str]:
    """Start the clone's bootstrap with a python3 that has no packages."""
    path = f"{bare / 'bin'}:{os.environ['PATH']}"
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("FC_", "ISORUNTIME_"))
    }
    kept.pop("PYTHONPATH", None)
    return subprocess.Popen(
        ["./bootstrap", "--help"],
        cwd=clone,
        env=kept | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(*processes: subprocess.Popen[str]) -> str:
    """Wait for starts that must succeed; return what they said on stderr."""
    outputs = []
    for process in processes:
        with process:
            try:
                outputs.append(process.communicate())
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
    said = "".join(stderr for _, stderr in outputs)
    assert [process.returncode for process in processes] == [0] * len(processes), said
    assert all("--code-dir" in stdout for stdout, _ in outputs)
    return said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fresh_checkout_installs_itself_once_for_all_who_start_it(
    fresh: Path, bare: Path
) -> None:
    said = finish(start_fresh(fresh, bare), start_fresh(fresh, bare))
    assert said == f"isoruntime: installing into {fresh}/.venv, once\n"
    assert finish(start_fresh(fresh, bare)) == ""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_interrupted_installation_is_started_over(fresh: Path, bare: Path) -> None:
    process = start_fresh(fresh, bare)
    wait_until((fresh / ".venv" / "bin" / "python").exists, 60)
    os.killpg(process.pid, signal.SIGKILL)
    with process:
        process.communicate()
    assert not (fresh / ".venv" / "complete").exists()
    assert "installing" in finish(start_fresh(fresh, bare))
    assert finish(start_fresh(fresh, bare)) == ""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_changed_requirements_are_installed(fresh: Path, bare: Path) -> None:
    finish(start_fresh(fresh, bare))
    metadata = fresh / "pyproject.toml"
    metadata.write_text(
        metadata.read_text().replace("psutil>=5.9,<8", "psutil>=5.9,<7")
    )
    assert "installing" in finish(start_fresh(fresh, bare))
    [installed] = (fresh / ".venv").glob("lib/python*/site-packages/psutil-*.dist-info")
    assert installed.name < "psutil-7"
