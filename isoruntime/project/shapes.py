"""`Shape`: what a value of s.yaml may be. `keys` puts them together; this judges.

A judgement is a list of problems, each with the node it is about. Values that only
Serverless Devs can fill in are not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from isoruntime.project.manifest import Node
from isoruntime.typed import Any, Final, NamedTuple

#: What a problem is, and so of which kind the finding will be.
TYPE: Final = "type"
RANGE: Final = "range"
CHOICE: Final = "choice"
UNKNOWN: Final = "unknown"
MISSING: Final = "missing"


class Problem(NamedTuple):
    """One thing about one value."""

    what: str
    node: Node
    #: completes a sentence that begins with the key
    text: str
    #: the name that is not known, and those that are
    name: str = ""
    known: tuple[str, ...] = ()


class Shape:
    """Anything at all; the others narrow it down."""

    #: completes `has to be ...`
    wanted = "anything"

    def judge(self, node: Node) -> Iterator[Problem]:
        """Yield what is wrong with a value."""
        if node.is_open:
            return
        if self.takes(node):
            yield from self._judge(node)
        else:
            text = f"is {named(node.value)}, and has to be {self.wanted}"
            yield Problem(TYPE, node, text)

    def _judge(self, node: Node) -> Iterator[Problem]:
        yield from ()

    def takes(self, node: Node) -> bool:
        """Tell whether a value is of the right type at all."""
        return True


class Text(Shape):
    """Text."""

    wanted = "text: put it into quotes"

    def __init__(self, longest: int = 0) -> None:
        self.longest = longest

    def takes(self, node: Node) -> bool:
        """Tell whether it is text."""
        return isinstance(node.value, str)

    def _judge(self, node: Node) -> Iterator[Problem]:
        if self.longest and len(node.value) > self.longest:
            length = len(node.value)
            yield Problem(
                RANGE, node, f"has {length} letters, more than {self.longest}"
            )


class Truth(Shape):
    """True or false."""

    wanted = "true or false"

    def takes(self, node: Node) -> bool:
        """Tell whether it is a truth."""
        return isinstance(node.value, bool)


class Number(Shape):
    """A number within limits; `step` it is a multiple of."""

    def __init__(
        self,
        lowest: float | None = None,
        highest: float | None = None,
        *,
        step: int = 0,
        is_whole: bool = False,
    ) -> None:
        self.lowest = lowest
        self.highest = highest
        self.step = step
        self.is_whole = is_whole
        self.wanted = "a whole number" if is_whole else "a number"

    def takes(self, node: Node) -> bool:
        """Tell whether it is a number, a whole one if that is wanted."""
        value = node.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return not self.is_whole or value == int(value)

    def _judge(self, node: Node) -> Iterator[Problem]:
        value = node.value
        if self.lowest is not None and value < self.lowest:
            yield Problem(RANGE, node, f"is {value}, less than {self.lowest}")
        if self.highest is not None and value > self.highest:
            yield Problem(RANGE, node, f"is {value}, more than {self.highest}")
        if self.step and value % self.step:
            yield Problem(RANGE, node, f"is {value}, no multiple of {self.step}")


class OneOf(Shape):
    """One of a few values."""

    def __init__(self, *choices: str | int, is_closed: bool = True) -> None:
        self.choices = choices
        #: False: the platform may know more of them by now
        self.is_closed = is_closed
        self.wanted = f"one of {', '.join(map(str, choices))}"

    def takes(self, node: Node) -> bool:
        """Tell whether it is of the choices' type."""
        return type(node.value) is type(self.choices[0])

    def _judge(self, node: Node) -> Iterator[Problem]:
        if node.value not in self.choices:
            known = tuple(map(str, self.choices))
            name = str(node.value)
            yield Problem(CHOICE, node, f"is {named(node.value)}", name, known)


class ListOf(Shape):
    """A list."""

    wanted = "a list"

    def __init__(self, shape: Shape, least: int = 0, most: int = 0) -> None:
        self.shape = shape
        self.least = least
        #: 0: any number
        self.most = most

    def takes(self, node: Node) -> bool:
        """Tell whether it is a list."""
        return isinstance(node.value, list)

    def _judge(self, node: Node) -> Iterator[Problem]:
        count = len(node.value)
        if self.most and count > self.most:
            yield Problem(RANGE, node, f"has {count} entries, more than {self.most}")
        if count < self.least:
            yield Problem(RANGE, node, f"has {count} entries, fewer than {self.least}")
        for item in node.value:
            yield from self.shape.judge(item)


class MapOf(Shape):
    """A mapping with names of one's own."""

    wanted = "a mapping of names to values"

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def takes(self, node: Node) -> bool:
        """Tell whether it is a mapping."""
        return isinstance(node.value, dict)

    def _judge(self, node: Node) -> Iterator[Problem]:
        for item in node.value.values():
            yield from self.shape.judge(item)


class Keys(Shape):
    """A mapping with known names."""

    wanted = "a mapping with keys"

    def __init__(
        self, keys: Mapping[str, Shape], *, required: tuple[str, ...] = ()
    ) -> None:
        self.keys = dict(keys)
        self.required = required

    def takes(self, node: Node) -> bool:
        """Tell whether it is a mapping."""
        return isinstance(node.value, dict)

    def _judge(self, node: Node) -> Iterator[Problem]:
        strangers = [name for name in node.value if name not in self.keys]
        for name in self.required:
            # A misspelt key is one fault and not two.
            if name not in node.value and not get_close_matches(name, strangers):
                yield Problem(MISSING, node, f"lacks {name}", name)
        for name, item in node.value.items():
            if name in self.keys:
                # `key:` with nothing behind it counts as not given.
                if item.value is not None:
                    yield from self.keys[name].judge(item)
            else:
                yield Problem(UNKNOWN, item, "is no key", name, tuple(self.keys))


class Either(Shape):
    """A value of one of several types; the first that takes it judges."""

    def __init__(self, *shapes: Shape) -> None:
        self.shapes = shapes
        self.wanted = ", or ".join(shape.wanted for shape in shapes)

    def takes(self, node: Node) -> bool:
        """Tell whether any of them takes it."""
        return any(shape.takes(node) for shape in self.shapes)

    def _judge(self, node: Node) -> Iterator[Problem]:
        for shape in self.shapes:
            if shape.takes(node):
                yield from shape.judge(node)
                return


class Switched(Shape):
    """A mapping of which the value of one key says what another one holds."""

    wanted = "a mapping with keys"

    def __init__(
        self, keys: Keys, switch: str, name: str, by: dict[str, Shape]
    ) -> None:
        self.keys = keys
        self.switch = switch
        self.name = name
        self.by = by

    def takes(self, node: Node) -> bool:
        """Tell whether it is a mapping."""
        return self.keys.takes(node)

    def _judge(self, node: Node) -> Iterator[Problem]:
        yield from self.keys.judge(node)
        shape, held = self.by.get(node.text(self.switch)), node.get(self.name)
        if shape is not None and held is not None:
            yield from shape.judge(held)


def named(value: Any) -> str:
    """Return a value as a person may read it within a sentence."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text '{value if len(value) <= 60 else value[:60] + '...'}'"
    return "a list" if isinstance(value, list) else "a mapping"
