"""benchmarks/soak: many thousand calls, one in ten a fault; nothing may be left of it.

Every answer is checked to be the one its request must get. What the runtime holds is
counted after the first tenth of the calls, and again at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

import psutil

from benchmarks.measure import noise
from benchmarks.measure.audit import Auditor, Holdings, more, named
from benchmarks.measure.calls import FAULTS, LATE_S, MAX_RESPONSE_MB, Tally, call_all
from benchmarks.measure.markdown import note, say, table
from benchmarks.measure.servers import (
    HANDLERS,
    Server,
    ServerFailed,
    end_on_signals,
    free_port,
    isoruntime_argv,
    wait_until,
)
from isoruntime.zygote.cells import IDLE_S

_TENTHS: Final = 10
_LAST: Final = 3
#: With fewer calls, caches and buffers still fill up after the first tenth.
_ENOUGH_CALLS: Final = 20_000
_GROWTH: Final = 0.05
_SHOWN: Final = 20
_GONE_S: Final = 2.0
#: By then every cell is given up that more workers than usual have needed at once.
_CALM_S: Final = 2 * IDLE_S + 10
_LINES: Final = re.compile(
    rb"FC Invoke (Start|End) RequestId: ([0-9a-f]{32})(, Error)?"
)


class Finding(NamedTuple):
    """One line of the verdict: what was looked at, what was found."""

    what: str
    found: str
    is_fine: bool


class LogReader(threading.Thread):
    """Reads the runtime's output, and counts Start and End lines in it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._read_fd, self.write_fd = os.pipe()
        self.lines: Counter[str] = Counter()
        self.received_bytes = 0

    def run(self) -> None:
        """Read until every writer is gone."""
        rest = b""
        while data := os.read(self._read_fd, 1 << 20):
            self.received_bytes += len(data)
            complete, _, rest = (rest + data).rpartition(b"\n")
            for kind, _, error in _LINES.findall(complete):
                self.lines[kind.decode()] += 1
                self.lines["errors"] += bool(error)

    def close_write_end(self) -> None:
        """Leave the server as the only writer."""
        os.close(self.write_fd)

    def finish(self) -> bool:
        """Wait for the end; return whether every writer was gone soon."""
        self.join(_GONE_S)
        is_over = not self.is_alive()
        if is_over:
            os.close(self._read_fd)
        return is_over


class Soak:
    """One run, from the start of the server to the verdict."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._tally = Tally()
        self.findings: list[Finding] = []
        self.seconds = 0.0
        self.rss_mb: list[float] = []

    def run(self) -> None:
        """Make all calls and judge what is left.

        Raises:
            ServerFailed: the runtime does not start.
        """
        args = self._args
        port = free_port()
        workers = str(args.workers)
        argv = isoruntime_argv(
            "faults.handler",
            HANDLERS,
            port,
            *("--timeout", f"{args.timeout:g}", "--memory", "0"),
            *("--min-workers", workers, "--max-workers", workers),
            *("--max-response", str(MAX_RESPONSE_MB)),
            *args.option,
        )
        log = LogReader()
        with Server(argv, port, stdout=log.write_fd) as server:
            log.close_write_end()
            log.start()
            server.connect().close()
            auditor = Auditor(server, HANDLERS, args.workers)
            with _unless_it_ended(server):
                first, last = self._call(port, auditor)
                self._judge(first, last)
            pids = {each.pid for each in server.left_over()}
            exit_code = server.stop()
            self._judge_the_end(server, auditor, exit_code, pids)
            server.kill_left_over()
            self._find("output", "held open by somebody", is_fine=log.finish())
            self._judge_log(log)
            _show_messages(server.said(1 << 20))

    def _call(self, port: int, auditor: Auditor) -> tuple[Holdings, Holdings]:
        args = self._args
        began = time.monotonic()
        held: list[Holdings] = []
        for tenth in range(_TENTHS):
            calls = args.calls * (tenth + 1) // _TENTHS - args.calls * tenth // _TENTHS
            note(f"tenth {tenth + 1}: {calls} calls from {args.clients} clients")
            call_all(
                *(port, calls, args.clients, self._tally, args.timeout),
                *(f"{args.seed}/{tenth}", args.only, began + args.within),
            )
            # Only the first and the last are judged; the others show the way between.
            held.append(auditor.settle(within_s=1) if held else auditor.settle())
        last = auditor.settle(held[0], within_s=_CALM_S)
        self.seconds = time.monotonic() - began
        self.rss_mb = [holdings.front_end_rss_mb for holdings in held]
        return held[0], last

    # The verdict.

    def _find(self, what: str, found: str, *, is_fine: bool) -> None:
        self.findings.append(Finding(what, "none" if is_fine else found, is_fine))

    def _judge(self, first: Holdings, last: Holdings) -> None:
        tally = self._tally
        missing = self._args.calls - tally.total
        self._find("calls not made", f"{missing}, in vain", is_fine=not missing)
        wrong = f"{len(tally.violations)} of {tally.total}"
        self._find("wrong answers", wrong, is_fine=not tally.violations)
        for what, wanted, found in (
            ("zygotes", 1, (first.zygotes, last.zygotes)),
            ("workers", self._args.workers, (first.workers, last.workers)),
        ):
            wrong = f"{found[0]}, at the end {found[1]}, instead of {wanted}"
            self._find(f"wrong number of {what}", wrong, is_fine={*found} == {wanted})
        for what, items in (
            ("zombies", last.zombies),
            ("strays beside idle workers", last.strays),
            ("files left by running workers", last.files),
        ):
            self._find(what, _some(items), is_fine=not items)
        folders = f"{first.folders} → {last.folders} with as many workers"
        is_flat = last.folders <= first.folders
        self._find("folders left by dead workers", folders, is_fine=is_flat)
        for whose, before, after in (
            ("front end", first.front_end_fds, last.front_end_fds),
            ("zygote", first.zygote_fds, last.zygote_fds),
        ):
            leaked = more(before, after)
            self._find(f"descriptors leaked by the {whose}", leaked, is_fine=not leaked)
        # What large events leave in the allocator comes and goes; a leak only comes.
        rss_mb = min(self.rss_mb[-_LAST:])
        growth = rss_mb / first.front_end_rss_mb - 1
        memory = (
            f"{first.front_end_rss_mb:.1f} → {rss_mb:.1f} MB"
            f" ({growth:+.1%}); PSS {first.front_end_pss_mb:.1f} →"
            f" {last.front_end_pss_mb:.1f} MB"
        )
        is_judged = self._args.calls >= _ENOUGH_CALLS
        if not is_judged:
            memory += f"; not judged below {_ENOUGH_CALLS:,} calls"
        is_flat = growth <= _GROWTH or not is_judged
        self.findings.append(Finding("front end's resident memory", memory, is_flat))
        zygote = f"{first.zygote_rss_mb:.1f} → {last.zygote_rss_mb:.1f} MB"
        self.findings.append(Finding("zygote's resident memory", zygote, is_fine=True))

    def _judge_the_end(
        self, server: Server, auditor: Auditor, exit_code: int | None, pids: set[int]
    ) -> None:
        code = "it had to be killed" if exit_code is None else f"exit code {exit_code}"
        self._find("trouble when stopping", code, is_fine=exit_code == 0)
        wait_until(lambda: not server.left_over(), _GONE_S)
        left = [named(each) for each in server.left_over()]
        wrong = f"{_some(left)} ({len(pids)} ran before)"
        self._find("processes left after stopping", wrong, is_fine=not left)
        files = [str(path) for path in auditor.files_left()]
        self._find("files left after stopping", _some(files), is_fine=not files)

    def _judge_log(self, log: LogReader) -> None:
        lines, tally = log.lines, self._tally
        wanted = {"Start": tally.total, "End": tally.total, "errors": tally.failures}
        found = {name: lines[name] for name in wanted}
        wrong = f"{found} instead of {wanted}"
        self._find("missing or repeated log lines", wrong, is_fine=found == wanted)

    # The report.

    def report(self) -> str:
        """Return everything worth knowing, as Markdown."""
        tally = self._tally
        rows = [
            ["ok" if finding.is_fine else "**VIOLATION**", finding.what, finding.found]
            for finding in self.findings
        ]
        kinds = ", ".join(
            f"{name} {count}" for name, count in sorted(tally.calls.items())
        )
        parts = [
            f"{noise.describe()}; {tally.total} calls, {self._args.clients} clients,"
            f" {self._args.workers} workers, seed {self._args.seed}.",
            f"Calls: {kinds}.",
            f"Slowest call without a fault: {tally.slowest_s * 1000:.0f} ms. Latest answer"
            f" to a limit of {self._args.timeout:g} s: {tally.latest_timeout_s:.3f} s"
            f" (allowed: {LATE_S:g} s late). {self.seconds:.0f} s in all.",
            "Front end's resident memory after each tenth:"
            f" {', '.join(f'{rss:.1f}' for rss in self.rss_mb)} MB.",
            table(["", "looked for", "found"], rows),
        ]
        if tally.violations:
            parts.append(self._violations())
        return "\n\n".join(parts)

    def _violations(self) -> str:
        violations = self._tally.violations
        by_fault = Counter(violation.fault for violation in violations)
        counts = ", ".join(f"{name} {count}" for name, count in by_fault.most_common())
        rows = [[*violation] for violation in violations[:_SHOWN]]
        return f"Wrong answers: {counts}; the first {len(rows)}:\n\n" + table(
            ["fault", "wrong", "request"], rows
        )


@contextlib.contextmanager
def _unless_it_ended(server: Server) -> Iterator[None]:
    try:
        yield
    except (psutil.Error, FileNotFoundError) as error:
        # No front end where there must be one.
        raise ServerFailed(
            f"the runtime is not what it was: {error!r}\n{server.said()}"
        ) from error


def _some(found: list[str]) -> str:
    shown = "; ".join(found[:3])
    return f"{len(found)}: {shown}{' …' if len(found) > 3 else ''}"


def _show_messages(stderr: str) -> None:
    """Show what the runtime found worth a message, each kind once."""
    kinds: Counter[str] = Counter()
    for line in stderr.splitlines():
        text = line.partition("] ")[2] or line
        if "[INFO]" not in line:
            kinds[re.sub(r"\d+(\.\d+)?", "N", text)] += 1
    for text, count in kinds.most_common(_SHOWN):
        note(f"the runtime said, {count} times: {text[:200]}")


def main() -> int:
    """Return 0 if everything is as it must be, else 1."""
    soak = Soak(_arguments())
    end_on_signals()
    try:
        soak.run()
    except ServerFailed as error:
        note(f"soak: {error}")
        say(soak.report())
        return 1
    say(soak.report())
    return 0 if all(finding.is_fine for finding in soak.findings) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/soak",
        description="Call the runtime again and again, one call in ten a fault.",
    )
    parser.add_argument("--calls", type=int, default=20_000, help="default: 20000")
    parser.add_argument("--clients", type=int, default=16, help="default: 16")
    parser.add_argument("--workers", type=int, default=12, help="default: 12")
    parser.add_argument("--timeout", type=float, default=1, help="default: 1 s")
    parser.add_argument(
        "--within", type=float, default=1800, help="give up after (default: 1800 s)"
    )
    parser.add_argument(
        "--seed",
        default=f"{random.getrandbits(32):x}",
        help="repeat the faults of an earlier run",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="FAULT",
        choices=list(FAULTS),
        help=f"draw from these alone: {', '.join(FAULTS)}",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="WORD",
        help="pass this to the runtime, such as --option=--fresh",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
