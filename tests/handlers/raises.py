"""Raise what the event names; the rows of the contract's section 4.5."""

from __future__ import annotations

from typing import Any

not_callable = 3


class Odd(Exception):
    """An exception that refuses to be text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def args0() -> None:
    """Take too little."""


def args1(event: bytes) -> None:
    """Take too little."""


def value_error(event: bytes, context: Any) -> None:
    raise ValueError("bad \u00e9")


def chained(event: bytes, context: Any) -> None:
    try:
        value_error(event, context)
    except ValueError as error:
        raise LookupError("a, b") from error


def handler(event: bytes, context: Any) -> None:
    name = event.decode()
    if name == "value":
        raise ValueError("bad \u00e9")
    if name == "key":
        raise KeyError("k")
    if name == "empty":
        raise ValueError
    if name == "long":
        raise ValueError("x" * 1_000_000)
    if name == "odd":
        raise Odd
    if name == "interrupt":
        raise KeyboardInterrupt
    if name == "surrogate":
        raise ValueError("\ud800")
