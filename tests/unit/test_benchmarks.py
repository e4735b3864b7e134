"""What the benchmarks calculate: parsing, statistics, tables, charts. Nothing is measured."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.measure import load, loading, report, results, run
from benchmarks.measure.chart import Axis, Line, decades, svg, upwards
from benchmarks.measure.invocation import ANSWER, EVENT, SMALL, filled
from benchmarks.measure.noise import REFUSE_STOLEN, Quiet
from benchmarks.measure.peers import Peer
from benchmarks.measure.rounds import Case, Session, interleave
from benchmarks.measure.rows import ROWS, latency
from benchmarks.measure.samples import (
    Samples,
    absolute,
    added,
    at_least,
    at_most,
    difference,
    failed,
    highest,
    number,
    percentile,
    ratio,
    spread,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET = Quiet(spread=0.01, busy=0.01, stolen=0.0, loop_ms=5.0)
LOUD = Quiet(spread=0.01, busy=0.9, stolen=0.0, loop_ms=5.0)
ABOUT = results.About("a machine", {"wrk": "4"}, "abc", "now", 3, 2, is_quick=False)
RAW = (
    '\nRESULT {"requests": 3000, "duration_us": 2000000, "p50_us": 512,'
    ' "p99_us": 2048, "max_us": 9000, "wrong_status": 2, "socket_errors": 1}\n'
)


def measured(
    samples: Samples, before: Quiet = QUIET, error: str = ""
) -> results.Measured:
    return results.Measured(samples, error, before, QUIET, 1.0)


def latencies(ours: float = 0.2, apart: float = 0.0) -> Samples:
    """Return what the latency row measures, all alike but for ours at one connection."""
    metrics = [
        f"{name}, {count}"
        for count in (1, 8)
        for name in ("calls/s", "p50 ms", "p99 ms")
    ]
    samples = {
        case: {metric: [1.0 - apart, 1.0, 1.0 + apart] for metric in metrics}
        for case in (latency.OURS, latency.WAITRESS[4], latency.WAITRESS[8])
    }
    samples[latency.OURS]["p50 ms, 8"] = [ours] * 3
    return samples


def test_the_event_is_of_the_size_that_is_promised() -> None:
    assert len(EVENT) == 64
    assert json.loads(EVENT)["key"].encode() == ANSWER


def test_what_the_generator_counted_is_read_from_among_its_other_words() -> None:
    found = load.read(f"Running 2s test\n  1 threads\n{RAW}more")
    assert found.per_s == 1500
    assert (found.p50_ms, found.p99_ms, found.max_ms) == (0.512, 2.048, 9.0)
    assert found.failures == 3


def test_a_generator_that_says_nothing_is_an_error_with_its_last_words() -> None:
    with pytest.raises(load.NoGenerator, match="unable to connect"):
        load.read("Running", "unable to connect")


def test_the_generator_is_given_every_header_and_the_whole_body() -> None:
    script = load.script_of(SMALL)
    assert f"wrk.body = {json.dumps(EVENT.decode())}" in script
    for name, value in SMALL.headers.items():
        assert f'wrk.headers["{name}"] = "{value}"' in script


def test_a_large_body_is_made_by_the_generator_itself() -> None:
    script = load.script_of(filled(32 << 20))
    assert f'string.rep("e", {32 << 20})' in script
    assert len(script) < 10_000


def test_rounds_are_interleaved_in_alternating_order() -> None:
    order: list[str] = []

    def measure(name: str) -> dict[str, float]:
        order.append(name)
        return {"turn": len(order)}

    cases = [Case(name, lambda name=name: measure(name)) for name in "abc"]  # type: ignore[misc]
    samples = interleave(cases, 3)
    assert "".join(order) == "abccbaabc"
    assert samples["a"] == {"turn": [1, 6, 7]}


def test_servers_take_turns_under_load_in_alternating_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What the generator counts is made up here: the order and the sums are looked at.
    peers = [spinning("a"), spinning("b")]
    order: list[str] = []
    ports: dict[int, str] = {}

    @contextlib.contextmanager
    def serving(one: loading.Loaded) -> Iterator[int]:
        ports[len(ports)] = one.peer.name
        order.append(f"start {one.peer.name}")
        yield len(ports) - 1
        order.append(f"end {one.peer.name}")

    def run_load(port: int, connections: int, *_: object) -> load.Load:
        order.append(f"{ports[port]} {connections}")
        calls = order.count(order[-1])
        return load.Load(100 * calls, 1.0 + calls % 2, calls, 10 * calls, 0, 0, 1)

    monkeypatch.setattr(loading, "_serving", serving)
    monkeypatch.setattr(loading.load, "run", run_load)
    monkeypatch.setattr(loading, "check", lambda *_: None)
    loads = [
        loading.Loaded(peers[0], [loading.Level(1), loading.Level(8)]),
        loading.Loaded(peers[1], [loading.Level(8)]),
    ]
    session = Session(None, 1, 3, is_quick=False)  # type: ignore[arg-type]
    samples = loading.measure_loads(loads, session)
    assert order == [
        *("start a", "start b", "a 1", "a 1", "a 1"),
        *("a 8", "b 8", "b 8", "a 8", "a 8", "b 8", "end b", "end a"),
    ]
    # 100, 200 and 300 calls in 2, 1 and 2 seconds.
    assert samples["b"] == {
        "failures": [3],
        "calls/s, 8": [120],
        "p50 ms, 8": [2],
        "p99 ms, 8": [20],
    }


def spinning(name: str) -> Peer:
    """Return a server that does nothing, started as a process of its own."""
    return Peer(
        name, "", lambda _: [sys.executable, "-c", "import time; time.sleep(60)"], {}
    )


def test_a_server_s_end_leaves_the_others_alone() -> None:
    with spinning("a").server() as lasting:
        with spinning("b").server() as brief:
            assert not brief.left_over()
        assert brief.has_ended
        assert not lasting.has_ended
        assert not lasting.left_over()
    assert lasting.has_ended


def test_a_ratio_is_that_of_medians_and_its_extremes_those_of_rounds() -> None:
    samples: Samples = {
        "ours": {"rate": [20, 30, 100]},
        "theirs": {"rate": [10, 20, 10]},
    }
    found = ratio(samples, "rate", "ours", "theirs", "rate", at_least(3))
    assert (found.value, found.low, found.high) == (3, 1.5, 10)
    assert found.is_kept
    assert found.target == "≥ 3.00"


def test_what_something_adds_is_judged_by_what_it_is_measured_with() -> None:
    samples: Samples = {
        "with": {"ms": [40, 50, 70]},
        "without": {"ms": [10, 20, 30]},
        "alone": {"took": [30, 60, 80]},
    }
    found = added(samples, "", "with", "without", "ms", ("alone", "took"), at_most(1))
    assert (found.value, found.low, found.high) == (0.5, 0.5, 1)
    assert found.is_kept


def test_a_difference_can_be_negative() -> None:
    samples: Samples = {"ours": {"ms": [1, 2, 3]}, "theirs": {"ms": [2, 2.5, 3]}}
    found = difference(samples, "", "ours", "theirs", "ms", at_most(0.05), "ms")
    assert (found.value, found.low, found.high) == (-0.5, -1, 0)
    assert found.is_kept
    assert found.target == "≤ 0.05 ms"


@pytest.mark.parametrize(("most", "is_kept"), [(2, True), (1.9, False)])
def test_a_target_is_held_against_the_median(most: float, is_kept: bool) -> None:
    samples: Samples = {"ours": {"s": [1, 2, 9]}}
    assert absolute(samples, "", "ours", "s", at_most(most), "s").is_kept is is_kept


def test_two_numbers_of_the_same_server_can_be_compared() -> None:
    samples: Samples = {"ours": {"64": [8, 8], "8": [10, 10]}}
    assert within(samples, "", "ours", ("64", "8"), at_least(0.8)).is_kept


def test_the_better_of_two_is_that_with_the_better_median() -> None:
    samples: Samples = {"a": {"rate": [1, 2, 99]}, "b": {"rate": [3, 3, 3]}}
    assert highest(samples, "rate", ["a", "b"]) == "b"


def test_spread_is_the_distance_of_the_extremes_over_the_median() -> None:
    assert spread([9, 10, 12]) == pytest.approx(0.3)
    assert spread([0, 0, 0]) == 0


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 0.5) == 51
    assert percentile(values, 0.99) == 100
    assert percentile([7.0], 0.99) == 7


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.00"),
        (0.049, "0.05"),
        (12.34, "12.3"),
        (12345.6, "12,346"),
        (-9.5, "-9.50"),
    ],
)
def test_numbers_have_the_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_failed_calls_are_counted_for_each_server() -> None:
    samples: Samples = {"a": {"failures": [0, 3]}, "b": {"failures": [0]}, "c": {}}
    assert failed(samples) == {"a": 3}
    assert results.why_failed(measured(samples)) == "calls failed: 3 of a"


def test_a_row_without_failures_has_nothing_to_say() -> None:
    assert results.why_failed(measured(latencies())) == ""
    assert results.why_noisy(latency.ROW, measured(latencies())) == ""


def test_a_busy_machine_compares_nothing() -> None:
    why = results.why_noisy(latency.ROW, measured(latencies(), before=LOUD))
    assert "others used 90%" in why


def test_a_machine_that_is_stolen_from_compares_nothing() -> None:
    assert QUIET._replace(stolen=2 * REFUSE_STOLEN).is_unusable


def test_a_reference_that_is_not_steady_compares_nothing() -> None:
    why = results.why_noisy(latency.ROW, measured(latencies(apart=0.4)))
    assert "80% apart" in why


def test_what_is_stored_is_what_is_read(tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    stored = results.Results(ABOUT, {"latency": measured(latencies())})
    stored.write(file)
    assert results.Results.read(file) == stored


def test_what_was_too_noisy_is_measured_again_when_a_run_is_resumed(
    tmp_path: Path,
) -> None:
    rows = {
        "latency": measured(latencies()),
        "cpu": measured(latencies(), before=LOUD),
        "crash": measured({}, error="ServerFailed: does not listen"),
    }
    file = tmp_path / "numbers.json"
    results.Results(ABOUT, rows).write(file)
    resumed = run.resume(file, ABOUT._replace(began="later"))
    assert resumed.about.began == "now"
    assert [name for name in ROWS if run.is_measured(resumed, name)] == ["latency"]


@pytest.mark.parametrize(
    ("about", "why"),
    [
        (
            ABOUT._replace(commit="abd", rounds=5),
            "commit is abd, and was abc; rounds is",
        ),
        (ABOUT._replace(versions={"wrk": "5"}), "'5'"),
    ],
)
def test_a_run_under_other_circumstances_is_not_resumed(
    tmp_path: Path, about: results.About, why: str
) -> None:
    file = tmp_path / "numbers.json"
    results.Results(ABOUT, {}).write(file)
    with pytest.raises(run.CannotResume, match=why):
        run.resume(file, about)


def test_nothing_is_resumed_with_changes_that_nobody_can_name(tmp_path: Path) -> None:
    about = ABOUT._replace(commit=f"abc{results.WITH_CHANGES}")
    file = tmp_path / "numbers.json"
    results.Results(about, {}).write(file)
    with pytest.raises(run.CannotResume, match="not committed"):
        run.resume(file, about)


def test_a_file_without_numbers_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(run.CannotResume, match="holds no numbers"):
        run.resume(tmp_path / "none.json", ABOUT)


def test_how_steady_a_machine_was_is_told_by_the_rounds_not_by_a_look_after_them() -> (
    None
):
    after = QUIET._replace(spread=2.0)
    one = measured(latencies())._replace(after=after)
    assert results.why_noisy(latency.ROW, one) == ""
    one = one._replace(after=LOUD)
    assert "after it" in results.why_noisy(latency.ROW, one)


def test_the_report_shows_each_promise_and_whether_it_is_kept() -> None:
    kept = report.report(results.Results(ABOUT, {"latency": measured(latencies())}))
    broken = report.report(
        results.Results(ABOUT, {"latency": measured(latencies(ours=0.9))})
    )
    what = "p50 at 8 connections"
    assert [
        line.split("|")[-2].strip() for line in kept.splitlines() if what in line
    ] == ["✓"]
    assert [
        line.split("|")[-2].strip() for line in broken.splitlines() if what in line
    ] == ["✗"]


def test_the_report_says_so_where_numbers_compare_nothing() -> None:
    rows = {
        "latency": measured(latencies(), before=LOUD),
        "cpu": measured({}, error="ServerFailed: does not listen"),
    }
    text = report.report(results.Results(ABOUT, rows))
    assert "noise" in text
    assert "✓" not in text
    assert "**Compares nothing: ServerFailed: does not listen.**" in text


def test_stored_numbers_of_a_noisy_run_are_shown_only_when_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "numbers.json"
    results.Results(ABOUT, {"latency": measured(latencies(), before=LOUD)}).write(file)
    monkeypatch.setattr(run, "end_on_signals", lambda: None)
    monkeypatch.setattr("sys.argv", ["run", "--show", str(file)])
    assert run.main() == 3
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("sys.argv", ["run", "--show", str(file), "--force"])
    assert run.main() == 0
    assert "noise" in capsys.readouterr().out


def test_an_unknown_row_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "end_on_signals", lambda: None)
    monkeypatch.setattr("sys.argv", ["run", "throughputs"])
    with pytest.raises(SystemExit):
        run.main()
    assert "throughput, latency" in capsys.readouterr().err


def test_rows_are_named_once_and_have_titles() -> None:
    assert len(ROWS) == 12
    assert len({row.title for row in ROWS.values()}) == 12


def test_an_upward_axis_holds_its_lines_with_round_ticks() -> None:
    for top in (0.7, 3, 97, 12_345):
        axis = upwards("", [Line("", [(0, top)])])
        assert axis.ticks[0] == 0
        assert axis.ticks[-2] < top <= axis.ticks[-1]
        assert 3 <= len(axis.ticks) <= 7


def test_decades_hold_every_value() -> None:
    axis = decades("", [Line("", [(1, 0.09), (2, 250)])])
    assert axis.ticks == pytest.approx([0.01, 0.1, 1, 10, 100, 1000])
    assert axis.place(math.sqrt(0.01 * 1000)) == pytest.approx(0.5)


def test_a_chart_is_well_formed_and_names_its_axes_and_lines() -> None:
    lines = [Line("a < b", [(1, 10), (8, 20)]), Line("c", [(1, 5), (8, 6)])]
    text = svg("Title", Axis("connections", (1, 8)), upwards("calls/s", lines), lines)
    root = ET.fromstring(text)  # noqa: S314 - made three lines above
    words = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"Title", "connections", "calls/s", "a < b", "c"} <= set(words)
    lines_drawn = [e for e in root.iter() if e.tag.endswith("polyline")]
    assert len(lines_drawn) == 2
