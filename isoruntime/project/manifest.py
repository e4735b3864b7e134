"""`Manifest`: an s.yaml as it was written, every value with its line and its key.

YAML is read with PyYAML, which is an extra, down to its nodes; what plain words mean is
decided here as Serverless Devs' reader decides it (YAML 1.2: `yes` is a word, no truth).
JSON is read without it, but has no lines then.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

from isoruntime.errors import CannotRead
from isoruntime.project.finding import ERROR, WARNING, Finding, Kind, Place
from isoruntime.typed import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

#: What a folder's manifest is called, in the order in which `s` looks.
NAMES: Final = ("s.yaml", "s.yml", "s.json")

SYNTAX: Final = Kind(
    "manifest-syntax",
    ERROR,
    "The file is no YAML, or no JSON, or holds no resources.",
    "mend the line that is named",
)
TWICE: Final = Kind(
    "key-twice",
    WARNING,
    "A key stands twice in one place; which of the two counts depends on the reader.",
    "remove one of the two",
)

_TRUTHS: Final = {
    word: value
    for truth, value in (("true", True), ("false", False))
    for word in (truth, truth.title(), truth.upper())
}
_NOTHING: Final = frozenset({"", "~", "null", "Null", "NULL"})
_WHOLE: Final = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_VARIABLE: Final = re.compile(r"\$\{\s*vars\.([\w.-]+)\s*\}")


class Node:
    """One value of a manifest, with its line and its key."""

    __slots__ = ("key", "line", "value")

    def __init__(self, value: Any, line: int = 0, key: str = "") -> None:
        #: a dict of nodes by name, a list of nodes, or text, number, truth, None
        self.value = value
        self.line = line
        self.key = key

    @property
    def is_open(self) -> bool:
        """Whether only Serverless Devs will know it: `${...}`, or `{{ ... }}`."""
        return isinstance(self.value, str) and (
            "${" in self.value or "{{" in self.value
        )

    @property
    def entries(self) -> dict[str, Node]:
        """What a mapping holds; nothing where it is something else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """What a list holds; nothing where it is something else."""
        return self.value if isinstance(self.value, list) else []

    def get(self, path: str) -> Node | None:
        """Return what lies at a path such as `customRuntimeConfig.port`."""
        node: Node | None = self
        for name in path.split("."):
            node = node.entries.get(name) if node else None
        return node

    def text(self, path: str) -> str:
        """Return the text at a path; none where it is another value, or open."""
        node = self.get(path)
        if node is None or node.is_open or not isinstance(node.value, str):
            return ""
        return node.value

    def number(self, path: str) -> float | None:
        """Return the number at a path, None where it is another value."""
        node = self.get(path)
        value = node.value if node else None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return value


class Resource(NamedTuple):
    """One entry below `resources`."""

    name: str
    component: str
    node: Node
    props: Node

    @property
    def is_function(self) -> bool:
        """Whether it is one that can be judged."""
        return self.component.rpartition("/")[2].partition("@")[0] == "fc3"


class Manifest:
    """A file that describes functions."""

    def __init__(self, path: Path, shown: str, root: Node) -> None:
        self.path = path
        self.shown = shown
        self.root = root
        self.findings: list[Finding] = []

    def place(self, node: Node | None) -> Place:
        """Return where a value stands."""
        return Place(self.shown, node.line, node.key) if node else Place(self.shown)

    def resources(self) -> Iterator[Resource]:
        """Yield every resource, with `vars` and templates filled in."""
        values = self.root.get("vars") or Node({})
        resources = self.root.get("resources") or Node({})
        for name, node in resources.entries.items():
            props = node.get("props") or Node({}, node.line, f"{node.key}.props")
            template = self.root.get(f"template.{node.text('extend.name')}")
            if template is not None:
                props = _merged(template, props)
            yield Resource(name, node.text("component"), node, _filled(props, values))


def read(path: Path, shown: str) -> Manifest:
    """Return the manifest in a file; what breaks its grammar is among its findings.

    Raises:
        CannotRead: there is none, it is no text, or PyYAML is needed and absent.
    """
    manifest = Manifest(path, shown, Node({}))
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise CannotRead(f"{shown} cannot be read: {reason}") from error
    if path.suffix == ".json":
        _read_json(manifest, text)
    else:
        _read_yaml(manifest, text)
    return manifest


def _read_json(manifest: Manifest, text: str) -> None:
    try:
        manifest.root = _from_values(json.loads(text))
    except json.JSONDecodeError as error:
        place = Place(manifest.shown, error.lineno)
        manifest.findings.append(SYNTAX.at(place, f"this is no JSON: {error.msg}"))
    except RecursionError:
        _refuse_depth(manifest)


def _from_values(value: Any, key: str = "") -> Node:
    if isinstance(value, dict):
        below = f"{key}." if key else ""
        value = {name: _from_values(one, below + name) for name, one in value.items()}
    elif isinstance(value, list):
        value = [_from_values(one, f"{key}[{at}]") for at, one in enumerate(value)]
    return Node(value, 0, key)


def _read_yaml(manifest: Manifest, text: str) -> None:
    try:
        import yaml
    except ImportError as error:
        raise CannotRead(
            f"{manifest.shown} needs PyYAML to be read: pip install 'isoruntime[yaml]'"
        ) from error
    # No tag is looked at and nothing is constructed: nodes are all that is wanted.
    try:
        composed = yaml.compose(text, Loader=yaml.BaseLoader)
        if composed is not None:
            manifest.root = _Composer(manifest).node(composed)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        cause = f"this is no YAML: {error.problem or error.context}"
        manifest.findings.append(SYNTAX.at(Place(manifest.shown, line), cause))
    except yaml.YAMLError as error:
        cause = f"this is no YAML: {str(error).splitlines()[0]}"
        manifest.findings.append(SYNTAX.at(Place(manifest.shown), cause))
    except RecursionError:
        _refuse_depth(manifest)


def _refuse_depth(manifest: Manifest) -> None:
    cause = "it is nested too deeply, or holds itself"
    manifest.findings.append(SYNTAX.at(Place(manifest.shown), cause))


class _Composer:
    """Makes our nodes of PyYAML's."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    def node(self, given: Any, key: str = "", line: int = 0) -> Node:
        """Return the value of one node, `line` being that of its name if it has one."""
        line = line or given.start_mark.line + 1
        if given.id == "mapping":
            return Node(self._mapping(given, key), line, key)
        if given.id == "sequence":
            values = [
                self.node(one, f"{key}[{at}]") for at, one in enumerate(given.value)
            ]
            return Node(values, line, key)
        is_plain = given.style is None and given.tag.endswith(":str")
        return Node(_meant(given.value) if is_plain else given.value, line, key)

    def _mapping(self, given: Any, key: str) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for name_node, value in given.value:
            name, line = str(name_node.value), name_node.start_mark.line + 1
            path = f"{key}.{name}" if key else name
            if name == "<<" and name_node.style is None:
                merged |= self._merge(value, key)
                continue
            if name in entries:
                place = Place(self._manifest.shown, line, path)
                cause = f"'{name}' stands here and in line {entries[name].line}"
                self._manifest.findings.append(TWICE.at(place, cause))
            entries[name] = self.node(value, path, line)
        return {**merged, **entries}

    def _merge(self, value: Any, key: str) -> dict[str, Node]:
        sources = value.value if value.id == "sequence" else [value]
        merged: dict[str, Node] = {}
        # The first of several counts.
        for source in reversed(sources):
            if source.id == "mapping":
                merged |= self._mapping(source, key)
        return merged


def _meant(text: str) -> Any:
    """Return what a plain word means."""
    if text in _NOTHING:
        return None
    if text in _TRUTHS:
        return _TRUTHS[text]
    if _WHOLE.fullmatch(text):
        has_base = text[:2] in ("0x", "0o")
        return int(text, 0) if has_base else int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _merged(below: Node, above: Node) -> Node:
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        return above
    entries = dict(below.value)
    for name, node in above.value.items():
        entries[name] = _merged(entries[name], node) if name in entries else node
    return Node(entries, above.line, above.key)


def _filled(node: Node, values: Node) -> Node:
    """Return a value with the manifest's own `vars` put in."""
    value = node.value
    if isinstance(value, dict):
        value = {name: _filled(one, values) for name, one in value.items()}
    elif isinstance(value, list):
        value = [_filled(one, values) for one in value]
    elif isinstance(value, str):
        whole = _VARIABLE.fullmatch(value)
        known = values.get(whole[1]) if whole else None
        if known is not None:
            return Node(known.value, node.line, node.key)
        value = _VARIABLE.sub(lambda match: _word(match, values), value)
    return Node(value, node.line, node.key)


def _word(match: re.Match[str], values: Node) -> str:
    known = values.get(match[1])
    if known is None or isinstance(known.value, (dict, list, bool, type(None))):
        return match[0]
    return str(known.value)


def shown(path: Path) -> str:
    """Return a path as a person would write it from here."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith(os.pardir) else str(path)
