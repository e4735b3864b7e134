"""Serve the platform's own sample, `sample.py`, on a port of ours.

python run_sample.py PORT
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

from flask import Flask  # type: ignore[import-not-found]

_run = Flask.run


def run_here(app: Flask, host: str, port: int, **options: Any) -> None:
    """Run an application on loopback, whatever address it names."""
    _run(app, host="127.0.0.1", port=int(sys.argv[1]), **options)


if __name__ == "__main__":
    Flask.run = run_here
    runpy.run_path(str(Path(__file__).with_name("sample.py")), run_name="__main__")
