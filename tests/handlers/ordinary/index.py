"""Perform the action that the event names."""

from __future__ import annotations

from . import files, libraries, network, processes, programs, spawning, system, threads
from .registry import ACTIONS

GROUPS = (files, processes, spawning, threads, programs, network, system, libraries)


def handler(event: bytes, context: object) -> str:
    ACTIONS[event.decode()].perform()
    return "done"
