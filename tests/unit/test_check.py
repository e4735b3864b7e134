"""`isoruntime check`: every kind of finding, made by breaking a function that is fine."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from isoruntime.cli import check
from isoruntime.project import review, syntax
from isoruntime.project.elf import examine
from isoruntime.project.images import CUSTOM
from tests.tools import checks_table

ROOT = Path(__file__).parents[2]

FINE = """\
edition: 3.0.0
name: demo
access: default
vars:
  region: cn-hangzhou
resources:
  fn:
    component: fc3
    props:
      region: ${vars.region}
      functionName: demo-${env('STAGE')}
      runtime: custom.debian12
      handler: index.handler
      timeout: 60
      memorySize: 512
      cpu: 0.5
      diskSize: 512
      instanceConcurrency: 4
      code: ./code
      customRuntimeConfig:
        command:
          - /code/bootstrap
        args:
          - --max-workers
          - "4"
        port: 9000
        healthCheckConfig:
          httpGetUrl: /health
          periodSeconds: 3
      instanceLifecycleConfig:
        initializer: {handler: "true", timeout: 30}
        preStop: {handler: "true", timeout: 30}
      environmentVariables:
        MODE: yes
        PATH: /code/python/bin:/usr/bin:/bin
      logConfig: auto
      triggers:
        - triggerName: hourly
          triggerType: timer
          triggerConfig: {cronExpression: "@every 1h", enable: true}
"""


class Project:
    """A function that is fine, to be broken."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.code = root / "code"
        self.manifest = root / "s.yaml"
        self.manifest.write_text(FINE)
        self.put(
            "index.py", "import json\n\n\ndef handler(event, context):\n    pass\n"
        )
        self.put("bootstrap", (ROOT / "bootstrap").read_text())
        self.bootstrap.chmod(0o755)
        for name in ("isoruntime", "waitress", "psutil"):
            self.put(f"python/{name}/__init__.py", "")

    @property
    def bootstrap(self) -> Path:
        return self.code / "bootstrap"

    def put(self, name: str, content: str | bytes) -> Path:
        path = self.code / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def starts_with(self, content: str | bytes) -> None:
        self.put("bootstrap", content)

    def says(self, *changes: tuple[str, str]) -> None:
        """Change words of s.yaml, each of which has to be there."""
        text = self.manifest.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.manifest.write_text(text)

    def vendors(self, name: str, tag: str, *more: str) -> None:
        folder = f"python/{name}-1.0.dist-info"
        self.put(f"{folder}/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        self.put(f"{folder}/METADATA", "\n".join(["Name: x", *more]))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


Looked = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def look(capsys: pytest.CaptureFixture[str]) -> Looked:
    """Run the command; return its exit code and what it found."""

    def run(*words: str) -> tuple[int, list[dict[str, Any]]]:
        code = check.main([*words, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def elf(*, machine: int = 62, loader: str = "", glibc: str = "") -> bytes:
    """Return a library's tables, as far as they are looked at."""
    head = bytearray(b"\x7fELF\x02\x01\x01".ljust(64, b"\0"))
    text = f"{loader}\0".encode()
    names = f"\0libc.so.6\0GLIBC_{glibc}\0".encode()
    needed = struct.pack("<HHIII", 1, 1, 1, 16, 0) + struct.pack(
        "<IHHII", 0, 0, 2, 11, 0
    )
    at_program = 64
    at_text = at_program + 56
    at_names = at_text + len(text)
    at_needed = at_names + len(names)
    at_sections = at_needed + len(needed)
    struct.pack_into("<H", head, 18, machine)
    struct.pack_into("<Q", head, 32, at_program)
    struct.pack_into("<Q", head, 40, at_sections)
    struct.pack_into("<HHHH", head, 54, 56, bool(loader), 64, 2)
    program = struct.pack("<IIQQQQQQ", 3, 0, at_text, 0, 0, len(text), 0, 0)
    sections = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, at_names, len(names), *[0] * 4)
    verneed = 0x6FFFFFFE if glibc else 0
    sections += struct.pack(
        "<IIQQQQIIQQ", 0, verneed, 0, 0, at_needed, len(needed), 0, 1, 0, 0
    )
    return bytes(head) + program + text + names + needed + sections


class Case(NamedTuple):
    """A way to break the function, and what is to be said of it."""

    name: str
    breaks: Callable[[Project], object]
    place: str
    cause: str
    line: int | None = None


def says(*changes: tuple[str, str]) -> Callable[[Project], object]:
    return lambda project: project.says(*changes)


def starts_with(content: str | bytes) -> Callable[[Project], object]:
    return lambda project: project.starts_with(content)


def puts(name: str, content: str | bytes) -> Callable[[Project], object]:
    return lambda project: project.put(name, content)


def vendors(name: str, tag: str, *more: str) -> Callable[[Project], object]:
    return lambda project: project.vendors(name, tag, *more)


def serves_otherwise(*words: str) -> Callable[[Project], object]:
    """Have another server started, by these words."""
    command = json.dumps(words)
    return says(
        ("command:\n          - /code/bootstrap\n", f"command: {command}\n"),
        ('        args:\n          - --max-workers\n          - "4"\n', ""),
    )


def shift(old: str, new: str, file: str, content: str) -> Callable[[Project], object]:
    """Change a word of s.yaml and add a file."""

    def breaks(project: Project) -> None:
        project.says((old, new))
        project.put(file, content)

    return breaks


def listens(source: str) -> Callable[[Project], object]:
    """Have a script of one's own started."""

    def breaks(project: Project) -> None:
        serves_otherwise("python3", "server.py")(project)
        project.put("server.py", source)

    return breaks


ARGS = '- "4"'
VARIABLE = "MODE: yes"

CASES = [
    Case("manifest-syntax", says(("name: demo", "name: [demo")), "s.yaml", "no YAML"),
    Case(
        "manifest-syntax",
        says(("vars:", "vars: &v\n  me: *v")),
        "s.yaml",
        "holds itself",
    ),
    Case(
        *("key-twice", says(("diskSize: 512", "timeout: 70")), "s.yaml"),
        *("'timeout' stands here and in line 14", 17),
    ),
    Case(
        *("key-misspelt", says(("memorySize", "memorySise")), "s.yaml"),
        *("'memorySise' is no key: did you mean 'memorySize'?", 15),
    ),
    Case(
        "key-misspelt", says(("component", "componnent")), "s.yaml", "'component'?", 8
    ),
    Case(
        "key-misspelt", says(("resources:", "resorces:")), "s.yaml", "'resources'?", 6
    ),
    Case(
        "key-misspelt",
        says(("enable: true", "enabled: true")),
        "s.yaml",
        "'enable'?",
        40,
    ),
    Case(
        *("key-misplaced", says(("diskSize: 512", "caPort: 9000")), "s.yaml"),
        *("'caPort' is FC 2.0's", 17),
    ),
    Case(
        *("key-misplaced", says(("diskSize: 512", "httpGetUrl: /health")), "s.yaml"),
        *("belongs to customRuntimeConfig.healthCheckConfig", 17),
    ),
    Case(
        "key-misplaced",
        says(("triggerName", "name")),
        "s.yaml",
        "'name' is FC 2.0's",
        38,
    ),
    Case(
        *("key-unknown", says(("diskSize: 512", "zzz: 1")), "s.yaml"),
        *("'zzz' is no key", 17),
    ),
    Case(
        *("key-missing", says(("functionName", "description")), "s.yaml"),
        "lacks functionName",
    ),
    Case("key-missing", says(("code: ./code", "")), "s.yaml", "needs code"),
    Case(
        "key-missing",
        says(("cronExpression", "payload")),
        "s.yaml",
        "cronExpression",
        40,
    ),
    Case(
        "value-type", says(("9000", '"9000"')), "s.yaml", "port is the text '9000'", 26
    ),
    Case("value-type", says((VARIABLE, "N: 3")), "s.yaml", "N is the number 3", 34),
    Case(
        "value-range",
        says(("512\n      cpu", "500\n      cpu")),
        "s.yaml",
        "multiple of 64",
        15,
    ),
    Case("value-range", says(("timeout: 60", "timeout: 86401")), "s.yaml", "86401", 14),
    Case(
        "value-range",
        says(("Seconds: 3", "Seconds: 0")),
        "s.yaml",
        "is 0, less than 1",
        29,
    ),
    Case(
        "value-range",
        says(
            (
                '"true", timeout: 30}\n        preStop',
                '"true", timeout: 301}\n        preStop',
            )
        ),
        "s.yaml",
        "more than 300",
        31,
    ),
    Case(
        "value-unknown",
        says(("custom.debian12", "custom.debian13")),
        "s.yaml",
        "did you mean custom.debian12?",
        12,
    ),
    Case(
        "value-unknown",
        says(("Size: 512\n      inst", "Size: 513\n      inst")),
        "s.yaml",
        "513",
        17,
    ),
    Case(
        "value-unlisted",
        says(("region: cn-hangzhou", "region: cn-hangzou")),
        "s.yaml",
        "did you mean cn-hangzhou?",
        10,
    ),
    Case(
        "nothing-judged",
        says(("component: fc3", "component: fc")),
        "s.yaml",
        "none of its resources",
    ),
    Case(
        "cpu-memory-ratio",
        says(("cpu: 0.5", "cpu: 2")),
        "s.yaml",
        "0.25 GB for each vCPU",
        16,
    ),
    Case("cpu-step", says(("cpu: 0.5", "cpu: 0.33")), "s.yaml", "0.33", 16),
    Case(
        "variables-too-large",
        says((VARIABLE, f"BIG: {'x' * 4096}")),
        "s.yaml",
        "of the 4096",
        33,
    ),
    Case("variable-reserved", says((VARIABLE, "FC_MINE: a")), "s.yaml", "FC_MINE", 34),
    Case(
        "variable-reserved",
        says((VARIABLE, "ALIBABA_CLOUD_SECURITY_TOKEN: a")),
        "s.yaml",
        "set by the platform",
        34,
    ),
    Case("variable-name", says((VARIABLE, "A-B: a")), "s.yaml", "'A-B'", 34),
    Case("code-missing", says(("./code", "./cod")), "s.yaml", "cod does not exist", 19),
    Case(
        "runtime-unsupported",
        says(("custom.debian12", "custom")),
        "s.yaml",
        "Python 3.7",
        12,
    ),
    Case(
        "bootstrap-missing",
        lambda project: project.bootstrap.unlink(),
        "code",
        "does not exist",
    ),
    Case(
        "bootstrap-missing",
        lambda project: (
            project.bootstrap.unlink(),
            project.bootstrap.symlink_to("/bin/true"),
        ),
        "code/bootstrap",
        "a link to /bin/true",
    ),
    Case(
        "bootstrap-not-executable",
        lambda project: project.bootstrap.chmod(0o644),
        "code/bootstrap",
        "its mode is 644",
    ),
    Case(
        "bootstrap-crlf",
        starts_with("#!/usr/bin/env bash\r\nexec isoruntime serve\r\n"),
        "code/bootstrap",
        "CR LF",
        1,
    ),
    Case(
        "bootstrap-bom",
        starts_with("\ufeff#!/bin/bash\nexec isoruntime serve\n"),
        "code/bootstrap",
        "byte order mark",
        1,
    ),
    Case(
        "bootstrap-shebang",
        starts_with("exec isoruntime serve\n"),
        "code/bootstrap",
        "does not begin",
        1,
    ),
    Case(
        "bootstrap-shebang",
        starts_with("\n#!/bin/bash\nexec isoruntime serve\n"),
        "code/bootstrap",
        "the #! of line 2",
        1,
    ),
    Case("bootstrap-shebang", starts_with(""), "code/bootstrap", "empty", 1),
    Case(
        "bootstrap-interpreter",
        starts_with("#!/opt/homebrew/bin/bash\nisoruntime serve\n"),
        "code/bootstrap",
        "of this machine",
        1,
    ),
    Case(
        "bootstrap-interpreter",
        starts_with("#!/usr/bin/env python3.13\n"),
        "code/bootstrap",
        "python3.13 is not there",
        1,
    ),
    Case(
        "bootstrap-interpreter",
        starts_with("#!/usr/bin/env python3 -u\n"),
        "code/bootstrap",
        "blanks and all",
        1,
    ),
    Case(
        "bootstrap-interpreter",
        starts_with("#!/opt/bin/bash\n"),
        "code/bootstrap",
        "a layer",
        1,
    ),
    Case(
        "bootstrap-interpreter",
        starts_with("#!/code/bin/bash\n"),
        "code/bootstrap",
        "not in the folder",
        1,
    ),
    Case(
        "bootstrap-interpreter-unknown",
        starts_with("#!/usr/bin/env fish\n"),
        "code/bootstrap",
        "'fish'",
        1,
    ),
    Case(
        "bootstrap-interpreter-unknown",
        starts_with("#!/usr/local/bin/bash\n"),
        "code/bootstrap",
        "may not be",
        1,
    ),
    Case(
        "bootstrap-architecture",
        starts_with(elf(machine=183)),
        "code/bootstrap",
        "Linux aarch64",
    ),
    Case(
        "bootstrap-architecture",
        starts_with(b"\xcf\xfa\xed\xfe" + bytes(60)),
        "code/bootstrap",
        "Mach-O",
    ),
    Case(
        "bootstrap-architecture",
        starts_with(b"MZ" + bytes(60)),
        "code/bootstrap",
        "Windows",
    ),
    Case(
        "bootstrap-architecture",
        starts_with(b"\x7fELF\x02\x01"),
        "code/bootstrap",
        "damaged",
    ),
    Case(
        "bootstrap-loader",
        starts_with(elf(loader="/lib/ld-musl-x86_64.so.1")),
        "code/bootstrap",
        "ld-musl",
    ),
    Case(
        "bootstrap-loader",
        starts_with(elf(glibc="2.38")),
        "code/bootstrap",
        "needs glibc 2.38",
    ),
    Case(
        "bootstrap-background",
        starts_with("#!/bin/bash\nisoruntime serve &\n\n# end\n"),
        "code/bootstrap",
        "ends with &",
        2,
    ),
    Case(
        "command-missing",
        says(("/code/bootstrap", "/code/bin/start")),
        "s.yaml",
        "/code/bin/start does not exist",
        21,
    ),
    Case(
        "command-missing",
        serves_otherwise("python3", "server.py"),
        "s.yaml",
        "/code/server.py does not exist",
        21,
    ),
    Case(
        "command-one-word",
        serves_otherwise("python3 server.py"),
        "s.yaml",
        "is one word",
        21,
    ),
    Case(
        "command-python",
        lambda project: (
            serves_otherwise("python3", "-m", "isoruntime", "serve")(project),
            project.says(("debian12", "debian11")),
        ),
        "s.yaml",
        "is 3.9",
        21,
    ),
    Case(
        "command-python",
        serves_otherwise("python3.12", "server.py"),
        "s.yaml",
        "'python3.12' is not on the PATH",
        21,
    ),
    Case(
        "port-mismatch",
        says((ARGS, '- "4"\n          - --port=9001')),
        "s.yaml",
        "--port is 9001",
        26,
    ),
    Case(
        "port-mismatch",
        says((VARIABLE, 'ISORUNTIME_PORT: "9001"')),
        "s.yaml",
        "9001",
        34,
    ),
    Case(
        "port-mismatch",
        starts_with("#!/bin/bash\nISORUNTIME_PORT=80 exec isoruntime serve\n"),
        "code/bootstrap",
        "ISORUNTIME_PORT is 80",
    ),
    Case(
        "port-mismatch",
        serves_otherwise("gunicorn", "-b", "0.0.0.0:8000", "app:app"),
        "s.yaml",
        "port 8000",
        21,
    ),
    Case(
        "listens-locally",
        says((ARGS, '- "4"\n          - --host\n          - localhost')),
        "s.yaml",
        "--host is localhost",
        26,
    ),
    Case(
        "listens-locally",
        says((VARIABLE, "ISORUNTIME_HOST: 127.0.0.1")),
        "s.yaml",
        "127.0.0.1",
        34,
    ),
    Case(
        "listens-locally",
        starts_with("#!/bin/bash\nexec uvicorn app:app --port 9000\n"),
        "code/bootstrap",
        "told no other address",
        2,
    ),
    Case(
        "listens-locally",
        serves_otherwise("python3", "-m", "flask", "run", "--port", "9000"),
        "s.yaml",
        "told no other address",
        21,
    ),
    Case(
        "listens-locally-in-code",
        listens("app.run(host='127.0.0.1', port=9000)\n"),
        "code/server.py",
        "127.0.0.1",
        1,
    ),
    Case(
        "port-mismatch-in-code",
        listens("HTTPServer(('', 8080), None)\n"),
        "code/server.py",
        "8080",
        1,
    ),
    Case(
        "health-check-path", says(("/health", "/healthz")), "s.yaml", "'/healthz'", 28
    ),
    Case(
        "setting-refused",
        says(("--max-workers", "--max-worker")),
        "s.yaml",
        "--max-worker is no option",
        24,
    ),
    Case(
        "setting-refused",
        says((VARIABLE, "ISORUNTIME_TIMEOUT: never")),
        "s.yaml",
        "ISORUNTIME_TIMEOUT='never'",
        34,
    ),
    Case(
        "setting-refused",
        starts_with("#!/bin/bash\n\nexec isoruntime serve \\\n  --queue -3\n"),
        "code/bootstrap",
        "--queue '-3'",
        3,
    ),
    Case(
        "workers-too-few",
        says(("Concurrency: 4", "Concurrency: 5")),
        "s.yaml",
        "at most 4 workers",
        18,
    ),
    Case(
        "timeout-never-reached",
        says((VARIABLE, 'ISORUNTIME_TIMEOUT: "61"')),
        "s.yaml",
        "ISORUNTIME_TIMEOUT is 61 s",
        14,
    ),
    Case(
        "memory-never-reached",
        says((VARIABLE, 'ISORUNTIME_MEMORY: "1024"')),
        "s.yaml",
        "1024 MB",
        15,
    ),
    Case(
        "hook-never-called",
        shift(
            '        preStop: {handler: "true", timeout: 30}\n      environmentVariables:',
            "      environmentVariables:\n        ISORUNTIME_PRE_STOP: hooks.stop",
            "hooks.py",
            "def stop(context): ...",
        ),
        "s.yaml",
        "ISORUNTIME_PRE_STOP",
    ),
    Case(
        "http-trigger-unanswered",
        says(
            ("Type: timer", "Type: http"),
            (
                '{cronExpression: "@every 1h", enable: true}',
                "{authType: anonymous, methods: [GET]}",
            ),
        ),
        "s.yaml",
        "404",
        38,
    ),
    Case(
        "handler-name",
        says((VARIABLE, "ISORUNTIME_HANDLER: index")),
        "s.yaml",
        "'index'",
        34,
    ),
    Case(
        "handler-ignored",
        says(("index.handler", "whatever")),
        "s.yaml",
        "index.handler is taken",
        13,
    ),
    Case(
        "handler-module-missing",
        says(("index.handler", "indx.handler")),
        "s.yaml",
        "did you mean index.handler?",
        13,
    ),
    Case(
        "handler-function-missing",
        says(("index.handler", "index.handle")),
        "s.yaml",
        "did you mean 'handler'?",
        13,
    ),
    Case(
        "handler-arguments",
        puts("index.py", "def handler(event): ...\n"),
        "code/index.py",
        "takes 1 values, and is given 2",
        1,
    ),
    Case(
        "code-syntax",
        puts("index.py", "def handler(event, context):\n    x = = 1\n"),
        "code/index.py",
        "Python 3.11 says",
        2,
    ),
    Case(
        "code-syntax",
        lambda project: (
            project.put("index.py", "from lib.deep import f as handler\n"),
            project.put("lib/__init__.py", ""),
            project.put("lib/deep.py", "from . import other\ndef f(a, b): ...\n"),
            project.put("lib/other.py", "print 1\n"),
        ),
        "code/lib/other.py",
        "Python 3.11",
        1,
    ),
    Case(
        "import-removed",
        lambda project: (
            project.says(("debian12", "debian11")),
            project.put(
                "index.py", "import distutils.core\ndef handler(event, context): ...\n"
            ),
        ),
        "code/index.py",
        "no part of Python 3.12",
        1,
    ),
    Case(
        "import-removed",
        lambda project: (
            project.says(("debian12", "debian10")),
            project.put(
                "index.py", "import tomllib\ndef handler(event, context): ...\n"
            ),
        ),
        "code/index.py",
        "no part of Python 3.10",
        1,
    ),
    Case(
        "import-missing",
        listens("import flask\n"),
        "code/server.py",
        "'flask' is neither in the folder nor in Python 3.11's library",
        1,
    ),
    Case(
        "code-syntax",
        lambda project: (
            listens("if (n := 1): pass\n")(project),
            project.says(("debian12", "debian10")),
        ),
        "code/server.py",
        "Python 3.7 says",
        1,
    ),
    Case(
        "import-missing",
        puts("index.py", "import requests\ndef handler(event, context): ...\n"),
        "code/index.py",
        "'requests'",
        1,
    ),
    Case(
        "package-python",
        vendors("numpy", "cp312-cp312-manylinux_2_17_x86_64"),
        "code/python/numpy-1.0.dist-info/WHEEL",
        "built for Python 3.12, and custom.debian12 has 3.11",
    ),
    Case(
        "package-python",
        puts("python/np/_np.cpython-310-x86_64-linux-gnu.so", elf()),
        "code/python/np/_np.cpython-310-x86_64-linux-gnu.so",
        "np: it was built for Python 3.10",
    ),
    Case(
        "package-platform",
        vendors("numpy", "cp311-cp311-macosx_11_0_arm64"),
        "code/python/numpy-1.0.dist-info/WHEEL",
        "macosx",
    ),
    Case(
        "package-platform",
        vendors("numpy", "cp311-cp311-manylinux2014_aarch64"),
        "code/python/numpy-1.0.dist-info/WHEEL",
        "not for x86-64",
    ),
    Case(
        "package-platform",
        vendors("numpy", "cp311-cp311-musllinux_1_2_x86_64"),
        "code/python/numpy-1.0.dist-info/WHEEL",
        "glibc",
    ),
    Case(
        "package-platform",
        puts("python/np/a.cpython-311-darwin.so", b""),
        "code/python/np/a.cpython-311-darwin.so",
        "darwin",
    ),
    Case(
        "package-platform",
        puts("python/np/a.cpython-311-x86_64-linux-musl.so", elf()),
        "code/python/np/a.cpython-311-x86_64-linux-musl.so",
        "musl",
    ),
    Case(
        "package-platform",
        puts("python/np/a.abi3.so", elf(machine=183)),
        "code/python/np/a.abi3.so",
        "aarch64",
    ),
    Case(
        "package-platform",
        puts("python/np/a.dylib", b""),
        "code/python/np/a.dylib",
        "macOS",
    ),
    Case(
        "package-glibc",
        vendors("numpy", "cp311-cp311-manylinux_2_38_x86_64"),
        "code/python/numpy-1.0.dist-info/WHEEL",
        "needs glibc 2.38",
    ),
    Case(
        "package-glibc",
        puts("python/np/a.abi3.so", elf(glibc="2.37")),
        "code/python/np/a.abi3.so",
        "needs glibc 2.37",
    ),
    Case(
        "package-requires-python",
        vendors("new", "py3-none-any", "Requires-Python: >=3.12"),
        "code/python/new-1.0.dist-info/WHEEL",
        "needs Python 3.12",
    ),
    Case(
        "runtime-missing",
        lambda project: (project.code / "python/psutil/__init__.py").unlink(),
        "code/bootstrap",
        "psutil cannot be found",
    ),
    Case(
        "runtime-not-on-path",
        serves_otherwise("python3", "-m", "isoruntime", "serve"),
        "s.yaml",
        "in ./python",
        21,
    ),
]


def test_a_function_that_is_fine_has_no_findings(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.main([]) == 0
    assert capsys.readouterr().out == (
        "nothing found; looked at s.yaml, fn (custom.debian12, Python 3.11, port 9000), "
        "code/bootstrap, handler index.handler\n"
    )


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{at} {case.name}" for at, case in enumerate(CASES)]
)
def test_what_is_broken_is_found_where_it_is(
    project: Project, look: Looked, case: Case
) -> None:
    case.breaks(project)
    code, findings = look()
    found = [one for one in findings if one["id"] == case.name]
    assert len(found) == 1, findings
    assert case.cause in found[0]["cause"]
    assert found[0]["file"] == case.place
    if case.line:
        assert found[0]["line"] == case.line
    assert found[0]["fix"]
    severities = {one["severity"] for one in findings}
    assert code == (1 if "error" in severities else 0)


def test_every_kind_of_finding_is_made_by_some_case() -> None:
    # A sparse file of 500 MB has a test of its own.
    assert {kind.name for kind in review.kinds()} - {case.name for case in CASES} == {
        "package-too-large"
    }


def test_a_folder_that_is_too_large_is_told(project: Project, look: Looked) -> None:
    with (project.code / "model.bin").open("wb") as file:
        file.truncate(501 * 1024 * 1024)
    code, (finding,) = look()
    assert (code, finding["id"]) == (0, "package-too-large")


@pytest.mark.parametrize(
    "case",
    [
        one
        for one in CASES
        if one.name in ("bootstrap-crlf", "key-misspelt", "code-syntax")
    ],
    ids=lambda case: case.cause,
)
def test_one_fault_is_told_once(project: Project, look: Looked, case: Case) -> None:
    # What follows from it is not made into faults as well.
    case.breaks(project)
    found = [one["id"] for one in look()[1] if one["id"] != "nothing-judged"]
    assert found == [case.name]


def test_warnings_alone_change_the_exit_code_only_when_asked(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.says(("cpu: 0.5", "cpu: 2"))
    assert check.main([]) == 0
    assert check.main(["--strict"]) == 1
    assert "0 errors, 1 warning; looked at s.yaml" in capsys.readouterr().out


def test_findings_are_told_by_file_with_fix_and_the_platforms_words(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.bootstrap.chmod(0o600)
    project.says(("timeout: 60", "timout: 60"))
    assert check.main([str(project.root)]) == 1
    shown, escape = capsys.readouterr().out.splitlines(), "\033"
    assert shown[:3] == [
        "s.yaml",
        "  error: line 14: 'timout' is no key: did you mean 'timeout'? [key-misspelt]",
        "      fix: write timeout",
    ]
    assert shown[4:6] == [
        "code/bootstrap",
        "  error: its mode is 600 [bootstrap-not-executable]",
    ]
    assert "message:permission denied" in shown[7]
    assert shown[-1].startswith("2 errors, 0 warnings; looked at s.yaml")
    assert escape not in "".join(shown)


def test_json_is_read_without_lines(project: Project, look: Looked) -> None:
    import yaml

    text = FINE.replace("timeout: 60", "timeout: 0").replace("yes", "fast")
    project.manifest.unlink()
    (project.root / "s.json").write_text(json.dumps(yaml.safe_load(text)))
    code, (finding,) = look()
    assert (code, finding["id"]) == (1, "value-range")
    assert (finding["line"], finding["key"]) == (None, "resources.fn.props.timeout")
    (project.root / "s.json").write_text("{")
    assert look("s.json")[1][0]["id"] == "manifest-syntax"


def test_several_functions_are_judged_and_others_are_named(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    fn = FINE.partition("resources:\n")[2]
    second = fn.replace("  fn:", "  second:").replace("timeout: 60", "timeout: 0")
    domain = "  site:\n    component: fc3-domain\n    props: {domainName: auto}\n"
    project.manifest.write_text(FINE + second + domain)
    assert check.main(["--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert (finding["function"], finding["id"]) == ("second", "value-range")
    check.main([])
    assert "not judged: site (fc3-domain)" in capsys.readouterr().out


def test_templates_merges_and_variables_are_filled_in(
    project: Project, look: Looked
) -> None:
    project.says(
        (
            "vars:\n",
            "x: &limits {timeout: 0}\ntemplate:\n  t: {memorySize: 100}\nvars:\n",
        ),
        ("timeout: 60\n      memorySize: 512", "<<: *limits"),
        ("    component: fc3\n", "    component: fc3@0.1.2\n    extend: {name: t}\n"),
        ("      cpu: 0.5\n", ""),
    )
    _, findings = look()
    causes = [one["cause"] for one in findings]
    assert causes == [
        "memorySize is 100, less than 128",
        "memorySize is 100, no multiple of 64",
        "timeout is 0, less than 1",
    ]


def test_open_values_are_no_errors(project: Project, look: Looked) -> None:
    project.says(
        ("timeout: 60", "timeout: ${env('T')}"),
        ("port: 9000", 'port: "{{ port }}"'),
        ("runtime: custom.debian12", "runtime: ${config('runtime')}"),
        ("code: ./code", "code: ${path('.')}"),
    )
    assert look() == (0, [])


def test_a_folder_without_a_manifest_is_judged_for_the_runtime_that_is_named(
    project: Project, look: Looked
) -> None:
    project.put("index.py", "import tomllib\n\n\ndef handler(event, context): ...\n")
    assert look("code") == (0, [])
    code, (finding,) = look("code", "--runtime", "custom.debian10")
    assert (code, finding["id"]) == (1, "import-removed")


def test_layers_may_bring_what_the_folder_lacks(project: Project, look: Looked) -> None:
    (project.code / "python/psutil/__init__.py").unlink()
    project.put("index.py", "import requests\ndef handler(event, context): ...\n")
    project.says(("logConfig: auto", "layers: [acs:fc:layer/1]"))
    assert look() == (0, [])


def test_a_package_for_several_pythons_is_fine_if_one_of_them_fits(
    project: Project, look: Looked
) -> None:
    for version in (310, 311, 312):
        project.put(f"python/np/_np.cpython-{version}-x86_64-linux-gnu.so", elf())
    project.vendors("both", "cp310-abi3-manylinux_2_17_x86_64")
    project.vendors("pure", "py3-none-any", "Requires-Python: >=3.8")
    assert look() == (0, [])


def test_a_handler_in_a_package_and_one_made_as_it_goes_are_fine(
    project: Project, look: Looked
) -> None:
    project.put("a/b/main.py", "globals()['handler'] = print\n")
    project.says(("index.handler", "a/b/main.handler"))
    assert look() == (0, [])
    project.put(
        "a/b/main.py",
        "try:\n    import ujson\nexcept ImportError: ...\nhandler = print\n",
    )
    assert look() == (0, [])


def test_a_built_in_runtime_has_its_handler_judged(
    project: Project, look: Looked
) -> None:
    project.says(
        ("custom.debian12", "python3.10"),
        ("index.handler", "index.handlr"),
        ('initializer: {handler: "true"', "initializer: {handler: index.handler"),
        ('preStop: {handler: "true"', "preStop: {handler: 'true'"),
    )
    project.bootstrap.unlink()
    assert [one["id"] for one in look()[1]] == [
        *("handler-function-missing", "handler-arguments", "handler-name"),
    ]


def test_code_is_compiled_by_the_version_it_is_for(
    tmp_path: Path,
) -> None:
    new = tmp_path / "new.py"
    new.write_text("match 1:\n    case 1: print(f'{\"a\"}')\n")
    assert syntax.faults([new], (3, 9))[0].line in (1, 2)
    assert syntax.faults([new], sys.version_info[:2]) == []


def test_nothing_of_the_users_is_run(project: Project, look: Looked) -> None:
    flag = project.root / "run"
    project.put(
        "index.py", f"open({str(flag)!r}, 'w')\ndef handler(event, context): ...\n"
    )
    assert look() == (0, [])
    assert not flag.exists()


PACKS = (
    (
        "    component: fc3\n",
        "    component: fc3\n    actions: {pre-deploy: [{run: RUN}]}\n",
    ),
    ("code: ./code", "code: ./code.zip"),
)


def packs(project: Project, run: str) -> None:
    """Have the folder packed before it is deployed."""
    project.says(*((old, new.replace("RUN", run)) for old, new in PACKS))


@pytest.mark.parametrize(
    "run",
    [
        "isoruntime package code -o code.zip",
        "isoruntime package --python 3.11 code",
        ".venv/bin/python -m isoruntime package ./code",
    ],
)
def test_a_folder_that_is_packed_first_is_judged_as_it_will_be(
    project: Project, look: Looked, run: str
) -> None:
    packs(project, run)
    for name in ("isoruntime", "waitress", "psutil"):
        (project.code / f"python/{name}/__init__.py").unlink()
    project.starts_with((ROOT / "bootstrap").read_bytes().replace(b"\n", b"\r\n"))
    project.bootstrap.chmod(0o644)
    assert look() == (0, [])
    project.bootstrap.unlink()
    assert look() == (0, [])
    (project.code / "index.py").unlink()
    assert [one["id"] for one in look()[1]] == ["handler-module-missing"]


def test_a_folder_that_is_packed_without_packages_has_to_have_them(
    project: Project, look: Looked
) -> None:
    packs(project, "isoruntime package code --no-vendor")
    (project.code / "python/psutil/__init__.py").unlink()
    assert [one["id"] for one in look()[1]] == ["runtime-missing"]


def test_imports_may_come_from_requirements_that_are_packed(
    project: Project, look: Looked
) -> None:
    packs(project, "isoruntime package code")
    project.put("index.py", "import requests\ndef handler(event, context): ...\n")
    project.put("requirements.txt", "# none yet\n")
    _, (finding,) = look()
    assert finding["id"] == "import-missing"
    assert "requirements.txt" in finding["fix"]
    project.put("requirements.txt", "requests\n")
    assert look() == (0, [])


@pytest.mark.parametrize(
    "run", ["make", "isoruntime check code", "isoruntime 'package"]
)
def test_a_zip_that_something_else_makes_is_looked_for(
    project: Project, look: Looked, run: str
) -> None:
    packs(project, f'"{run}"')
    assert [one["id"] for one in look()[1]] == ["code-missing"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nowhere"], "nowhere does not exist: give a folder or an s.yaml"),
        ([__file__], "is no s.yaml: give a folder, a .yaml or a .json"),
        (["--jsn"], "did you mean --json?"),
        (["--runtime", "custom.debian21"], "did you mean custom.debian1"),
        (["a", "b"], "'b' is not understood"),
    ],
)
def test_bad_usage_is_told_in_a_line(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.main(words) == 2
    told = capsys.readouterr()
    assert problem in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)


def test_without_pyyaml_its_extra_is_named(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert check.main([]) == 2
    assert "pip install 'isoruntime[yaml]'" in capsys.readouterr().err


def test_the_tables_of_a_real_program_are_read() -> None:
    binary = examine(Path(sys.executable).resolve())
    assert binary is not None
    if binary.is_x86_64:
        assert binary.loader.startswith("/lib")
        assert binary.glibc >= (2, 2) or "musl" in binary.loader
    assert examine(Path(__file__)) is None


def test_the_projects_own_examples_lack_only_a_bootstrap(look: Looked) -> None:
    code, findings = look(str(ROOT / "examples"))
    assert (code, [one["id"] for one in findings]) == (1, ["bootstrap-missing"])
    assert set(CUSTOM) == {"custom", *(f"custom.debian{n}" for n in (10, 11, 12))}


def test_the_page_about_the_checks_is_up_to_date() -> None:
    assert checks_table.PAGE.read_text("utf-8") == checks_table.page()


def test_the_names_of_findings_are_unique_and_in_kebab_case() -> None:
    names = [kind.name for kind in review.kinds()]
    assert len(names) == len(set(names))
    assert [name for name in names if not re.fullmatch(r"[a-z]+(-[a-z]+)+", name)] == []


def test_nothing_of_it_is_imported_on_the_way_to_serving() -> None:
    question = (
        "import sys, isoruntime.cli.serve, isoruntime.cli.options, isoruntime.runtime;"
        "print([name for name in sys.modules if 'project' in name or name == 'yaml'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", question],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout == "[]\n"


def test_the_command_runs_as_a_program_of_its_own(project: Project) -> None:
    project.bootstrap.chmod(0o644)
    done = subprocess.run(
        [sys.executable, "-m", "isoruntime", "check", str(project.root)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "[bootstrap-not-executable]" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 error, 0 warnings; looked at")


def test_colours_are_for_terminals_that_want_them(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project.bootstrap.chmod(0o644)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    check.main([])
    assert "\033[31merror\033[0m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    check.main([])
    assert "\033" not in capsys.readouterr().out


def test_a_function_that_speaks_http_needs_no_handler(
    project: Project, look: Looked
) -> None:
    project.says(
        ("Type: timer", "Type: http"),
        (
            '{cronExpression: "@every 1h", enable: true}',
            "{authType: anonymous, methods: [GET]}",
        ),
    )
    for source in (
        "def handler(environ, start_response): ...\n",
        "async def handler(scope, receive, send): ...\n",
    ):
        project.put("index.py", source)
        assert look() == (0, [])
    (project.code / "index.py").unlink()
    project.put("web.py", "app = print\n")
    project.says((VARIABLE, "ISORUNTIME_HTTP: web.app"))
    assert look() == (0, [])
    project.says(("ISORUNTIME_HTTP: web.app", "ISORUNTIME_COMMAND: ls -l"))
    assert [one["id"] for one in look()[1]] == ["http-trigger-unanswered"]
    project.says(("ISORUNTIME_COMMAND: ls -l", "ISORUNTIME_UPSTREAM: node server.js"))
    assert look() == (0, [])


@pytest.mark.parametrize(
    "script",
    [
        "pip install flask gunicorn\nexec python3 -m http.server 9000\n",
        "exec gunicorn -b 0.0.0.0:9000 app:app\n",
        "exec gunicorn -c conf.py app:app\n",
        'exec uvicorn app:app --host 0.0.0.0 --port "$PORT"\n',
        "UVICORN_HOST=0.0.0.0 UVICORN_PORT=9000 exec uvicorn app:app\n",
        "flask --app x db upgrade && exec node server.js\n",
    ],
)
def test_servers_that_listen_everywhere_or_cannot_be_judged_are_fine(
    project: Project, look: Looked, script: str
) -> None:
    project.says(
        ("          - --max-workers\n", ""), ('          - "4"\n', '          - "x"\n')
    )
    project.starts_with(f"#!/bin/bash\n{script}")
    assert look() == (0, [])


def test_the_fix_of_a_package_can_be_copied(project: Project, look: Looked) -> None:
    project.vendors("numpy", "cp311-cp311-macosx_11_0_arm64")
    project.says(("debian12", "debian11"))
    (finding,) = look()[1]
    assert finding["fix"].endswith("--only-binary=:all: --python-version 3.12 numpy")
