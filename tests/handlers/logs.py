"""Log without a word of `logging` at the top, in every way there is."""

from __future__ import annotations

import json
import sys
from typing import Any


def is_imported(event: bytes, context: Any) -> bool:
    return "logging" in sys.modules


def inside(event: bytes, context: Any) -> None:
    import logging

    logging.getLogger("inside").info("said %s", "inside")


def through_context(event: bytes, context: Any) -> bool:
    was_imported = is_imported(event, context)
    context.getLogger().info("said %s", "through the context")
    return was_imported


def unforeseen(event: bytes, context: Any) -> str:
    # Nothing in this function's code says that it is going to log.
    for name in ("info", "debug"):
        getattr(vars(context)["".join(("log", "ger"))], name)("said %s", name)
    return json.dumps(sorted(vars(context)))
