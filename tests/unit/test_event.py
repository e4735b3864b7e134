"""isoruntime event: samples of the platform's, and a function's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isoruntime.cli import event
from isoruntime.cli.samples import SAMPLES

Capture = pytest.CaptureFixture[str]


def told(capsys: Capture, *words: str) -> str:
    assert event.main(words) == 0
    return capsys.readouterr().out


def complaint(capsys: Capture, *words: str) -> str:
    assert event.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_json_that_a_handler_can_load(capsys: Capture, name: str) -> None:
    assert json.loads(told(capsys, name)) == SAMPLES[name].event


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("oss", ("events", 0, "oss", "object", "key")),
        ("sls", ("source", "logstoreName")),
        ("timer", ("triggerTime",)),
        ("http", ("requestContext", "http", "sourceIp")),
        ("mns", ("Message",)),
        ("tablestore", ("Records", 0, "PrimaryKey", 0, "ColumnName")),
        ("cdn", ("events", 0, "eventParameter", "objectPath", 0)),
    ],
)
def test_a_sample_has_what_handlers_look_for(
    name: str, path: tuple[str | int, ...]
) -> None:
    value: object = SAMPLES[name].event
    for key in path:
        value = value[key]  # type: ignore[index]
    assert isinstance(value, str)


def test_values_are_set_by_their_path(capsys: Capture) -> None:
    changes = (
        *("--set", "events.0.oss.object.key=a=b.jpg"),
        *("--set", "events.0.oss.object.size=7"),
        *("--set", "events.0.oss.bucket.ownerIdentity=7"),
        *("--set", 'events.0.userIdentity={"principalId": null}'),
    )
    changed = json.loads(told(capsys, "oss", *changes))["events"][0]
    assert changed["oss"]["object"]["key"] == "a=b.jpg"
    assert changed["oss"]["object"]["size"] == 7
    # Where text stands, text it stays.
    assert changed["oss"]["bucket"]["ownerIdentity"] == "7"
    assert changed["userIdentity"] == {"principalId": None}
    # And the sample is what it was.
    assert json.loads(told(capsys, "oss"))["events"][0]["oss"]["object"]["size"] != 7


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("oss", "--set", "events.0.oss.object.kye=x"), "events.0.oss.object.key?"),
        (("oss", "--set", "events.9.region=x"), "did you mean events.0.region?"),
        (("timer", "--set", "q=1"), "there are triggerTime, triggerName, payload"),
        (("timer", "--set", "payload"), "is not PATH=VALUE"),
        (("timer", "--set"), "is not PATH=VALUE"),
        (("ots",), "'ots' is no event: did you mean oss? the names are oss, sls,"),
        (("oss", "more"), "'more' is one argument too many: give one NAME"),
        (("oss", "--sett", "x"), "--sett is no option: did you mean --set?"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    capsys: Capture, words: tuple[str, ...], problem: str
) -> None:
    assert problem in complaint(capsys, *words)


def test_saved_events_are_listed_and_printed_as_they_are(
    capsys: Capture, tmp_path: Path
) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "order.json").write_text('{"order":   42}\n')
    (tmp_path / "events" / "text.json").write_text("no JSON")
    here = ("--code-dir", str(tmp_path))
    listed = told(capsys, "--list", *here)
    assert all(name in listed for name in [*SAMPLES, "order", "text"])
    assert told(capsys, *here) == listed
    assert told(capsys, "order", *here) == '{"order":   42}\n'
    assert json.loads(told(capsys, "order", "--set", "order=43", *here))["order"] == 43
    assert told(capsys, "text", *here) == "no JSON"
    assert "is not JSON" in complaint(capsys, "text", "--set", "a=1", *here)
    assert "did you mean order?" in complaint(capsys, "oder", *here)


def test_a_saved_event_wins_over_a_sample(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "oss.json").write_text("{}")
    assert told(capsys, "oss", "--code-dir", str(tmp_path)) == "{}"
