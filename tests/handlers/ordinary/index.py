"""Perform the action that the event names."""

from __future__ import annotations

from . import files, libraries, network, processes, programs, system, threads
from .registry import ACTIONS

GROUPS = (files, processes, threads, programs, network, system, libraries)


def handler(event: bytes, context: object) -> str:
    ACTIONS[event.decode()].perform()
    return "done"
