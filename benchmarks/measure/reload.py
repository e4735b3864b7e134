"""benchmarks/reload: from the moment a handler is saved to the first answer of the new one.

The function is called without a pause, so the figure holds the watching, the import, the
first worker, and the calls that the code before it answers meanwhile. Every call must be
answered by one of the two.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.measure import noise
from benchmarks.measure.markdown import note, say, table
from benchmarks.measure.samples import percentile
from benchmarks.measure.servers import (
    ROOT,
    Server,
    ServerFailed,
    end_on_signals,
    free_port,
    isoruntime_argv,
)
from isoruntime.reload.look import Folder

_PATIENCE_S: Final = 30.0
_BETWEEN_S: Final = 0.3


def measure(runs: int, files: int, how: str) -> tuple[list[float], float]:
    """Save so many times; return milliseconds, and what one look takes of them.

    Raises:
        ServerFailed: the runtime does not start, or answers with something else.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        code, shadow = folder / "code", folder / "shadow"
        shadow.mkdir()
        if how == "polling":
            (shadow / "watchfiles.py").write_text("raise ImportError\n")
        for number in range(files):
            path = code / f"package{number // 50}" / f"module{number}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("# not imported\n")
        code.mkdir(exist_ok=True)
        _save(code, 0)
        port = free_port()
        argv = isoruntime_argv("index.handler", code, port, "--reload")
        env = {"PYTHONPATH": f"{shadow}:{ROOT}"}
        with Server(argv, port, env=env) as server:
            server.connect().close()
            taken = [_once(port, code, number) for number in range(1, runs + 1)]
        return taken, _look_ms(code)


def _save(code: Path, number: int) -> None:
    beside = code / "index.py~"
    beside.write_text(f"def handler(event, context):\n    return '{number}'\n")
    beside.rename(code / "index.py")


def _once(port: int, code: Path, number: int) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    # Not in step with the watcher's pauses.
    time.sleep(_BETWEEN_S + number % 7 * 0.05)
    _save(code, number)
    began = time.monotonic()
    answer = ""
    while answer != str(number):
        connection.request("POST", "/invoke", b"")
        answer = connection.getresponse().read().decode()
        if answer not in (str(number), str(number - 1)):
            raise ServerFailed(f"the answer was {answer}")
        if time.monotonic() - began > _PATIENCE_S:
            raise ServerFailed("the newer code was never served")
    took_ms = (time.monotonic() - began) * 1000
    connection.close()
    return took_ms


def _look_ms(code: Path) -> float:
    folder = Folder(str(code))
    folder.look()
    taken = []
    for _ in range(20):
        began = time.thread_time()
        folder.look()
        taken.append((time.thread_time() - began) * 1000)
    return statistics.median(taken)


def main() -> int:
    """Return 0, or 1 if there was a wrong answer."""
    args = _arguments()
    end_on_signals()
    rows = []
    try:
        for how in ("watchfiles", "polling"):
            for files in (1, 1000, 5000):
                taken, look_ms = measure(args.runs, files - 1, how)
                rows.append(_row(how, files, taken, look_ms))
                note(f"{how}, {files} files")
    except ServerFailed as error:
        note(f"reload: {error}")
        return 1
    say(f"{noise.describe()}; {args.runs} saves each, in milliseconds.")
    say(table(("seen by", "files", "p50", "p90", "max", "one look"), rows))
    return 0


def _row(how: str, files: int, taken: Sequence[float], look_ms: float) -> list[str]:
    numbers = (statistics.median(taken), percentile(taken, 0.9), max(taken))
    return [how, f"{files:,}", *(f"{each:.0f}" for each in numbers), f"{look_ms:.1f}"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/reload",
        description="Measures the time from saving a handler to the first answer of it.",
    )
    parser.add_argument("--runs", type=int, default=15, help="saves (default: 15)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
