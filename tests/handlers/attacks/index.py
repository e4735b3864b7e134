"""The handler: a neighbour to be harmed, or one attack, as the event says."""

from __future__ import annotations

import json
import os
from typing import Any

import neighbour
import on_availability
import on_files
import on_kernel
import on_network
import on_processes
import on_protocol
import on_secrets
from means import Scene

_FOLDERS = (
    on_availability,
    on_files,
    on_kernel,
    on_network,
    on_processes,
    on_protocol,
    on_secrets,
)
ATTACKS: dict[str, Any] = {}
for _folder in _FOLDERS:
    ATTACKS |= _folder.ATTACKS


def handler(event: bytes, context: Any) -> Any:
    asked = json.loads(event)
    if asked["do"] == "hold":
        return neighbour.hold(asked, context)
    if asked["do"] == "pid":
        return os.getpid()
    if asked["do"] == "echo":
        return asked["text"]
    if asked["do"] == "use credentials":
        return context.credentials.access_key_secret[:6]
    if asked["do"] == "descriptors":
        return on_protocol.descriptors()
    scene = Scene(asked, context)
    got = ATTACKS[asked["do"]](scene)
    if not asked.get("at once"):
        scene.reached()
    return {
        "got": got,
        "worked": scene.worked,
        "failed": scene.failed,
        "canaries": sorted(scene.canaries),
    }
