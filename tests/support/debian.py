"""A root folder with Debian 12 in it, and programs that run as on such a machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

#: How pip is set up here, for one inside that fetches something.
_PIPS = "PIP_"
_NAMES = "/etc/resolv.conf"


def debootstrap(root: Path, *packages: str) -> None:
    """Make such a root; skip the test where that cannot be."""
    for program in ("debootstrap", "bwrap"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not here: tools/install-toolchains installs it")
    if os.getuid():
        pytest.skip("debootstrap takes root")
    words = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}"]
    code, output = _run([*words, "bookworm", str(root)], timeout_s=500)
    if code and "Retrieving" in output.splitlines()[-1]:
        pytest.skip(f"Debian's packages are not reached: {output[-200:]}")
    assert code == 0, output[-2000:]


class Machine:
    """Whoever runs on it sees this root, and of this host the network alone."""

    def __init__(self, root: Path, *binds: tuple[Path, str]) -> None:
        """`binds` are further folders, to be read alone, and where they are seen."""
        self._root = root
        self._binds = binds

    def prefix(self) -> list[str]:
        """Return the words that come before a program's own."""
        words = ["bwrap", "--bind", str(self._root), "/", "--die-with-parent"]
        for source, seen in self._binds:
            words += ["--ro-bind", str(source), seen]
        return [*words, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]

    def run(self, *words: str) -> str:
        """Run a program to its end; return what it printed."""
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        code, output = _run([*self.prefix(), *words], env)
        assert code == 0, output[-2000:]
        return output

    def run_with_network(self, *words: str) -> str:
        """Do so with what this host needs to be known to reach others."""
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        bound = [*self._binds, (Path(_NAMES), _NAMES)]
        for name, value in os.environ.items():
            if name.startswith(_PIPS) and Path(value).is_file():
                # Where nothing inside is concerned with it.
                env[name] = f"/mnt/{name}"
                bound.append((Path(value), env[name]))
            elif name.startswith(_PIPS):
                env[name] = value
        code, output = _run([*Machine(self._root, *bound).prefix(), *words], env)
        assert code == 0, output[-2000:]
        return output


class Dockerfile:
    """A Dockerfile of one stage, carried out step by step without Docker."""

    def __init__(self, path: Path, context: Path) -> None:
        text = path.read_text().replace("\\\n", "")
        lines = [line for line in text.splitlines() if line and line[0] not in "# "]
        self.steps = [tuple(line.split(None, 1)) for line in lines]
        self._context = context

    def of(self, instruction: str) -> Iterator[str]:
        """Return what follows each instruction of a name."""
        return (rest for name, rest in self.steps if name == instruction)

    def build(self, root: Path, arguments: Mapping[str, str]) -> None:
        """Carry out what changes the root; it must be what FROM names."""
        machine = Machine(root)
        for name, rest in self.steps:
            for argument, value in arguments.items():
                rest = rest.replace(f"${{{argument}}}", value)  # noqa: PLW2901
            if name == "RUN":
                machine.run_with_network("sh", "-c", rest)
            elif name == "COPY":
                self._copy(rest.split(), root)

    def _copy(self, words: Sequence[str], root: Path) -> None:
        *sources, into = words
        target = root / into.lstrip("/")
        for source in (self._context / one for one in sources):
            # As Docker does it: of a folder what is in it, of files each by its name.
            if source.is_dir():
                ours = shutil.ignore_patterns("__pycache__")
                shutil.copytree(
                    source, target, symlinks=True, ignore=ours, dirs_exist_ok=True
                )
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)


def _run(
    words: Sequence[str], env: Mapping[str, str] | None = None, timeout_s: float = 300
) -> tuple[int, str]:
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=env,
        timeout=timeout_s,
    )
    return done.returncode, done.stdout
