"""Attacks over the network: the runtime's own port, and what listens beside it."""

# Attacks are system calls, as they are.
# ruff: noqa: D401, S104

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from typing import Any

from means import Scene

_MPTCP = 262


def invoke_oneself(scene: Scene) -> bool:
    """Invoke the function through the front door, past whoever bills and signs."""

    def call() -> int:
        port = scene.event["port"]
        made = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
        made.request("GET", "/live")
        return made.getresponse().status

    return scene.attempt("http", call) is not None


def reach_tcp(scene: Scene) -> None:
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):
        _reach(scene, host, socket.AF_INET, socket.SOCK_STREAM, 0)


def reach_mptcp(scene: Scene) -> None:
    _reach(scene, "127.0.0.1", socket.AF_INET, socket.SOCK_STREAM, _MPTCP)


def reach_tcp6(scene: Scene) -> None:
    _reach(scene, "::ffff:127.0.0.1", socket.AF_INET6, socket.SOCK_STREAM, 0)


def _reach(scene: Scene, host: str, *kind: int) -> None:
    def connect() -> None:
        with socket.socket(*kind) as made:
            made.settimeout(2)
            made.connect((host, scene.event["tcp"]))
            made.sendall(b"tcp")

    scene.attempt(host, connect)


def reach_udp(scene: Scene) -> None:
    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            made.sendto(b"udp", ("127.0.0.1", scene.event["udp"]))

    scene.attempt("udp", send)


def reach_from_a_child(scene: Scene) -> None:
    """A program that the handler runs is no better off."""
    code = f"import socket; socket.create_connection(('127.0.0.1', {scene.event['tcp']}), 2)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], stderr=subprocess.PIPE, check=False
    )
    scene.failed.append(done.stderr.decode()[-200:])


ATTACKS: dict[str, Any] = {
    attack.__name__: attack
    for attack in (
        invoke_oneself,
        reach_tcp,
        reach_mptcp,
        reach_tcp6,
        reach_udp,
        reach_from_a_child,
    )
}
