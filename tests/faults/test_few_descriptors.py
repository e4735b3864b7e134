"""Hosts that allow a process few open files."""

from __future__ import annotations

import sys

from tests.support.server import Serve

#: Below the numbers that a worker likes to move its own descriptors to.
LIMITED = ("sh", "-c", 'ulimit -n 150; exec "$@"', "sh")


def test_with_few_open_files_workers_serve_all_the_same(serve: Serve) -> None:
    command = (*LIMITED, sys.executable, "-m", "isoruntime", "serve")
    server = serve("ends.handler", "--max-workers", "2", command=command)
    for _ in range(3):
        assert server.invoke("hello").body == b"still here"
