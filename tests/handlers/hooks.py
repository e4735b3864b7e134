"""Hooks that say that they ran."""

from __future__ import annotations

from typing import Any


def pre_stop(context: Any) -> None:
    print("stopping", context.request_id)


def pre_freeze(context: Any) -> None:
    print("freezing", context.request_id)


def failing(context: Any) -> None:
    raise ValueError("the hook failed")


def handler(event: bytes, context: Any) -> bytes:
    return event
