"""Log records: `logging` set up as the built-in runtime does, once somebody imports it.

It takes 8 ms to import, with all that it imports, and leaves hooks behind that write to
a hundred pages of every forked process. A function that never logs should not pay for
that, one that does pays what it would anywhere else.
"""

from __future__ import annotations

import os
import sys
import time
from importlib.machinery import PathFinder

from isoruntime.typed import TYPE_CHECKING, Any, Final
from isoruntime.worker.context import request_id_of

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import FunctionType, ModuleType
    from typing import TextIO

#: What is printed where no invocation is being run: at import.
NO_REQUEST: Final = b"-"
#: Where `logging` is, whatever else is called so: among the user's files, say.
_STANDARD_LIBRARY: Final = os.path.dirname(os.__file__)  # noqa: PTH120 - pathlib is slow to import
#: How a handler gets at the logger that its context holds.
_NAMES: Final = frozenset({"getLogger", "logger"})

#: Of the request that is being answered (`wire.frames`); its id is read by who logs.
_meta = NO_REQUEST


def begin(meta: bytes) -> None:
    """Name the invocation that log records belong to from now on."""
    global _meta  # noqa: PLW0603 - one invocation at a time, by design
    _meta = meta


def expect(stream: TextIO, log_level: str) -> None:
    """Have the root logger write to `stream`, now or as soon as there is one.

    Source of the record format: fc-contract.md 3.2.
    """
    if "logging" in sys.modules:
        _set_up(stream, log_level)
    else:
        sys.meta_path.insert(0, _Finder(stream, log_level))


def prepare_for(function: object) -> None:
    """Import `logging` now if a handler looks as if it would take it from its context.

    Else every process that runs the handler would have to. Looked at is its module
    only, so a function may be overlooked: it is slower then, not wrong.
    """
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is not None and any(map(_asks_for_logger, vars(module).values())):
        import logging  # noqa: F401


def _asks_for_logger(value: FunctionType | object) -> bool:
    code = getattr(value, "__code__", None)
    names = getattr(code, "co_names", ())
    return isinstance(names, tuple) and not _NAMES.isdisjoint(names)


class _Finder:
    """Finds `logging` where it always is, and sees to it that it is set up."""

    def __init__(self, stream: TextIO, log_level: str) -> None:
        self._stream = stream
        self._log_level = log_level

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to import `logging`, and leave all else to others."""
        if name != "logging":
            return None
        spec = PathFinder.find_spec(name, [_STANDARD_LIBRARY])
        loader: Any = spec and spec.loader
        if loader is None:
            return None
        execute = loader.exec_module

        def execute_and_set_up(module: ModuleType) -> None:
            # From here on it is a module like any other.
            del loader.exec_module
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                _set_up(self._stream, self._log_level)

        loader.exec_module = execute_and_set_up
        return spec


def _set_up(stream: TextIO, log_level: str) -> None:
    import logging

    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(fc_request_id)s [%(levelname)s] %(message)s",
        "%Y-%m-%dT%H:%M:%S",
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(stream)
    handler.addFilter(_name_request)
    handler.setFormatter(formatter)
    logging.root.addHandler(handler)
    logging.root.setLevel(log_level)


def _name_request(record: logging.LogRecord) -> bool:
    record.fc_request_id = request_id_of(_meta)
    return True
