"""Return the value the event names; every row of the contract's section 4.4."""

from __future__ import annotations

import datetime
import decimal
import threading
from typing import Any


class WithToJson:
    """An object that knows its JSON."""

    def to_json(self) -> dict[str, int]:
        return {"b": 2, "a": 1}


class Unprintable:
    """An object that refuses even to be named."""

    def __repr__(self) -> str:
        raise RuntimeError("no name")


class Named:
    """An object with a short name."""

    def __repr__(self) -> str:
        return "<named>"


def _circular() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


async def _coroutine() -> str:
    return "awaited"


VALUES: dict[str, Any] = {
    "text": "caf\u00e9 \u2744",
    "empty text": "",
    "lone surrogate": "\ud800",
    "bytes": bytes(range(256)),
    "empty bytes": b"",
    "bytearray": bytearray(b"\x00array"),
    "memoryview": memoryview(b"\x00view"),
    "dict": {"b": 1, "a": [1, 2, "\u00e9"]},
    "list": [1, {"x": None}],
    "list of dicts": [{"a": 1}, {"a": 2}],
    "empty list": [],
    "empty dict": {},
    "tuple": (200, "body"),
    "none": None,
    "true": True,
    "false": False,
    "integer": 3,
    "float": 1.5,
    "nan": float("nan"),
    "infinity": float("inf"),
    "decimal": decimal.Decimal("1.50"),
    "datetime": datetime.datetime(2026, 1, 2, 3, 4, 5),
    "date": datetime.date(2026, 1, 2),
    "nested": {
        "when": datetime.date(2026, 1, 2),
        "price": decimal.Decimal("1.50"),
        "who": WithToJson(),
    },
    "to_json": WithToJson(),
    "set": {1},
    "object": Named(),
    "nested object": {"deep": [Named()]},
    "nested bytes": {"raw": b"x"},
    "mixed keys": {1: "x", "a": "y"},
    "circular": _circular(),
    "unprintable": Unprintable(),
    "lock": threading.Lock(),
}


def handler(event: bytes, context: Any) -> Any:
    name = event.decode()
    if name == "generator":
        return (number for number in range(3))
    if name == "coroutine":
        return _coroutine()
    return VALUES[name]
