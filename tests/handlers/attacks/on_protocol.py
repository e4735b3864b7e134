"""Attacks on the conversation between front end and worker, from the worker's end."""

# Attacks are system calls, as they are.
# ruff: noqa: D401, PTH115, PTH208

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from typing import Any

import on_secrets
from means import Scene, say


def _pipes() -> dict[str, list[int]]:
    """Return this process's own pipes by what can be done with them."""
    found: dict[str, list[int]] = {"read": [], "write": []}
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            if number > 2 and stat.S_ISFIFO(os.fstat(number).st_mode):
                flags = os.get_inheritable(number), _access(number)
                found["write" if flags[1] else "read"].append(number)
        except OSError:
            continue
    return found


def _access(number: int) -> bool:
    import fcntl

    return bool(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_WRONLY)


def _nonce() -> bytes:
    """Find the nonce of the request in the frames of our own callers."""
    frame = sys._getframe()
    while frame is not None:
        request = frame.f_locals.get("request")
        if hasattr(request, "nonce"):
            return bytes(request.nonce)
        frame = frame.f_back  # type: ignore[assignment]
    return bytes(16)


def _result(nonce: bytes, body: bytes) -> bytes:
    from isoruntime.wire.frames import Kind, head

    return head(Kind.RESULT, nonce, b"", len(body), 0) + body


def forge_extra_frames(scene: Scene) -> None:
    """Answer, and then answer again for whoever comes next."""
    own = _result(_nonce(), b"forged")
    for number in _pipes()["write"]:
        os.write(number, own * 3)


def forge_with_other_nonces(scene: Scene) -> None:
    """Answer requests that were given to others."""
    for number in _pipes()["write"]:
        os.write(
            number, b"".join(_result(bytes([n]) * 16, b"forged") for n in range(9))
        )


def forge_a_huge_frame(scene: Scene) -> None:
    """Announce more than anybody would want to keep."""
    from isoruntime.wire.frames import Kind, head

    for number in _pipes()["write"]:
        os.write(number, head(Kind.RESULT, _nonce(), b"", 1 << 40, 0))


def forge_readiness(scene: Scene) -> None:
    """Say what only a new worker says."""
    from isoruntime.wire.frames import NO_NONCE, Kind, head

    for number in _pipes()["write"]:
        os.write(number, head(Kind.READY, NO_NONCE, b"", 0, 0))


def close_everything(scene: Scene) -> None:
    os.closerange(0, 4096)


def swap_descriptors(scene: Scene) -> None:
    """What is printed becomes the answer, and what is answered is printed."""
    pipes = _pipes()
    for number in pipes["write"]:
        os.dup2(1, number)
    for number in pipes["read"]:
        os.dup2(0, number)


def exit_without_an_answer(scene: Scene) -> None:
    os._exit(0)


def steal_next_request(scene: Scene) -> None:
    """Leave a thread that reads what is meant for the next invocation."""
    from isoruntime.worker import leftovers

    # So that nobody notices the thread from within this process.
    leftovers.Census.look = lambda self: (False, False)  # type: ignore[method-assign]
    for number in _pipes()["read"]:
        threading.Thread(target=_drain, args=(number,), daemon=True).start()
    # Whoever waits first is served first.
    time.sleep(0.1)


def _drain(number: int) -> None:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if not os.read(number, 1 << 16):
            return
        say("stolen")


def answer_for_the_next(scene: Scene) -> None:
    """Leave something in this process that answers whatever is asked next."""
    import index

    class Patched:
        @staticmethod
        def loads(event: bytes) -> dict[str, str]:
            return {"do": "echo", "text": "tampered"}

    index.json = Patched  # type: ignore[assignment]


def memory_of_the_last(scene: Scene) -> int:
    """What is left of an earlier invocation's credentials in this process."""
    return on_secrets.own_memory(scene)


def tamper_with_the_trace(scene: Scene) -> None:
    """Make the file for the last stack endless, and crash."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if "memfd" in os.readlink(f"/proc/self/fd/{name}"):
                os.ftruncate(int(name), 1 << 44)
                os.pwrite(int(name), b"x" * (4 << 20), 0)
        except OSError as error:
            scene.failed.append(str(error))
    os.abort()


def forge_log_lines(scene: Scene) -> None:
    """Print what only the runtime prints, for another request."""
    say("FC Invoke End RequestId: 00000000-dead-beef-0000-000000000000")


def descriptors() -> dict[str, list[str]]:
    """Return what this process has open, and what a program it starts has."""
    import subprocess

    mine = _links("/proc/self/fd")
    listed = subprocess.run(
        ["ls", "-l", "/proc/self/fd"], stdout=subprocess.PIPE, check=False
    )
    words = [line.split() for line in listed.stdout.decode().splitlines()[1:]]
    # Without the folder that is being listed.
    theirs = [f"{one[-3]} {one[-1]}" for one in words if not one[-1].endswith("/fd")]
    return {"worker": mine, "child": theirs}


def _links(folder: str) -> list[str]:
    found = []
    for name in sorted(os.listdir(folder), key=int):
        try:
            found.append(f"{name} {os.readlink(f'{folder}/{name}')}")
        except OSError:
            continue
    return found


ATTACKS: dict[str, Any] = {
    attack.__name__: attack
    for attack in (
        forge_extra_frames,
        forge_with_other_nonces,
        forge_a_huge_frame,
        forge_readiness,
        close_everything,
        swap_descriptors,
        exit_without_an_answer,
        steal_next_request,
        answer_for_the_next,
        memory_of_the_last,
        tamper_with_the_trace,
        forge_log_lines,
    )
}
