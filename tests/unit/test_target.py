"""For which Python and system a folder is packed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from isoruntime.errors import CannotPackage
from isoruntime.project import target
from isoruntime.project.target import Target, Told

FUNCTION = """\
  {name}:
    component: fc3
    props:
      runtime: {runtime}
      diskSize: {disk}
"""


def manifest(folder: Path, *functions: tuple[str, int]) -> Path:
    made = [
        FUNCTION.format(name=f"f{at}", runtime=runtime, disk=disk)
        for at, (runtime, disk) in enumerate(functions)
    ]
    (folder / "s.yaml").write_text("resources:\n" + "".join(made))
    return folder


@pytest.mark.parametrize(
    ("runtime", "python"),
    [
        ("custom.debian12", "3.11"),
        ("custom.debian11", "3.12"),
        ("custom.debian10", "3.10"),
    ],
)
def test_the_runtime_tells_the_python(
    tmp_path: Path, runtime: str, python: str
) -> None:
    told = target.told(manifest(tmp_path, (runtime, 10240)))
    assert told.target(None, ()).python == python
    assert runtime in told.target(None, ()).because
    assert told.disk_mb == 10240


def test_without_a_manifest_it_is_debian_12s() -> None:
    found = Told().target(None, ())
    assert (found.python, found.platforms) == ("3.11", ("manylinux_2_28_x86_64",))
    assert Told().disk_mb == 512


def test_what_is_asked_for_wins(tmp_path: Path) -> None:
    told = target.told(manifest(tmp_path, ("custom.debian12", 512)))
    found = told.target("3.13", ["linux_aarch64"])
    assert (found.python, found.tags) == ("3.13", ["linux_aarch64"])
    assert found.because == "as asked for"
    found = told.target(None, ["linux_aarch64"])
    assert found.because.endswith("custom.debian12 has it; the system is as asked for")


def test_an_image_with_another_python_than_is_asked_for_is_named(
    tmp_path: Path,
) -> None:
    told = target.told(manifest(tmp_path, ("custom.debian12", 512), ("other", 512)))
    assert told.doubts(told.target("3.11", ())) == []
    [doubt] = told.doubts(told.target("3.12", ()))
    assert doubt.startswith("s.yaml's custom.debian12 has Python 3.11: what is packed")


@pytest.mark.parametrize(
    ("runtimes", "reason"),
    [
        (["custom"], "has Python 3.7, older than 3.10: take custom.debian12"),
        (["python3.10"], "calls the handler itself and starts no bootstrap"),
        (["custom.debian13"], "does not tell its Python: give --python"),
        (["custom-container"], "does not tell its Python: give --python"),
        (["custom.debian12", "custom.debian11"], "say for which, with --python"),
    ],
)
def test_a_runtime_that_tells_no_python_is_refused(
    tmp_path: Path, runtimes: list[str], reason: str
) -> None:
    told = target.told(manifest(tmp_path, *((one, 512) for one in runtimes)))
    with pytest.raises(CannotPackage) as refused:
        told.target(None, ())
    assert reason in str(refused.value)
    assert told.target("3.12", ()).python == "3.12"


@pytest.mark.parametrize("python", ["3.9", "2.7", "3", "three", "4.10"])
def test_a_python_that_runs_no_isoruntime_is_refused(python: str) -> None:
    with pytest.raises(CannotPackage, match=r"give one of 3\.10, 3\.11, 3\.12$"):
        Told().target(python, ())


def test_a_manifest_that_is_no_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("resources:\n  a: [\n")
    with pytest.raises(CannotPackage, match=r"s\.yaml: line \d+: this is no YAML"):
        target.told(tmp_path)


def test_a_manifest_that_is_open_tells_nothing(tmp_path: Path) -> None:
    assert target.told(manifest(tmp_path, ("${env('RUNTIME')}", 512))) == Told()


def test_without_pyyaml_the_extra_is_named_and_the_usual_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    told = target.told(manifest(tmp_path, ("custom.debian10", 512)))
    assert told.target(None, ()).python == "3.11"
    assert "isoruntime[yaml]" in told.remarks[0]
    assert "--python" in told.remarks[0]


def test_a_platform_takes_what_was_built_for_older_libraries() -> None:
    tags = Target("3.11").tags
    assert tags[0] == "manylinux_2_28_x86_64"
    for older in ("manylinux_2_17_x86_64", "manylinux2014_x86_64", "linux_x86_64"):
        assert older in tags
    assert "manylinux_2_31_x86_64" not in tags
    assert Target("3.11", ("manylinux2014_aarch64",)).tags[0] == (
        "manylinux_2_17_aarch64"
    )
    assert Target("3.11", ("musllinux_1_2_x86_64",)).tags == ["musllinux_1_2_x86_64"]
