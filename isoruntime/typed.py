"""What annotations and records are written with; `typing` for the start's sake.

A cold start is waited for, and importing `typing` is 3 ms of it, twice: in the front end
and in the zygote. Annotations are never evaluated here (every module that has some
begins with `from __future__ import annotations`), so names will do for them. Type
checkers see the real ones.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO as IO
    from typing import Any as Any
    from typing import ClassVar as ClassVar
    from typing import Final as Final
    from typing import Literal as Literal
    from typing import NamedTuple as NamedTuple
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol
    from typing import cast as cast
else:

    class _Name:
        """Stands in annotations, and as the base of what is there for annotations."""

        __slots__ = ()

    IO = Any = ClassVar = Final = Literal = NoReturn = Protocol = _Name

    def cast(kind, value):
        """Return the value."""
        return value

    class _Record(type):
        """Makes a named tuple of a class that lists fields, as `typing` does."""

        def __new__(cls, name, bases, body):
            fields = body.get("__annotations__", {})
            defaults = [body.pop(field) for field in fields if field in body]
            record = namedtuple(name, fields, defaults=defaults)
            for key, value in body.items():
                setattr(record, key, value)
            return record

    NamedTuple = type.__new__(_Record, "NamedTuple", (), {})
