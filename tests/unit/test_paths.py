"""What is granted, what never is, and where temporary folders go."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest

from isoruntime.sandbox import paths
from isoruntime.sandbox.landlock import Grants


@pytest.fixture(autouse=True)
def a_plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FC_FUNCTION_NAME", "FC_INSTANCE_ID", "FC_ACCOUNT_ID"):
        monkeypatch.delenv(name, raising=False)
    for name in paths._PATH_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")


def worker(code: str, temp: str | None = "/var/cache/isoruntime-1/2-3") -> Grants:
    return paths.for_worker(code, temp, (), ())


@pytest.mark.parametrize(
    "secret",
    [
        "/etc/shadow",
        "/etc/gshadow",
        "/etc/sudoers",
        "/etc/ssh/ssh_host_rsa_key",
        "/etc/ssl/private/key.pem",
        "/etc/pki/tls/private/key.pem",
        "/etc/passwd-",
        "/etc/machine-id",
        "/etc/kubernetes/admin.conf",
        "/var/lib/other",
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/run/secrets/password",
        "/srv/data",
        "/mnt/disk",
        "/boot/vmlinuz",
        "/dev/sda",
        "/dev/mem",
        "/sys/firmware",
        "/var/cache/isoruntime-1/2-4/file",
    ],
)
def test_what_is_private_is_out_of_reach(secret: str) -> None:
    assert not paths.reaches(worker("/code"), secret)


def test_a_worker_reads_code_and_interpreter_and_writes_its_own_folder() -> None:
    grants = worker("/code")
    for path in ("/code", "/usr/bin", "/proc", "/opt", "/etc/passwd", "/etc/ssl/certs"):
        assert path in grants.read
    for prefix in (sys.prefix, sys.base_prefix, os.__file__, paths.__file__):
        assert paths.reaches(grants, prefix)
    for path in ("/tmp", "/dev/shm", "/dev/null", "/var/cache/isoruntime-1/2-3"):
        assert path in grants.write
    assert grants.listed == ()
    assert not any(path.startswith(("/proc", "/sys")) for path in grants.write)


def test_the_operator_can_grant_more() -> None:
    grants = paths.for_worker("/code", None, ["/data/models"], ["/srv/out"])
    assert "/data/models" in grants.read
    assert "/srv/out" in grants.write
    assert "/srv/out" not in grants.read


def test_a_zygote_may_do_its_own_work_besides() -> None:
    group = "/sys/fs/cgroup/pids/isoruntime-1"
    temp = "/var/cache/isoruntime-1"
    grants = paths.for_zygote(worker("/code"), "/code", temp, [group])
    for path in ("/code", temp, group):
        assert path in grants.write
    # Both go with it, which takes a right in the folder above, and no more than that.
    assert grants.pruned == ("/sys/fs/cgroup/pids", "/var/cache")
    assert "/sys/fs/cgroup" not in grants.write
    assert set(worker("/code").read) <= set(grants.read)


def covers(granted: tuple[str, ...], path: str) -> bool:
    real = os.path.realpath(path)
    return any(f"{real}/".startswith(f"{one.rstrip('/')}/") for one in granted)


@pytest.mark.parametrize("code", ["/code", "/var/www/site", "/tmp/code"])
def test_within_the_zygotes_rules_few_of_its_own_keep_a_worker_where_it_belongs(
    code: str,
) -> None:
    temp, group = "/var/cache/isoruntime-1", "/sys/fs/cgroup/pids/isoruntime-1"
    workers = paths.existing(worker(code))
    workers = workers._replace(read=(*workers.read, code))
    zygote = paths.for_zygote(workers, code, temp, [group])
    granted = paths.within(zygote, workers)
    for path in workers.write:
        assert covers(granted.write, path), path
    for path in workers.read:
        assert covers((*granted.write, *granted.read), path), path
    # What is the zygote's alone.
    for path in {temp, group, code}:
        is_writable = covers(workers.write, path)
        assert covers(granted.write, path) == is_writable, path
    assert len((*granted.read, *granted.write)) < 30


def test_within_the_zygotes_rules_a_link_is_granted_where_it_leads(
    tmp_path: Path,
) -> None:
    for name in ("a", "b", "own"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "b")
    workers = Grants((f"{tmp_path}/a/link",), ())
    zygote = Grants(workers.read, (f"{tmp_path}/own", f"{tmp_path}/a/x"))
    granted = paths.within(zygote, workers)
    assert granted == Grants((), (f"{os.path.realpath(tmp_path)}/b",))


def test_code_at_the_root_gives_nothing_else_away(tmp_path: Path) -> None:
    grants = worker("/")
    assert "/" not in (*grants.read, *grants.write)
    assert grants.listed == ("/",)
    for path in ("/root", "/home", "/etc", "/var", "/run"):
        assert path not in grants.read
    assert "/usr" in grants.read
    assert "/" not in paths.for_zygote(worker("/"), "/", "/var/cache/x").write


def test_a_folder_with_a_private_one_in_it_is_granted_around_it(tmp_path: Path) -> None:
    for name in (
        "src",
        ".cache/other",
        ".cache/isoruntime-1/5",
        ".cache/isoruntime-1/6",
    ):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "index.py").touch()
    (tmp_path / "link").symlink_to(tmp_path / ".cache")
    grants = worker(str(tmp_path), str(tmp_path / ".cache/isoruntime-1/5"))

    for name in ("src", "index.py", ".cache/other", ".cache/isoruntime-1/5"):
        assert paths._is_below_any(
            str(tmp_path / name), (*grants.read, *grants.write[9:])
        )
    granted = {*grants.read, *grants.write}
    assert str(tmp_path / "link") not in granted
    assert str(tmp_path / ".cache/isoruntime-1") not in granted
    assert str(tmp_path / ".cache/isoruntime-1/6") not in granted
    assert set(grants.listed) == {str(tmp_path), str(tmp_path / ".cache")}


@pytest.mark.parametrize(
    ("code", "is_writable"),
    [("/code", False), ("/tmp/fn", True), ("/tmp", True), ("/dev/shm/a/b", True)],
)
def test_code_where_everybody_writes_is_reported(code: str, is_writable: bool) -> None:
    assert paths.code_is_writable(worker(code), code) is is_writable


def test_a_name_is_not_below_what_it_only_begins_like() -> None:
    grants = Grants(("/code",), ("/tmp",))
    assert paths.reaches(grants, "/code/a")
    assert not paths.reaches(grants, "/code-of-others")
    assert not paths.code_is_writable(grants, "/tmpfiles")


def test_what_the_environment_points_to_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}/node/bin:relative:/:/usr/bin:/bin")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/our/ca.pem")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/code/lib::/elsewhere/lib:")
    read = worker("/code").read
    for path in ("node/bin", "node/lib", "node/include"):
        assert f"{tmp_path}/{path}" in read
    for path in ("/etc/our/ca.pem", "/elsewhere/lib"):
        assert path in read
    for path in ("/", "relative", "", str(tmp_path), f"{tmp_path}/node"):
        assert path not in read


def test_packages_installed_for_editing_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finder = types.ModuleType("__editable___thing_finder")
    finder.MAPPING = {"thing": "/src/thing"}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, finder.__name__, finder)
    monkeypatch.setattr(sys, "path", ["", "/src/other"])
    read = worker("/code").read
    assert {"/src/thing", "/src/other"} <= set(read)
    assert "" not in read


def test_mounts_of_the_platform_may_be_written_there_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "/mnt" not in worker("/code").write
    monkeypatch.setenv("FC_FUNCTION_NAME", "f")
    assert "/mnt" in worker("/code").write
    assert "/home" not in worker("/code").write


def test_folders_meant_for_writing_are_those_that_somebody_gave(tmp_path: Path) -> None:
    given = [str(tmp_path), str(tmp_path / "not there")]
    assert paths.meant_for_writing(given) == [str(tmp_path)]


def test_temporary_folders_go_where_no_grant_reaches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(paths, "_free_bytes", lambda path: 1 << 30)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert paths.temp_parents({}) == ["/var/cache", "/var/lib", "/tmp", "/var/tmp"]
    assert paths.temp_parents({"CACHE_DIRECTORY": "/var/cache/a:/x"})[0] == (
        "/var/cache/a"
    )
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    home = {"HOME": "/people/u"}
    assert paths.temp_parents(home) == ["/people/u/.cache", "/tmp", "/var/tmp"]
    assert paths.temp_parents({**home, "XDG_CACHE_HOME": "/c"})[0] == "/c"
    assert paths.temp_parents({"HOME": "/"}) == ["/tmp", "/var/tmp"]
    # The code is in the home, so a cache in there would be within reach.
    grants = Grants(("/people/u",), ("/tmp",))
    assert paths.temp_parents(home, grants)[0] == "/tmp"


def test_the_operators_choice_of_a_folder_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(paths, "_free_bytes", lambda path: 1 << 30)
    assert paths.temp_parents({"TMPDIR": "/disk/tmp"})[0] == "/disk/tmp"
    # Unless every worker reaches what lies there.
    found = paths.temp_parents({"TMPDIR": "/tmp/mine"})
    assert found[:3] == ["/var/cache", "/var/lib", "/tmp/mine"]
    # With the sandbox off it makes no difference.
    found = paths.temp_parents({"TMPDIR": "/tmp/mine"}, Grants((), ()))
    assert found[0] == "/tmp/mine"


def test_a_place_without_room_comes_after_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    room = {"/var/cache": 1 << 20}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(paths, "_free_bytes", lambda path: room.get(path, 1 << 33))
    assert paths.temp_parents({}) == ["/var/lib", "/tmp", "/var/tmp", "/var/cache"]


def test_room_is_that_of_the_folder_above_while_there_is_none(tmp_path: Path) -> None:
    there = os.statvfs(tmp_path)
    free = paths._free_bytes(str(tmp_path / "not" / "yet"))
    assert abs(free - there.f_bavail * there.f_frsize) < 1 << 30
    assert paths._free_bytes("relative") == 0
