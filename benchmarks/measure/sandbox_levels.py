"""Who the runtime can be on this host, and with which words the sandbox is asked for."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from benchmarks.measure.servers import ROOT, ServerFailed

#: A user that owns nothing on any host.
_NOBODY: Final = 61234


class Level(NamedTuple):
    """Who the runtime is; profiles are compared within one level only."""

    name: str
    #: the words that come before a program's
    launch: tuple[str, ...]
    python: str
    uid: int


class Variant(NamedTuple):
    """What is asked of the sandbox."""

    name: str
    profile: str
    has_network: bool = True
    preload: bool = True


OFF: Final = Variant("off", "off")
STANDARD: Final = Variant("standard", "standard")
STRICT: Final = Variant("strict, no network", "strict", has_network=False)
STRICT_HOST: Final = Variant("strict, network of the host", "strict")
#: Where nobody vouches for module-level code, every worker imports the handler itself.
OFF_NEVER: Final = Variant("off, each imports", "off", preload=False)
STRICT_NEVER: Final = Variant(
    "strict, no network, each imports", "strict", has_network=False, preload=False
)
VARIANTS: Final = (OFF, STANDARD, STRICT, STRICT_HOST, OFF_NEVER, STRICT_NEVER)


def levels() -> list[Level]:
    """Return those that this host offers to us."""
    ours = Level("", (), sys.executable, os.getuid())
    if os.getuid() != 0:
        return [ours._replace(name="an ordinary user")]
    reachable = _reachable_python()
    if reachable is None:
        return [ours._replace(name="root, one uid")]
    found = [Level("root, workers with uids", (), reachable, 0)]
    if reachable != sys.executable:
        found.insert(0, ours._replace(name="root, one uid"))
    return [*found, Level("an ordinary user", _become_nobody(), reachable, _NOBODY)]


def _become_nobody() -> tuple[str, ...]:
    return (
        *("setpriv", "--reuid", str(_NOBODY), "--regid", str(_NOBODY)),
        "--clear-groups",
    )


@functools.cache
def _reachable_python() -> str | None:
    """Return an interpreter that every user can run our code with, or None."""
    if shutil.which("setpriv") is None:
        return None
    # It starts itself again: that the first start worked was setpriv's power still.
    check = "import os, sys, ctypes, json, isoruntime.zygote.server"
    check += (
        "; assert sys.version_info >= (3, 10) and os.access(sys.executable, os.X_OK)"
    )
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        done = subprocess.run(  # noqa: S603 - a command line of ours
            [*_become_nobody(), candidate, "-c", check],
            env={"PYTHONPATH": str(ROOT), "PATH": os.environ.get("PATH", "")},
            cwd="/",
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            return candidate
    return None


class Helper:
    """A program of ours at a level, which answers lines with JSON."""

    def __init__(self, level: Level, module: str, *words: str) -> None:
        """Start it.

        Raises:
            ServerFailed: its first answer is an error, or none.
        """
        self._process = subprocess.Popen(  # noqa: S603 - a command line of ours
            [
                *(*level.launch, level.python),
                *("-m", f"benchmarks.measure.{module}", *words),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": str(ROOT), "PATH": os.environ.get("PATH", "")},
            # As a server: helpers import the handlers' folder by its full name only.
            cwd="/",
            text=True,
        )
        self.hello: dict[str, str] = self._answer()
        if "error" in self.hello:
            self.end()
            raise ServerFailed(f"{level.name}: {self.hello['error']}")

    def __enter__(self) -> Helper:
        """Go on with it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        self.end()

    def ask(self, command: str, count: int) -> Any:
        """Have something done so many times.

        Raises:
            ServerFailed: it has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{command} {count}\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise ServerFailed(f"{command}: the helper has ended") from error
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ServerFailed("a helper has ended; what it said is above")
        return json.loads(line)

    def end(self) -> None:
        """Close its input, whereupon it ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def front(
    level: Level,
    variant: Variant,
    handler: str,
    code_dir: Path,
    temp_base: Path,
    environment: Mapping[str, str],
) -> Helper:
    """Return a helper that drives one zygote (`sandbox_front`)."""
    temp_base.mkdir()
    os.chown(temp_base, level.uid, -1)
    order = {
        "handler": handler,
        "code_dir": str(code_dir),
        "preload": variant.preload,
        "temp_base": str(temp_base),
        "sandbox": variant.profile,
        "has_network": variant.has_network,
    }
    words: Sequence[str] = [json.dumps(order), json.dumps(dict(environment))]
    return Helper(level, "sandbox_front", *words)
