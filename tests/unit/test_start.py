"""What a start must not wait for: imports that were seen to take a tenth of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def asked(code: str) -> Any:
    """Return what a bare interpreter prints as JSON."""
    prelude = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", prelude + code],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_zygote_is_started_before_anything_large_is_imported() -> None:
    loaded = asked(
        "import isoruntime.cli.serve\n"
        "imported = list(sys.modules)\n"
        "import json; print(json.dumps(imported))"
    )
    assert "isoruntime.zygote.spawn" in loaded
    slow = {"typing", "socket", "signal", "enum", "re", "json", "argparse", "logging"}
    assert not slow & set(loaded)


def test_the_zygote_compiles_no_annotation() -> None:
    # `NamedTuple` compiles each annotation that is a string, the first one for 2 ms.
    # So whoever defines one here does without `from __future__ import annotations`.
    compiled = asked(
        "import json, typing\n"
        "import isoruntime.zygote.server\n"
        "import isoruntime.worker.application, isoruntime.worker.upstream\n"
        "import isoruntime.worker.http1\n"
        "found = set()\n"
        "for name, module in sys.modules.items():\n"
        "    if name.startswith('isoruntime'):\n"
        "        for one in vars(module).values():\n"
        "            if isinstance(one, type) and hasattr(one, '_fields'):\n"
        "                types = one.__annotations__.values()\n"
        "                found.add((one.__name__, any(\n"
        "                    isinstance(type_, typing.ForwardRef) for type_ in types)))\n"
        "print(json.dumps(sorted(found)))"
    )
    assert ["LoadOrder", False] in compiled
    assert [name for name, is_compiled in compiled if is_compiled] == []
