"""What annotations and records are written with; `typing` for the start's sake.

A cold start is waited for, in the front end and in the zygote. Importing `typing` takes
3 ms of each, and then 0.2 for a named tuple, whose constructor is compiled from source. So
names stand in for what is said in annotations, which nobody evaluates (every module
that has some begins with `from __future__ import annotations`), and named tuples are made
here. Type checkers see the real ones.
"""

from __future__ import annotations

from collections import _tuplegetter  # type: ignore[attr-defined]  # what theirs have

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

    class _Record(tuple):
        """What named tuples have in common; a class of theirs adds its fields."""

        __slots__ = ()

        def __new__(cls, *values, **named):
            lacks = len(cls._fields) - len(values)
            if named or lacks:
                if named or not 0 < lacks <= len(cls._last):
                    values = _complete(cls, values, named)
                else:
                    values += cls._last[-lacks:]
            return tuple.__new__(cls, values)

        @classmethod
        def _make(cls, values):
            """Make one of as many values as there are fields."""
            made = tuple.__new__(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(
                    f"{cls.__name__} has {len(cls._fields)} fields, not {len(made)}"
                )
            return made

        def _asdict(self):
            """Return the values by the names of their fields."""
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **named):
            """Return one with other values in these fields."""
            return type(self)(**{**self._asdict(), **named})

        def __repr__(self):
            fields = ", ".join(
                f"{name}={value!r}" for name, value in self._asdict().items()
            )
            return f"{type(self).__name__}({fields})"

        def __getnewargs__(self):
            return tuple(self)

    def _complete(cls, values, named):
        """Return a value for each field: as given, by place or by name, or its default."""
        fields = cls._fields
        if len(values) > len(fields):
            raise TypeError(
                f"{cls.__name__} has {len(fields)} fields, not {len(values)}"
            )
        found = dict(zip(fields, values))  # noqa: B905 - there can be fewer
        if twice := found.keys() & named.keys():
            raise TypeError(
                f"{cls.__name__} is given twice: {', '.join(sorted(twice))}"
            )
        found = {**cls._field_defaults, **found, **named}
        if found.keys() != set(fields):
            odd = ", ".join(sorted(found.keys() ^ set(fields)))
            raise TypeError(f"{cls.__name__} lacks, or does not have: {odd}")
        return [found[name] for name in fields]

    class _OfRecords(type):
        """Makes a named tuple of a class that lists its fields."""

        def __new__(cls, name, bases, body):
            fields = tuple(body.get("__annotations__", ()))
            body["_fields"] = body["__match_args__"] = fields
            body["_field_defaults"] = defaults = {
                field: body[field] for field in fields if field in body
            }
            # Those of the last fields.
            body["_last"] = tuple(defaults.values())
            for at, field in enumerate(fields):
                body[field] = _tuplegetter(at, field)
            body["__slots__"] = ()
            # Not of this kind itself: classes that are derived from it have no fields of
            # their own.
            return type(name, (_Record,), body)

    NamedTuple = type.__new__(_OfRecords, "NamedTuple", (), {})
