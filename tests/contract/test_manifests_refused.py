"""What is wrong with an s.yaml, or beside it, is said before anything is served."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.contract.test_functions_of_a_manifest import (
    MANIFEST,
    ORDERS,
    one_function,
    write,
)
from tests.support.server import PROJECT


def refused(folder: Path, *options: str, without: str = "") -> list[str]:
    words = ["serve", "--gateway", "--host", "127.0.0.1", "--port", "0", *options]
    code = "import sys\n"
    if without:
        code += f"sys.modules[{without!r}] = None\n"
    code += "from isoruntime.cli.main import main\nsys.exit(main(sys.argv[1:]))\n"
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--code-dir", str(folder)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    return done.stderr.decode().splitlines()


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        {
            "s.yaml": MANIFEST.replace("timeout: 7", "timeout: -7"),
            "orders/index.py": ORDERS,
            "bills/bootstrap": "#!/bin/sh\nexec isoruntime serve --tiemout 5\n",
        },
    )
    lines = refused(folder)
    found = [line for line in lines if " is not served" not in line]
    assert len(found) == 3, found
    assert "take-order in " in found[0]
    assert "s.yaml '-7'" in found[0]
    assert "bill in " in found[1]
    assert "did you mean --timeout" in found[1]
    assert "plain in " in found[2]
    assert "does not exist" in found[2]


def test_a_handler_for_several_functions_is_refused(tmp_path: Path) -> None:
    lines = refused(write(tmp_path, {"s.yaml": MANIFEST}), "index.handler")
    assert any("HANDLER is for one function, and " in line for line in lines)


def test_without_pyyaml_the_fix_is_named(tmp_path: Path) -> None:
    (line,) = refused(one_function(tmp_path), without="yaml")
    assert "pip install 'isoruntime[yaml]'" in line


def test_a_manifest_that_is_no_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    (line,) = refused(write(tmp_path, {"s.yaml": "resources:\n  a: [\n"}))
    assert "s.yaml:3: this is no YAML" in line


def test_a_manifest_without_functions_is_refused(tmp_path: Path) -> None:
    folder = one_function(tmp_path, runtime="nodejs20")
    assert "has no function that can be served" in refused(folder)[-1]
