"""A real process shows its secrets in /proc no longer, and still works."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isoruntime.sandbox import startup_secrets

pytestmark = pytest.mark.skipif(
    startup_secrets._block(startup_secrets._ENVIRONMENT_AT, "/proc/self/environ")
    is None,
    reason="this kernel does not let a process see its own memory in /proc",
)

PROGRAM = """
import os, sys
from isoruntime.sandbox import startup_secrets as s
print(s.overwrite_environment({names}), s.overwrite_arguments({arguments!r}))
print(os.environ["API_TOKEN"], sys.argv[-1], os.environ["PLAIN"], flush=True)
sys.stdin.read()
"""


@contextmanager
def a_process(
    names: str, arguments: list[str], argv: list[str]
) -> Iterator[tuple[str, str, Path]]:
    """Yield what the program says of itself, and its folder in /proc."""
    program = PROGRAM.format(names=names, arguments=arguments)
    with subprocess.Popen(
        [sys.executable, "-c", program, *argv],
        env={
            "API_TOKEN": "very=secret",
            "PLAIN": "plain",
            "EMPTY": "",
            "UMLAUT": "ä",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        counts, values = process.stdout.readline(), process.stdout.readline()
        yield counts.strip(), values.strip(), Path(f"/proc/{process.pid}")


@pytest.mark.parametrize(
    "names",
    ["{'API_TOKEN', 'EMPTY', 'NONE'}", "lambda name: name.endswith('TOKEN')"],
    ids=["by name", "by rule"],
)
def test_a_value_is_gone_from_the_kernels_view_and_not_from_pythons(
    names: str,
) -> None:
    with a_process(names, [], ["plain"]) as (counts, values, proc):
        shown = (proc / "environ").read_bytes().split(b"\0")
        assert counts == "1 0"
        assert values == "very=secret plain plain"
    assert b"API_TOKEN=" + b"x" * len("very=secret") in shown
    assert b"PLAIN=plain" in shown
    assert "UMLAUT=ä".encode() in shown
    assert not any(b"secret" in entry for entry in shown)


def test_a_secret_argument_is_gone_wherever_it_stands() -> None:
    argv = ["--key", "id:hush", "--again=hush", "harmless", "id:hush"]
    # As `-c PROGRAM` names it as well, that is twice more.
    with a_process("()", ["hush"], argv) as (counts, values, proc):
        shown = (proc / "cmdline").read_bytes()
        assert counts == "0 4"
        assert values == "very=secret id:hush plain"
    assert b"hush" not in shown
    assert shown.endswith(b"--key\0id:xxxx\0--again=xxxx\0harmless\0id:xxxx\0")
