"""A handler whose attacks are over before anybody calls it: at module level."""

# Attacks are system calls, as they are.
# ruff: noqa: PTH100, PTH120

from __future__ import annotations

import os
import signal
from typing import Any

import on_files
import on_processes
import on_secrets
from means import Scene

#: Beside the code, as `Arena` lays it out.
_AROUND = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _attack() -> Scene:
    # What runs this is the zygote, or a worker: the next above is not ours.
    event = {"front": os.getppid(), "code": _AROUND, "private": f"{_AROUND}/private"}
    scene = Scene(event, None)
    on_secrets.environ_front(scene)
    on_secrets.mem_front(scene)
    on_files.read_private_files(scene)
    if on_files.read_root(scene):
        scene.worked.append("root's home")
    on_processes.ptrace_front(scene)
    on_processes.prlimit_front(scene)
    scene.attempt("write", lambda: on_files._write(f"{_AROUND}/victim/planted", "here"))
    scene.attempt("change", lambda: on_files._append(f"{_AROUND}/victim/file"))
    on_processes.stop_front(scene)
    on_processes._send(scene, scene.front, signal.SIGKILL)
    return scene


SCENE = _attack()


def handler(event: bytes, context: Any) -> Any:
    """Return what became of it."""
    # To ask for a signal by way of a pipe succeeds always; whether it comes is seen.
    worked = [one for one in SCENE.worked if one != "sigio"]
    return {"canaries": sorted(SCENE.canaries), "worked": worked}
