"""Messages between front end and zygote: what is read is what was meant, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoruntime.errors import ProtocolViolation
from isoruntime.wire.order import LoadOrder
from isoruntime.zygote import protocol

#: A sound value of every type that a field may have.
VALUES: dict[type, Any] = {
    int: 7,
    str: "text",
    float: 0.25,
    bool: True,
    dict: {},
}
#: Sound lists, by message and field: what is in them is judged, too.
LISTS: dict[tuple[str, str], list[Any]] = {
    ("load", "ahead"): [1, 2],
    ("fork", "slots"): [1, 2],
    ("forked", "workers"): [[1, 20], [2, 21]],
    ("forked", "has"): ["request", "reply"],
    ("exited", "workers"): [[1, 0, 9, "", 0]],
}
#: Values of the wrong type, near misses among them: JSON knows no difference between
#: some of them, and Python counts a bool as an int.
WRONG: dict[type, list[Any]] = {
    int: [True, 1.0, "7", None, [7]],
    str: [7, None, ["text"], {}],
    float: [1, True, "0.25", None],
    bool: [0, 1, "true", None],
    list: ["request", None, 7],
    dict: [[], None],
}
KINDS = sorted(protocol._FIELDS)


def sound(kind: str) -> dict[str, Any]:
    return {
        name: LISTS[kind, name] if wanted is list else VALUES[wanted]
        for name, wanted in protocol._FIELDS[kind].items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_message_arrives_as_it_was_meant(kind: str) -> None:
    fields = sound(kind)
    assert protocol.decode(protocol.encode(kind, **fields)) == (kind, fields)


def test_the_order_to_load_arrives_whole() -> None:
    order = LoadOrder("index.handler", "/code \u2744", initializer=None)
    kind, fields = protocol.decode(
        protocol.encode("load", ahead=[7], **order._asdict())
    )
    assert (kind, fields.pop("ahead")) == ("load", [7])
    assert LoadOrder(**fields) == order


def test_the_docstring_lists_every_message_with_its_fields() -> None:
    assert protocol.__doc__ is not None
    for kind, fields in protocol._FIELDS.items():
        lines = [line for line in protocol.__doc__.split("\n") if f" {kind} {{" in line]
        assert len(lines) == 1, kind
        for name in fields:
            assert name in lines[0]


def named(kind: str) -> list[str]:
    """Return the names that the docstring has for what is said of a worker."""
    assert protocol.__doc__ is not None
    _, _, text = protocol.__doc__.partition(f" {kind} {{workers")
    said, _, _ = text.partition("]")
    return said.partition("[")[2].split(", ")


@pytest.mark.parametrize("kind", sorted(protocol._OF_WORKERS))
def test_the_docstring_lists_what_is_said_of_a_worker(kind: str) -> None:
    assert len(named(kind)) == len(protocol._OF_WORKERS[kind])
    assert named(kind)[0] == "slot"


@pytest.mark.parametrize(
    ("kind", "at", "wrong"),
    [
        pytest.param(kind, at, wrong, id=f"{kind} with {named(kind)[at]} {wrong!r}")
        for kind, types in protocol._OF_WORKERS.items()
        for at, wanted in enumerate(types)
        for wrong in WRONG[wanted]
    ],
)
def test_what_is_said_of_a_worker_has_its_types(kind: str, at: int, wrong: Any) -> None:
    message = sound(kind)
    odd = list(message["workers"][0])
    odd[at] = wrong
    message["workers"] = [*message["workers"], odd]
    with pytest.raises(ProtocolViolation, match="odd fields"):
        protocol.decode(protocol.encode(kind, **message))


@pytest.mark.parametrize("worker", [None, 7, "slot", [], [1], {"slot": 1, "pid": 2}])
@pytest.mark.parametrize("kind", sorted(protocol._OF_WORKERS))
def test_all_that_is_said_of_a_worker_is_there(kind: str, worker: Any) -> None:
    with pytest.raises(ProtocolViolation):
        protocol.decode(protocol.encode(kind, **{**sound(kind), "workers": [worker]}))


@pytest.mark.parametrize("slot", [True, 1.0, "1", None, [1]])
@pytest.mark.parametrize(("kind", "name"), sorted(protocol._SLOTS.items()))
def test_slots_to_fork_are_numbers(kind: str, name: str, slot: Any) -> None:
    with pytest.raises(ProtocolViolation):
        protocol.decode(protocol.encode(kind, **{name: [1, slot]}))


@pytest.mark.parametrize(
    ("kind", "name", "wrong"),
    [
        pytest.param(kind, name, wrong, id=f"{kind} with {name} {wrong!r}")
        for kind in KINDS
        for name, wanted in protocol._FIELDS[kind].items()
        for wrong in WRONG[wanted]
    ],
)
def test_a_field_of_another_type_is_refused(kind: str, name: str, wrong: Any) -> None:
    data = protocol.encode(kind, **{**sound(kind), name: wrong})
    with pytest.raises(ProtocolViolation, match="odd fields"):
        protocol.decode(data)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in KINDS for name in protocol._FIELDS[kind]],
)
def test_a_missing_field_is_refused(kind: str, name: str) -> None:
    fields = sound(kind)
    del fields[name]
    with pytest.raises(ProtocolViolation, match="unreadable"):
        protocol.decode(protocol.encode(kind, **fields))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"7",
        b'"fork"',
        b'{"is": "obey"}',
        b'{"is": ["fork"]}',
        b'{"is": {}}',
        b'{"is": null}',
        b"\xff\xfe",
        b'{"is": "fork", "slots": [1',
        b'{"is": "fork", "slots": [' + b"9" * 5000 + b"]}",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_what_is_no_message_is_a_violation(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        protocol.decode(data)


@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"a": ' * 20_000])
def test_a_message_without_bottom_is_a_violation(deep: bytes) -> None:
    # `json` gives up on depth with an error that is no ValueError.
    with pytest.raises(ProtocolViolation):
        protocol.decode(b'{"is": ' + deep)


@given(st.binary(max_size=300))
def test_random_bytes_make_a_violation_and_nothing_else(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        protocol.decode(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.sampled_from(KINDS) | json_values,
    st.dictionaries(
        st.sampled_from(["slots", "workers", "reason", "seconds", "threads", "on"]),
        json_values,
    ),
)
def test_odd_json_is_a_violation_or_has_the_types_that_were_asked_for(
    kind: Any, fields: dict[str, Any]
) -> None:
    data = json.dumps({"is": kind, **fields}).encode()
    try:
        got, values = protocol.decode(data)
    except ProtocolViolation:
        return
    for name, wanted in protocol._FIELDS[got].items():
        assert type(values[name]) is wanted


def test_names_of_descriptors_are_names() -> None:
    # They become keys of a dict, and a list among them would raise there.
    data = protocol.encode("forked", workers=[[1, 2]], has=[["request"]])
    with pytest.raises(ProtocolViolation):
        protocol.decode(data)


def test_every_message_fits_one_packet() -> None:
    longest, large = "x" * (64 * 1024), 1 << 62
    failed = protocol.encode("failed", type="E" * 200, body=longest)
    forked = [[large, large]] * protocol.MOST_FORKED
    exited = [[large, large, large, "processes", large]] * protocol.MOST_EXITED
    for message in (
        failed,
        protocol.encode("forked", workers=forked, has=protocol.DESCRIPTORS),
        protocol.encode("exited", workers=exited),
    ):
        assert len(message) < protocol.MAX_MESSAGE


def test_the_descriptors_of_one_message_are_no_more_than_the_kernel_passes() -> None:
    # SCM_MAX_FD of the kernel.
    assert protocol.MOST_DESCRIPTORS <= 253
