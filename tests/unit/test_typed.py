"""Our named tuples do what `typing`'s do, which is what type checkers take them for."""

from __future__ import annotations

import copy
import pickle
import typing
from typing import Any

import pytest

from isoruntime import typed


class Theirs(typing.NamedTuple):
    """A record."""

    name: str
    size: int = 1
    notes: tuple[str, ...] = ()

    @property
    def double(self) -> int:
        return self.size * 2

    def renamed(self, name: str) -> Any:
        return self._replace(name=name)


class Ours(typed.NamedTuple):
    """A record."""

    name: str
    size: int = 1
    notes: tuple[str, ...] = ()

    @property
    def double(self) -> int:
        return self.size * 2

    def renamed(self, name: str) -> Any:
        return self._replace(name=name)


MADE = [
    pytest.param(lambda one: one("a"), id="with defaults"),
    pytest.param(lambda one: one("a", 2), id="with one default"),
    pytest.param(lambda one: one("a", 2, ("b",)), id="by place"),
    pytest.param(lambda one: one(size=2, notes=("b",), name="a"), id="by name"),
    pytest.param(lambda one: one("a", notes=("b",)), id="by place and name"),
    pytest.param(lambda one: one._make(iter(["a", 2, ()])), id="of an iterable"),
    pytest.param(lambda one: one("a")._replace(size=3), id="of another one"),
]


@pytest.mark.parametrize("make", MADE)
def test_what_is_made_is_the_same(make: Any) -> None:
    ours, theirs = make(Ours), make(Theirs)
    assert type(ours) is Ours
    assert (ours, hash(ours)) == (theirs, hash(theirs))
    assert (ours.name, ours.size, ours.notes) == (
        theirs.name,
        theirs.size,
        theirs.notes,
    )
    assert ours._asdict() == theirs._asdict()
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert (ours.double, ours.renamed("x")) == (theirs.double, theirs.renamed("x"))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda one: one(), id="nothing"),
        pytest.param(lambda one: one(size=1), id="no value for the first"),
        pytest.param(lambda one: one("a", 1, (), 2), id="too many"),
        pytest.param(lambda one: one("a", 1, (), 2, size=3), id="too many, and a name"),
        pytest.param(lambda one: one("a", name="b"), id="twice"),
        pytest.param(lambda one: one("a", length=1), id="a name that it has not"),
        pytest.param(lambda one: one._make(["a"]), id="of too few"),
        pytest.param(lambda one: one._make([1, 2, 3, 4]), id="of too many"),
    ],
)
def test_what_cannot_be_made_is_refused(make: Any) -> None:
    for one in (Ours, Theirs):
        with pytest.raises(TypeError):
            make(one)


def test_it_says_what_is_wrong() -> None:
    with pytest.raises(TypeError, match="Ours lacks, or does not have: length"):
        Ours("a", length=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Ours is given twice: name"):
        Ours("a", name="b")  # type: ignore[misc]


def test_it_is_a_tuple_that_cannot_be_changed() -> None:
    ours = Ours("a", 2)
    with pytest.raises(AttributeError):
        ours.size = 3  # type: ignore[misc]
    with pytest.raises(AttributeError):
        ours.other = 3  # type: ignore[attr-defined]
    assert isinstance(ours, tuple)
    assert tuple.__new__(Ours, ("a", 2, ())) == ours


def test_it_can_be_copied_and_matched_and_derived_from() -> None:
    ours = Ours("a", 2)
    assert copy.deepcopy(ours) == pickle.loads(pickle.dumps(ours)) == ours  # noqa: S301
    match ours:
        case Ours(name, size=size):
            assert (name, size) == ("a", 2)
        case _:
            pytest.fail("no match")

    class More(Ours):
        @property
        def triple(self) -> int:
            return self.size * 3

    assert More("a", 2).triple == 6
    assert More("a", 2)._replace(size=3).triple == 9


def test_its_class_looks_the_same() -> None:
    assert Ours._fields == Theirs._fields
    assert Ours._field_defaults == Theirs._field_defaults
    assert Ours.__doc__ == Theirs.__doc__
    assert Ours.__module__ == __name__
    assert typed.cast("int", "x") == "x"
