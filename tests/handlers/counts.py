"""Count the invocations of this process, and the imports of this module by pid."""

from __future__ import annotations

import os
from typing import Any

served = 0
imported_in = os.getpid()


def handler(event: bytes, context: Any) -> dict[str, int]:
    global served  # noqa: PLW0603 - the state the test looks for
    served += 1
    return {"pid": os.getpid(), "served": served, "imported_in": imported_in}
