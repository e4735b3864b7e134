"""What is deployed, on a machine that has Debian 12 and nothing of this one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.command import run
from tests.support.debian import Dockerfile, Machine, debootstrap
from tests.support.server import PROJECT, Server

pytestmark = pytest.mark.timeout(900)

DEPLOY = PROJECT / "deploy"
#: Nothing of this interpreter's, and the places that are there.
INSIDE = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TMPDIR": "/tmp",
    "PYTHONPATH": "",
    "ISORUNTIME_PYTHON": "",
}
CRASHING = """\
import ctypes, json, sys
def handler(event, context):
    if event == b"crash":
        ctypes.string_at(0)
    import isoruntime, psutil, waitress
    places = [one.__file__ for one in (isoruntime, psutil, waitress)]
    return json.dumps([sys.version.split()[0], *places])
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("debian") / "root"
    debootstrap(made, "python3")
    yield made
    shutil.rmtree(made)


def dies_and_serves(server: Server) -> None:
    """Have a worker crash; whoever comes next is served."""
    crashed = server.invoke(b"crash")
    assert crashed.error_type == "ProcessExitedError"
    assert crashed.json()["details"]["signal"] == "SIGSEGV"
    assert server.invoke(b"next").status == 200


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", ["standard", "off"])
def test_the_zip_of_a_new_function_serves_with_debian_s_python(
    root: Path, tmp_path: Path, sandbox: str
) -> None:
    made = tmp_path / "made"
    assert run("init", str(made)).code == 0
    (made / "index.py").write_text(CRASHING)
    packed = run("package", str(made))
    if "the package index was not reached" in packed.stderr:
        pytest.skip(packed.stderr[-200:])
    assert packed.code == 0, packed.stderr
    code = tmp_path / "code"
    # With modes, as the platform unpacks it.
    subprocess.run(["unzip", "-q", str(made / "code.zip"), "-d", str(code)], check=True)
    (root / "code").mkdir(exist_ok=True)
    machine = Machine(root, (code, "/code"))
    with Server(
        "index.handler",
        *("--sandbox", sandbox),
        prefix=machine.prefix(),
        command=["/code/bootstrap"],
        code_dir=Path("/code"),
        env=INSIDE,
    ) as server:
        version, *places = json.loads(server.invoke(b"where").body)
        assert version.startswith("3.11.")
        assert all(place.startswith("/code/python/") for place in places)
        dies_and_serves(server)


@pytest.mark.slow
def test_the_steps_of_the_dockerfile_make_a_root_that_serves(
    root: Path, tmp_path: Path
) -> None:
    dockerfile = Dockerfile(DEPLOY / "Dockerfile", PROJECT)
    assert [*dockerfile.of("FROM")] == ["debian:12-slim"]
    built = tmp_path / "root"
    subprocess.run(["cp", "-a", str(root), str(built)], check=True)
    try:
        dockerfile.build(built, {"CODE": "examples"})
        (entry,) = map(json.loads, dockerfile.of("ENTRYPOINT"))
        (defaults,) = map(json.loads, dockerfile.of("CMD"))
        (user,) = dockerfile.of("USER")
        inside = [*Machine(built).prefix(), "setpriv"]
        inside += [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        inside += ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
        with Server(
            "crash.handler",
            *defaults,
            prefix=inside,
            command=entry,
            code_dir=Path("/code"),
            env=INSIDE,
        ) as server:
            died = server.invoke(b"segfault")
            # `--errors http` is among the defaults of the container.
            assert (died.status, died.error_type) == (502, "ProcessExitedError")
            assert server.invoke(b"next").status == 200
            health = re.search(r"CMD (\[.*\])", "".join(dockerfile.of("HEALTHCHECK")))
            assert health
            asked = [
                word.replace(":9000/", f":{server.port}/")
                for word in json.loads(health[1])
            ]
            assert asked != json.loads(health[1])
            Machine(built).run(*asked)
    finally:
        shutil.rmtree(built)


def test_what_the_dockerfile_copies_is_there_and_handed_to_docker() -> None:
    dockerfile = Dockerfile(DEPLOY / "Dockerfile", PROJECT)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    handed = {line[2:] for line in ignored if line.startswith("!/")}
    copied = {word for rest in dockerfile.of("COPY") for word in rest.split()[:-1]}
    [code] = [rest.partition("=")[2] for rest in dockerfile.of("ARG")]
    copied = {code if word == "${CODE}" else word for word in copied}
    assert copied == handed
    assert all((PROJECT / one).exists() for one in copied)


def test_compose_builds_that_file_and_asks_for_settings_there_are() -> None:
    composed = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service = composed["services"]["function"]
    build = service["build"]
    context = (DEPLOY / build["context"]).resolve()
    assert context == PROJECT
    assert (context / build["dockerfile"]).is_file()
    assert service["ports"] == ["127.0.0.1:9000:9000"]
    settings = (PROJECT / "docs" / "settings.md").read_text()
    for name in service["environment"]:
        assert f"`{name}`" in settings
