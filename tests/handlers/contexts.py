"""Return what the handler can see: the context, the environment, the process."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def _plain(thing: Any) -> Any:
    if isinstance(thing, (str, int, float, dict, type(None))):
        return thing
    return {
        name: _plain(getattr(thing, name))
        for name in dir(thing)
        if name[0] != "_" and name != "logger" and not callable(getattr(thing, name))
    }


def handler(event: bytes, context: Any) -> Any:
    what = event.decode()
    if what == "fields":
        return _plain(context)
    if what == "json":
        return context.to_json()
    if what == "remaining":
        first = context.get_remaining_time_in_millis()
        return [first, context.get_remaining_time_in_millis()]
    if what == "environment":
        return dict(os.environ)
    if what == "process":
        return {
            "cwd": os.getcwd(),  # noqa: PTH109 - what the test asks
            "path0": sys.path[0],
            "stdin": sys.stdin.read(),
            "event": type(event).__name__,
            "module": __name__,
        }
    return json.loads(event)
