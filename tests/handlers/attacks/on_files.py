"""Attacks on files: the function's code, the runtime's, the system's, and clean-up."""

# Attacks are system calls, as they are.
# ruff: noqa: B023, D401, PTH101, PTH102, PTH103, PTH104, PTH105, PTH106, PTH108, PTH110, PTH116, PTH123, PTH208, PTH211, S103

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import Any

from means import Scene, folders_above


def _append(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, b"\n# changed\n")
    finally:
        os.close(fd)


def write_code(scene: Scene) -> None:
    target = scene.event["code"] + "/victim.py"
    scene.attempt("append", lambda: _append(target))
    scene.attempt("truncate", lambda: os.truncate(target, 0))


def write_code_below_tmp(scene: Scene) -> None:
    write_code(scene)


def reopen_code(scene: Scene) -> None:
    """What is open for reading is opened again for writing."""
    fd = os.open(scene.event["code"] + "/victim.py", os.O_RDONLY)
    scene.attempt("reopen", lambda: _append(f"/proc/self/fd/{fd}"))
    os.close(fd)


def rename_code(scene: Scene) -> None:
    code = scene.event["code"]
    scene.attempt("rename", lambda: os.rename(f"{code}/victim.py", f"{code}/moved.py"))
    scene.attempt("swap", lambda: os.replace(_planted(), f"{code}/victim.py"))


def _planted() -> str:
    handle, path = tempfile.mkstemp()
    os.write(handle, b"planted = True\n")
    os.close(handle)
    return path


def unlink_code(scene: Scene) -> None:
    scene.attempt("unlink", lambda: os.unlink(scene.event["code"] + "/victim.py"))


def hardlink_code(scene: Scene) -> None:
    code = scene.event["code"]
    mine = tempfile.gettempdir() + "/link.py"
    scene.attempt("link", lambda: os.link(f"{code}/victim.py", mine))
    scene.attempt("append", lambda: _append(mine))
    scene.attempt("plant", lambda: os.link(_planted(), f"{code}/linked.py"))


def plant_code(scene: Scene) -> None:
    code = scene.event["code"]
    scene.attempt("create", lambda: shutil.copy(_planted(), f"{code}/json.py"))
    scene.attempt("folder", lambda: os.mkdir(f"{code}/planted"))
    scene.attempt("symlink", lambda: os.symlink("/", f"{code}/everything"))
    scene.attempt("cache", lambda: os.mkdir(f"{code}/__pycache__"))


def chmod_code(scene: Scene) -> None:
    target = scene.event["code"] + "/victim.py"
    scene.attempt("chmod", lambda: os.chmod(target, 0o666))


def touch_code(scene: Scene) -> None:
    target = scene.event["code"] + "/victim.py"
    scene.attempt("utime", lambda: os.utime(target, (1, 1)))


def own_code(scene: Scene) -> None:
    target = scene.event["code"] + "/victim.py"
    scene.attempt("chown", lambda: os.chown(target, 12345, 12345))


def write_runtime(scene: Scene) -> None:
    """The runtime's own modules, which the next zygote imports."""
    folder = scene.event["runtime"] + "/isoruntime"
    scene.attempt("append", lambda: _append(f"{folder}/__init__.py"))
    scene.attempt("create", lambda: shutil.copy(_planted(), f"{folder}/planted.py"))


def read_shadow(scene: Scene) -> int:
    """Return how much of the password file can be read."""
    return len(scene.attempt("shadow", lambda: _read("/etc/shadow")) or b"")


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(4096)


def read_private_files(scene: Scene) -> None:
    """A file of the runtime's user that is nobody else's business."""
    data = scene.attempt("read", lambda: _read(scene.event["private"]))
    scene.collect(data or b"")


def read_root(scene: Scene) -> int:
    """Return how much can be seen of root's home."""
    return len(scene.attempt("list", lambda: os.listdir("/root")) or [])


def core_pattern(scene: Scene) -> bool:
    """The program the kernel runs as root for every crash; is written as it was."""
    path = "/proc/sys/kernel/core_pattern"

    def rewrite() -> None:
        with open(path, "rb+", buffering=0) as file:
            was = file.read()
            file.seek(0)
            file.write(was)

    scene.attempt("write", rewrite)
    return bool(scene.worked)


def leave_the_cgroup(scene: Scene) -> None:
    """Leave the group that limits memory, for the one above all."""
    pid = str(scene.neighbour or os.getpid())
    for base in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup"):
        for name in ("cgroup.procs", "tasks"):
            path = f"{base}/{name}"
            scene.attempt(path, lambda path=path: _write(path, pid))


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def make_a_cgroup(scene: Scene) -> bool:
    for base in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        path = f"{base}/isoruntime-test-{os.getpid()}"
        if scene.attempt(path, lambda: os.mkdir(path) or True):  # type: ignore[func-returns-value]
            os.rmdir(path)
    return bool(scene.worked)


def write_sysfs(scene: Scene) -> bool:
    """Open what the kernel is adjusted with; nothing is written."""
    path = "/sys/kernel/mm/transparent_hugepage/enabled"
    fd = scene.attempt("open", lambda: os.open(path, os.O_WRONLY))
    if fd is not None:
        os.close(fd)
    return fd is not None


def setuid_program(scene: Scene) -> bool:
    """Run a program that is root's and set-user-ID; return whether it ran as root."""
    path = scene.event["code"] + "/setuid-id"
    done = subprocess.run([path, "-u"], stdout=subprocess.PIPE, check=False)
    return done.stdout.strip() == b"0" and os.getuid() != 0


def make_setuid(scene: Scene) -> bool:
    """Leave a set-user-ID program for others to run."""
    folder = tempfile.gettempdir()
    path = shutil.copy("/usr/bin/id", f"{folder}/id")
    scene.attempt("chmod", lambda: os.chmod(path, 0o4755))
    scene.attempt("open", lambda: os.chmod(folder, 0o755))
    return bool(os.stat(path).st_mode & 0o4000) and os.stat(path).st_uid == 0


def make_a_device(scene: Scene) -> bool:
    """Make the disk itself a file of ours."""
    path = f"{tempfile.gettempdir()}/disk"
    scene.attempt("mknod", lambda: os.mknod(path, 0o60600, os.makedev(254, 0)))
    return os.path.exists(path)


def planted_links(scene: Scene) -> None:
    """Have the clean-up follow links out of the temporary folder."""
    folder, victim = tempfile.gettempdir(), scene.event["victim"]
    os.symlink(victim, f"{folder}/folder")
    os.symlink(f"{victim}/file", f"{folder}/file")
    os.symlink(victim, f"{folder}/{'d' * 200}")
    deep = f"{folder}/a/b/c"
    os.makedirs(deep)
    os.symlink("/" + "../" * 40 + victim, f"{deep}/far")


def replaced_folder(scene: Scene) -> None:
    """Have the clean-up find somebody else's folder in place of the temporary one."""
    folder, victim = tempfile.gettempdir(), scene.event["victim"]
    scene.attempt("rmdir", lambda: os.rmdir(folder))
    scene.attempt("rename", lambda: os.rename(folder, folder + "-moved"))
    scene.attempt("symlink", lambda: os.symlink(victim, folder))
    for above in folders_above(folder):
        scene.attempt("above", lambda: os.rename(above, above + "-moved"))
        scene.attempt("link above", lambda: os.symlink(victim, above))


def swapped_folder(scene: Scene) -> None:
    """Swap a folder for a link while it is being removed, from a process that stays."""
    folder, victim = tempfile.gettempdir(), scene.event["victim"]
    for number in range(200):
        os.makedirs(f"{folder}/n{number}/file")
    if os.fork() == 0:
        os.setsid()
        for round_ in range(200):
            for number in range(200):
                inner = f"{folder}/n{number}"
                try:
                    os.rename(inner, f"{folder}/m{round_}-{number}")
                    os.symlink(victim, inner)
                except OSError:
                    continue
        os._exit(0)


ATTACKS: dict[str, Any] = {
    attack.__name__: attack
    for attack in (
        write_code,
        write_code_below_tmp,
        reopen_code,
        rename_code,
        unlink_code,
        hardlink_code,
        plant_code,
        chmod_code,
        touch_code,
        own_code,
        write_runtime,
        read_shadow,
        read_private_files,
        read_root,
        core_pattern,
        leave_the_cgroup,
        make_a_cgroup,
        write_sysfs,
        setuid_program,
        make_setuid,
        make_a_device,
        planted_links,
        replaced_folder,
        swapped_folder,
    )
}
