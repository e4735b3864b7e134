"""What the zygote must not wait for: imports that were seen to take a tenth of a start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_zygote_is_started_before_anything_large_is_imported() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import isoruntime.cli.serve\n"
        "imported = list(sys.modules)\n"
        "import json; print(json.dumps(imported))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = json.loads(done.stdout)
    assert "isoruntime.zygote.spawn" in loaded
    slow = {"typing", "socket", "signal", "enum", "re", "json", "argparse", "logging"}
    assert not slow & set(loaded)
