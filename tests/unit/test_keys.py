"""What is known of s.yaml's keys, compared with the schema of the component that reads it.

The schema is no part of this project: ISORUNTIME_TEST_FC3_SCHEMA names it, or it lies
beside the checkout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isoruntime.project import keys
from isoruntime.project.shapes import (
    Either,
    Keys,
    ListOf,
    MapOf,
    Number,
    OneOf,
    Shape,
    Switched,
    Text,
    Truth,
)

BESIDE = Path(__file__).parents[3] / "shared" / "data" / "fc3-schema.json"
SCHEMA = Path(os.environ.get("ISORUNTIME_TEST_FC3_SCHEMA") or BESIDE)

#: Where we know more than the schema, or judge otherwise, and why.
STRICTER = {
    "customRuntimeConfig.port": "ports end at 65535",
    "customContainerConfig.port": "ports end at 65535",
    "instanceLifecycleConfig.initializer.timeout": "the platform's limit is 300 s",
    "instanceLifecycleConfig.preStop.timeout": "the platform's limit is 90 s",
    **{
        f"{config}.healthCheckConfig.{key}": "documented with the API"
        for config in ("customRuntimeConfig", "customContainerConfig")
        for key in (
            *("initialDelaySeconds", "periodSeconds", "timeoutSeconds"),
            *("failureThreshold", "successThreshold"),
        )
    },
}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    if not SCHEMA.is_file():
        pytest.skip(f"the schema is not here: {SCHEMA}")
    loaded: dict[str, Any] = json.loads(SCHEMA.read_text())
    return loaded


class Comparison:
    """Walks the schema and what we know side by side."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._definitions = schema["definitions"]
        self.seen: list[str] = []

    def differences(
        self, theirs: dict[str, Any], ours: Shape, path: str
    ) -> Iterator[str]:
        """Yield where we know less than the schema, or contradict it."""
        self.seen.append(path)
        if "$ref" in theirs:
            theirs = self._definitions[theirs["$ref"].rpartition("/")[2]]
        if "anyOf" in theirs:
            yield from self._either(theirs["anyOf"], ours, path)
        elif "const" in theirs or "enum" in theirs:
            yield from self._choices(theirs, ours, path)
        elif theirs.get("type") == "object":
            yield from self._object(theirs, ours, path)
        elif theirs.get("type") == "array":
            yield from self._list(theirs, ours, path)
        elif "type" in theirs:
            yield from self._scalar(theirs, ours, path)

    def _either(
        self, branches: list[dict[str, Any]], ours: Shape, path: str
    ) -> Iterator[str]:
        if isinstance(ours, Either):
            if len(branches) != len(ours.shapes):
                yield f"{path}: {len(branches)} alternatives, not {len(ours.shapes)}"
            for branch in branches:
                attempts = [
                    [*Comparison.differences(self, branch, shape, path)]
                    for shape in ours.shapes
                ]
                yield from min(attempts, key=len)
        else:
            yield f"{path}: alternatives that we do not know"

    def _choices(self, theirs: dict[str, Any], ours: Shape, path: str) -> Iterator[str]:
        wanted = set(theirs.get("enum") or [theirs["const"]])
        if not isinstance(ours, OneOf) or set(ours.choices) != wanted:
            yield f"{path}: the values {sorted(map(str, wanted))}"

    def _object(self, theirs: dict[str, Any], ours: Shape, path: str) -> Iterator[str]:
        properties = theirs.get("properties") or {}
        if not properties:
            yield from self._names(theirs, ours, path)
            return
        if isinstance(ours, Switched):
            yield from self._switched(theirs, ours, path)
            return
        if not isinstance(ours, Keys):
            yield f"{path}: a mapping with keys"
            return
        if set(ours.keys) != set(properties):
            yield f"{path}: the keys {sorted(set(ours.keys) ^ set(properties))}"
        if set(ours.required) != set(theirs.get("required", ())):
            yield f"{path}: the required keys {theirs.get('required')}"
        for name in properties.keys() & ours.keys.keys():
            at = f"{path}.{name}" if path else name
            yield from self.differences(properties[name], ours.keys[name], at)

    def _names(self, theirs: dict[str, Any], ours: Shape, path: str) -> Iterator[str]:
        named = theirs.get("additionalProperties")
        if not isinstance(ours, MapOf):
            yield f"{path}: a mapping with any names"
        elif isinstance(named, dict):
            yield from self.differences(named, ours.shape, f"{path}.*")

    def _switched(
        self, theirs: dict[str, Any], ours: Switched, path: str
    ) -> Iterator[str]:
        branches = theirs["properties"][ours.name]["anyOf"]
        if len(branches) != len(ours.by):
            yield f"{path}: {len(branches)} ways to say {ours.name}"
        for branch in branches:
            attempts = [
                [*self.differences(branch, shape, f"{path}.{name}")]
                for name, shape in ours.by.items()
            ]
            yield from min(attempts, key=len)
        switchless = dict(theirs, properties=dict(theirs["properties"]))
        switchless["properties"][ours.name] = {}
        yield from self._object(switchless, ours.keys, path)

    def _list(self, theirs: dict[str, Any], ours: Shape, path: str) -> Iterator[str]:
        if not isinstance(ours, ListOf):
            yield f"{path}: a list"
            return
        most, least = theirs.get("maxItems"), theirs.get("minItems", 0)
        if ours.least != least or (most is not None and ours.most != most):
            yield f"{path}: {least} to {most} entries"
        items = theirs.get("items") or {}
        for item in items if isinstance(items, list) else [items]:
            yield from self.differences(item, ours.shape, f"{path}[]")

    def _scalar(self, theirs: dict[str, Any], ours: Shape, path: str) -> Iterator[str]:
        kind = theirs["type"]
        wanted = {"string": Text, "boolean": Truth}.get(kind, Number)
        if not isinstance(ours, wanted):
            yield f"{path}: {kind}"
        if isinstance(ours, Number):
            if kind == "integer" and not ours.is_whole:
                yield f"{path}: a whole number"
            yield from self._limits(theirs, ours, path)

    def _limits(self, theirs: dict[str, Any], ours: Number, path: str) -> Iterator[str]:
        if ours.step != theirs.get("multipleOf", 0):
            yield f"{path}: multiples of {theirs.get('multipleOf')}"
        for name, known in (("minimum", ours.lowest), ("maximum", ours.highest)):
            limit = theirs.get(name)
            if known != limit and not (limit is None and path in STRICTER):
                yield f"{path}: {name} {limit}, not {known}"


def test_the_keys_values_and_limits_are_those_of_the_schema(
    schema: dict[str, Any],
) -> None:
    comparison = Comparison(schema)
    assert [*comparison.differences(schema, keys.PROPS, "")] == []
    # Every part of the schema was met, and no exception is left over.
    assert len(set(comparison.seen)) > 200
    assert set(STRICTER) <= set(comparison.seen)


@pytest.mark.parametrize(
    ("path", "change", "difference"),
    [
        ("memorySize", {"maximum": 65536}, "memorySize: maximum 65536, not 32768"),
        ("memorySize", {"multipleOf": 32}, "memorySize: multiples of 32"),
        ("timeout", {"type": "string"}, "timeout: string"),
        ("diskSize", {"enum": [512]}, "diskSize: the values ['512']"),
        ("layers", {"minItems": 2}, "layers: 2 to None entries"),
        ("newKey", {"type": "string"}, ": the keys ['newKey']"),
    ],
)
def test_the_comparison_notices_what_a_newer_schema_says(
    schema: dict[str, Any], path: str, change: dict[str, Any], difference: str
) -> None:
    changed = json.loads(json.dumps(schema))
    changed["properties"].setdefault(path, {}).update(change)
    assert difference in [*Comparison(changed).differences(changed, keys.PROPS, "")]
