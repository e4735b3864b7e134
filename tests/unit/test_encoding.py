"""Return values as bytes: every row of fc-contract.md 4.4.

The bytes are written by hand here, so that they cannot change with the encoder.
"""

from __future__ import annotations

import datetime
import enum
import json
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoruntime.contract.encoding import encode, fault_body


class Customer:
    def __init__(self, told: Any) -> None:
        self.told = told

    def to_json(self) -> Any:
        return self.told


class Named:
    def __repr__(self) -> str:
        return "<named>"


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Color(str, enum.Enum):
    RED = "red"


class LyingBytes(bytes):
    def __len__(self) -> int:
        return 1

    def __bytes__(self) -> bytes:
        return b"other"


class LyingText(str):
    __slots__ = ()

    def encode(self, *args: Any, **kwargs: Any) -> bytes:
        return b"other"


RETURNED: list[Any] = [
    pytest.param("caf\xe9 \u2744", b"caf\xc3\xa9 \xe2\x9d\x84", id="text"),
    pytest.param("", b"", id="empty text"),
    pytest.param('{"a": 1}', b'{"a": 1}', id="text that is JSON"),
    pytest.param(Color.RED, b"red", id="text of an enum"),
    pytest.param(LyingText("text"), b"text", id="text of a subclass"),
    pytest.param(bytes(range(256)), bytes(range(256)), id="all bytes"),
    pytest.param(b"", b"", id="no bytes"),
    pytest.param(LyingBytes(b"abc"), b"abc", id="bytes of a subclass"),
    pytest.param(bytearray(b"\0array"), b"\0array", id="bytearray"),
    pytest.param(memoryview(b"\0view"), b"\0view", id="memoryview"),
    pytest.param(memoryview(b"abcdef")[::2], b"ace", id="memoryview with gaps"),
    pytest.param(
        {"b": 1, "a": [1, 2, "\xe9"]},
        b"{\n"
        b'    "a": [\n'
        b"        1,\n"
        b"        2,\n"
        b'        "\\u00e9"\n'
        b"    ],\n"
        b'    "b": 1\n'
        b"}",
        id="dict",
    ),
    pytest.param([1, None], b"[\n    1,\n    null\n]", id="list"),
    pytest.param((200, "x"), b'[\n    200,\n    "x"\n]', id="tuple"),
    pytest.param({}, b"{}", id="empty dict"),
    pytest.param([], b"[]", id="empty list"),
    pytest.param(None, b"null", id="none"),
    pytest.param(True, b"true", id="true"),
    pytest.param(False, b"false", id="false"),
    pytest.param(3, b"3", id="integer"),
    pytest.param(1.5, b"1.5", id="float"),
    pytest.param(float("nan"), b"NaN", id="nan"),
    pytest.param(float("-inf"), b"-Infinity", id="minus infinity"),
    pytest.param(Decimal("1.50"), b"1.5", id="decimal"),
    pytest.param(Decimal("NaN"), b"NaN", id="decimal nan"),
    pytest.param(
        datetime.datetime(2026, 1, 2, 3, 4, 5),
        b'"2026-01-02T03:04:05"',
        id="datetime",
    ),
    pytest.param(datetime.date(2026, 1, 2), b'"2026-01-02"', id="date"),
    pytest.param(
        {"when": datetime.date(2026, 1, 2), "price": Decimal("0.1")},
        b'{\n    "price": 0.1,\n    "when": "2026-01-02"\n}',
        id="nested decimal and date",
    ),
    pytest.param(Customer({"a": 1}), b'{\n    "a": 1\n}', id="to_json of a dict"),
    pytest.param(Customer('{"a": 1}'), b'"{\\"a\\": 1}"', id="to_json of a text"),
    pytest.param(Customer(Customer(None)), b"null", id="to_json of to_json"),
    pytest.param(["\ud800"], b'[\n    "\\ud800"\n]', id="nested lone surrogate"),
]


@pytest.mark.parametrize(("returned", "body"), RETURNED)
def test_a_value_becomes_these_bytes(returned: object, body: bytes) -> None:
    encoded = encode(returned)
    assert encoded == body
    assert type(encoded) is bytes


def numbers() -> Iterator[int]:
    yield 1


async def promise() -> None:
    """Never be awaited."""


async def stream() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "returned",
    [
        {1},
        frozenset({1}),
        Named(),
        [Named()],
        {"nested": b"x"},
        {"nested": bytearray(b"x")},
        [memoryview(b"x")],
        numbers(),
        stream(),
        range(3),
        object(),
        datetime.time(1, 2),
        datetime.timedelta(1),
        1j,
        Customer,
        json,
        print,
        Ellipsis,
    ],
    ids=repr,
)
def test_what_has_no_json_is_named_in_a_type_error(returned: Any) -> None:
    culprit = returned
    if isinstance(returned, list):
        culprit = returned[0]
    elif isinstance(returned, dict):
        culprit = returned["nested"]
    with pytest.raises(TypeError) as caught:
        encode(returned)
    assert str(caught.value) == f"{culprit!r} is not JSON serializable"


def test_a_coroutine_has_no_json() -> None:
    coroutine = promise()
    with pytest.raises(TypeError, match=r"^<coroutine object promise at .* is not"):
        encode(coroutine)
    coroutine.close()


def test_what_cannot_even_be_named_is_a_type_error() -> None:
    with pytest.raises(TypeError) as caught:
        encode({"a": Unprintable()})
    assert str(caught.value) == (
        "<unprintable Unprintable object> is not JSON serializable"
    )


def test_a_lone_surrogate_in_a_text_is_an_encode_error() -> None:
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        encode("\ud800")


def test_keys_that_cannot_be_sorted_are_json_s_own_type_error() -> None:
    with pytest.raises(TypeError, match="'<' not supported"):
        encode({1: 1, "a": 1})


def test_a_circular_value_is_json_s_own_value_error() -> None:
    circular: list[Any] = []
    circular.append(circular)
    with pytest.raises(ValueError, match="Circular reference detected"):
        encode(circular)


def test_what_to_json_raises_is_passed_on() -> None:
    class Broken:
        def to_json(self) -> None:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        encode(Broken())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(json_values.filter(lambda value: not isinstance(value, str)))
def test_a_plain_value_is_what_the_standard_encoder_writes(value: Any) -> None:
    expected = json.dumps(value, indent=4, sort_keys=True)
    assert encode(value).decode("ascii") == expected


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_is_its_utf_8(text: str) -> None:
    assert encode(text) == text.encode()


def test_a_fault_is_written_as_the_built_in_runtime_writes_it() -> None:
    stack = [['File "/code/index.py"', "line 2", "in handler", "raise ValueError"]]
    assert fault_body("ValueError", "bad \xe9", stack) == (
        b"{\n"
        b'    "errorMessage": "bad \\u00e9",\n'
        b'    "errorType": "ValueError",\n'
        b'    "stackTrace": [\n'
        b"        [\n"
        b'            "File \\"/code/index.py\\"",\n'
        b'            "line 2",\n'
        b'            "in handler",\n'
        b'            "raise ValueError"\n'
        b"        ]\n"
        b"    ]\n"
        b"}"
    )


def test_a_fault_without_a_stack_has_no_key_for_it() -> None:
    assert fault_body("TypeError", "'int' object is not callable", []) == (
        b"{\n"
        b'    "errorMessage": "\'int\' object is not callable",\n'
        b'    "errorType": "TypeError"\n'
        b"}"
    )


def test_a_fault_with_lone_surrogates_can_be_written() -> None:
    assert json.loads(fault_body("E", "\ud800", [])) == {
        "errorMessage": "\ud800",
        "errorType": "E",
    }
