"""Whether s.yaml says what the platform understands: names, types, limits."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from isoruntime.project import keys
from isoruntime.project.finding import ERROR, WARNING, Finding, Kind
from isoruntime.project.images import BUILT_IN
from isoruntime.project.manifest import Manifest, Node, Resource
from isoruntime.project.shapes import CHOICE, MISSING, RANGE, TYPE, Keys, Problem, Shape
from isoruntime.typed import Final

MISSPELT: Final = Kind(
    "key-misspelt",
    ERROR,
    "A key is not known, and close to one that is. Serverless Devs passes over it in "
    "silence: its schema forbids no key.",
    "write the key as it is known",
)
MISPLACED: Final = Kind(
    "key-misplaced",
    ERROR,
    "A key stands in the wrong place, or has the name it had in FC 2.0. It is passed "
    "over in silence.",
    "move it to where it belongs",
)
UNKNOWN: Final = Kind(
    "key-unknown",
    WARNING,
    "A key is not known, and not close to any. It is passed over in silence, unless it "
    "is newer than this check.",
    "remove it, or look it up in the documentation of fc3",
)
LACKING: Final = Kind(
    "key-missing", ERROR, "A key is missing that has to be there.", "add it"
)
WRONG_TYPE: Final = Kind(
    "value-type",
    ERROR,
    "A value is of another type than the key takes, such as text for a number.",
    "write the value as the type that is named; what stands in quotes is text",
)
OUT_OF_RANGE: Final = Kind(
    "value-range",
    ERROR,
    "A value is outside the documented limits.",
    "choose a value within the limits",
)
NOT_A_CHOICE: Final = Kind(
    "value-unknown",
    ERROR,
    "A value is none of those that the key takes.",
    "take one of the values that are named",
)
NOT_A_CHOICE_YET: Final = Kind(
    "value-unlisted",
    WARNING,
    "A region, or a kind of GPU, is none that is known here; it may be new.",
    "check its spelling",
)

_MAY_BE_NEW: Final = ("region", "gpuConfig.gpuType")
_ENDS: Final = (
    (TYPE, WRONG_TYPE),
    (RANGE, OUT_OF_RANGE),
    (MISSING, LACKING),
)


def check(manifest: Manifest, resource: Resource) -> Iterator[Finding]:
    """Yield what is wrong with the keys and values of one function."""
    if not resource.props.entries:
        place = manifest.place(resource.node)
        yield LACKING.at(place, f"'{resource.name}' has no props", "add props")
        return
    for problem in keys.PROPS.judge(resource.props):
        yield _finding(manifest, resource, problem)
    yield from _required(manifest, resource.props)


def check_resource(manifest: Manifest, resource: Resource) -> Iterator[Finding]:
    """Yield what is wrong beside the props, whatever the resource is."""
    yield from _unknown(manifest, resource.node, keys.RESOURCE)


def check_top(manifest: Manifest) -> Iterator[Finding]:
    """Yield what is wrong outside of the resources."""
    yield from _unknown(manifest, manifest.root, keys.TOP)


def _unknown(
    manifest: Manifest, node: Node, known: tuple[str, ...]
) -> Iterator[Finding]:
    """Yield misspelt keys; others may be Serverless Devs' own."""
    for name, entry in node.entries.items():
        near = get_close_matches(name, known, 1)
        if name not in known and near:
            cause = f"'{name}' is no key: did you mean '{near[0]}'?"
            yield MISSPELT.at(manifest.place(entry), cause, f"write {near[0]}")


def _finding(manifest: Manifest, resource: Resource, problem: Problem) -> Finding:
    place = manifest.place(problem.node)
    within = problem.node.key.removeprefix(f"{resource.props.key}.")
    if problem.what == CHOICE:
        return _choice(manifest, within, problem)
    for what, kind in _ENDS:
        if what == problem.what:
            fix = f"add {problem.name}" if what == MISSING else ""
            subject = _subject(problem.node.key)
            return kind.at(place, f"{subject} {problem.text}", fix)
    return _stranger(manifest, within, problem)


def _subject(key: str) -> str:
    return key.rpartition(".")[2]


def _choice(manifest: Manifest, within: str, problem: Problem) -> Finding:
    kind = NOT_A_CHOICE_YET if within in _MAY_BE_NEW else NOT_A_CHOICE
    cause = f"{_subject(problem.node.key)} {problem.text}"
    near = get_close_matches(problem.name, problem.known, 1)
    if near:
        cause += f": did you mean {near[0]}?"
    fix = "" if len(problem.known) > 20 else f"give one of {', '.join(problem.known)}"
    return kind.at(manifest.place(problem.node), cause, fix)


def _stranger(manifest: Manifest, within: str, problem: Problem) -> Finding:
    """Return what an unknown key is: moved, misspelt, or nobody knows."""
    place, name = manifest.place(problem.node), problem.name
    path = within.rpartition(".")[0]
    is_in_trigger = path.startswith("triggers[") and "." not in path
    renamed = keys.RENAMED_IN_TRIGGERS if is_in_trigger else keys.RENAMED
    near = get_close_matches(name, problem.known, 1)
    # A trigger's `name` and a hook's `preFreeze` are close to other names as well.
    if name in renamed and (is_in_trigger or path in ("", "instanceLifecycleConfig")):
        better = renamed[name]
        return MISPLACED.at(place, f"'{name}' is FC 2.0's", f"write {better}")
    if near:
        cause = f"'{name}' is no key: did you mean '{near[0]}'?"
        return MISSPELT.at(place, cause, f"write {near[0]}")
    elsewhere = [at for at in _paths(keys.PROPS) if at.rpartition(".")[2] == name]
    if elsewhere:
        # Containers have some of the names as well, and are the rarer case.
        better = min(elsewhere, key=lambda at: at.startswith("customContainerConfig"))
        cause = f"'{name}' is no key here: it belongs to {better.rpartition('.')[0] or 'props'}"
        return MISPLACED.at(place, cause, f"write it as {better}")
    return UNKNOWN.at(place, f"'{name}' is no key that is known here")


def _paths(shape: Shape, path: str = "") -> Iterator[str]:
    """Yield the paths of all keys that are no more than mappings deep."""
    if isinstance(shape, Keys):
        for name, below in shape.keys.items():
            at = f"{path}.{name}" if path else name
            yield at
            yield from _paths(below, at)


def _required(manifest: Manifest, props: Node) -> Iterator[Finding]:
    """Yield what this runtime needs besides."""
    runtime = props.text("runtime")
    wanted = ["code"] if runtime else []
    if runtime in keys.CONTAINERS:
        wanted = ["customContainerConfig"]
    elif runtime in BUILT_IN or not runtime.startswith("custom"):
        wanted += ["handler"] if runtime else []
    for name in wanted:
        if name not in props.entries:
            cause = f"runtime {runtime} needs {name}"
            yield LACKING.at(manifest.place(props), cause, f"add {name}")
