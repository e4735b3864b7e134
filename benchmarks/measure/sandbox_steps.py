"""What each wall takes by itself, each time in a process that was just forked.

    python -m benchmarks.measure.sandbox_steps CODE_DIR TEMP_BASE

Commands come in as lines, `steps N`, and one line of JSON answers each: for every
mechanism a list of microseconds. Standard library and our own sandbox only, so that it
runs under any interpreter, as any user.
"""

from __future__ import annotations

import functools
import json
import os
import struct
import sys
import time
from collections.abc import Callable
from typing import Final

from isoruntime.sandbox import (
    _libc,
    capabilities,
    identity,
    landlock,
    namespaces,
    paths,
    rlimits,
    seccomp,
)

_REFUSED: Final = -1
Step = Callable[[], object]


def steps(code_dir: str, temp_base: str) -> dict[str, Step]:
    """Return what a worker, or the keeper of its cell, does before it goes on."""
    grants = paths.for_worker(code_dir, f"{temp_base}/cell")
    wide = paths.for_zygote(grants, code_dir, temp_base)
    ruleset = landlock.prepare(grants, network=True)
    program = seccomp.program(seccomp.SystemCalls(has_network=True))
    uid = identity.base_uid(os.getpid())
    found: dict[str, Step] = {
        "first call into libc": _libc.capabilities,
        "rlimits": lambda: rlimits.apply(strict=False),
        "capabilities": capabilities.drop_all,
        "non-dumpable": lambda: _libc.set_dumpable(False),
        "landlock, prepared": lambda: landlock.restrict(ruleset),
        "seccomp, prepared": lambda: seccomp.install(program),
        "once: landlock rules of a worker": lambda: os.close(
            landlock.prepare(grants, network=True)
        ),
        "once: landlock rules of a zygote": lambda: os.close(
            landlock.prepare(wide, network=True)
        ),
        "once: which paths to grant": lambda: paths.for_worker(code_dir, None),
        "once: seccomp program": lambda: seccomp.program(
            seccomp.SystemCalls(has_network=True)
        ),
    }
    if not identity.available():
        found["uid"] = lambda: identity.take(uid)
    needs_user = namespaces.needs_user_namespace()
    for name, has_network in (("host", True), ("none", False)):
        found[f"once: namespaces, network {name}"] = functools.partial(
            namespaces.separate, has_network=has_network, in_user_namespace=needs_user
        )
    return found


def microseconds(step: Step) -> float:
    """Return how long a step takes in a new process; -1 if the host refuses it."""
    read_end, write_end = os.pipe()
    # Safe because there is one thread, and the child never returns.
    pid = os.fork()
    if pid == 0:
        try:
            taken = _timed(step)
            os.write(write_end, struct.pack("d", taken))
        finally:
            os._exit(0)
    os.close(write_end)
    data = os.read(read_end, 8)
    os.close(read_end)
    os.waitpid(pid, 0)
    return float(struct.unpack("d", data)[0]) if data else _REFUSED


def _timed(step: Step) -> float:
    # As a worker is by then: what is new with a process has been paid for.
    if step is not _libc.capabilities:
        _libc.capabilities()
    began = time.perf_counter_ns()
    try:
        step()
    except OSError:
        return _REFUSED
    return (time.perf_counter_ns() - began) / 1000


def main() -> None:
    """Take commands until there are no more."""
    _libc.set_no_new_privileges()
    found = steps(*sys.argv[1:3])
    _answer({})
    for line in sys.stdin:
        count = int(line.split()[1])
        # One of each in turn, so that a busy moment hits all alike.
        rounds = [
            {name: microseconds(step) for name, step in found.items()}
            for _ in range(count)
        ]
        _answer({name: [one[name] for one in rounds] for name in found})


def _answer(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
