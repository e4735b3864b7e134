"""A debugger in the worker: listens, and waits for the first client.

Only where `isoruntime invoke --debug` asks for it. `debugpy` runs threads of its own, so
nothing else of the worker side may import it.
"""

from __future__ import annotations

import importlib
import os
import sys


def wait_for_client(port: int) -> None:
    """Return when a debugger has connected to this port of 127.0.0.1."""
    # Frozen modules of the standard library are nobody's to step through, and no reason
    # to warn.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    debugpy = importlib.import_module("debugpy")
    # In this process rather than in one that it would leave behind.
    debugpy.listen(("127.0.0.1", port), in_process_debug_adapter=True)
    print(f"debugpy listens on 127.0.0.1:{port}", file=sys.stderr)  # noqa: T201 - for whoever waits
    debugpy.wait_for_client()
