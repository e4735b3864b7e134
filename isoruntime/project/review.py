"""`Review`: everything that the checks say of a folder or an s.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from isoruntime.errors import CannotRead
from isoruntime.project import images, manifest
from isoruntime.project.checks import (
    address,
    handler,
    limits,
    packages,
    props,
    settings,
    start,
)
from isoruntime.project.finding import ERROR, WARNING, Finding, Kind, Place
from isoruntime.project.function import Function, ParseOptions, Start
from isoruntime.project.manifest import Manifest, Resource, shown
from isoruntime.project.packed import packed
from isoruntime.typed import Final

NOTHING_JUDGED: Final = Kind(
    "nothing-judged",
    WARNING,
    "The file describes no function that is judged here: only resources with "
    "component: fc3 are.",
    "move to edition 3.0.0 and component: fc3; what `component: fc` takes is not known here",
)
_FROM: Final[tuple[ModuleType, ...]] = (
    *(manifest, props, limits, start, address, settings, handler, packages),
)


def kinds() -> list[Kind]:
    """Return every kind of finding there is, a family after the other."""
    found = [one for module in _FROM for one in vars(module).values()]
    found.append(NOTHING_JUDGED)
    return [one for one in dict.fromkeys(filter(_is_kind, found))]


def _is_kind(value: object) -> bool:
    return isinstance(value, Kind)


class Review:
    """What was looked at, what was found, and what was not judged."""

    def __init__(self, parse_options: ParseOptions) -> None:
        self._parse_options = parse_options
        #: with the name of the function, empty for what is nobody's
        self.findings: list[tuple[str, Finding]] = []
        self.looked_at: list[str] = []
        self.not_judged: list[str] = []

    @property
    def errors(self) -> int:
        """How many findings will not work."""
        return sum(one.kind.severity == ERROR for _, one in self.findings)

    @property
    def warnings(self) -> int:
        """How many may not."""
        return len(self.findings) - self.errors

    def look_at(self, path: Path, runtime: str = images.DEFAULT) -> None:
        """Look at a folder, or at an s.yaml and the folders that it names.

        `runtime` is what a folder without an s.yaml is for.

        Raises:
            CannotRead: there is nothing to look at.
        """
        if not path.exists():
            raise CannotRead(f"{path} does not exist: give a folder or an s.yaml")
        if path.is_dir():
            named = [path / name for name in manifest.NAMES if (path / name).is_file()]
            if not named:
                self._look_at_folder(path, runtime)
                return
            path = named[0]
        if path.suffix not in (".yaml", ".yml", ".json"):
            raise CannotRead(f"{path} is no s.yaml: give a folder, a .yaml or a .json")
        self._look_at_manifest(path)

    def _look_at_folder(self, folder: Path, runtime: str) -> None:
        function = Function(folder, self._parse_options, runtime=runtime)
        self.looked_at.append(
            f"{shown(folder)} (no s.yaml: judged as {_about(function)})"
        )
        self._check(function)

    def _look_at_manifest(self, path: Path) -> None:
        found = manifest.read(path, shown(path))
        self.looked_at.append(found.shown)
        self._add("", found.findings)
        if found.findings and not found.root.entries:
            return
        self._add("", props.check_top(found))
        functions = 0
        for resource in found.resources():
            self._add(resource.name, props.check_resource(found, resource))
            if resource.is_function:
                functions += 1
                self._look_at_resource(found, resource)
            else:
                what = resource.component or "no component"
                self.not_judged.append(f"{resource.name} ({what})")
        if "services" in found.root.entries:
            self.not_judged.append("services (edition 1, FC 2.0)")
        if not functions:
            self._add("", [_nothing(found)])

    def _look_at_resource(self, found: Manifest, resource: Resource) -> None:
        self._add(resource.name, props.check(found, resource))
        runtime = resource.props.text("runtime")
        if not runtime:
            return
        made = packed(resource, found.path.parent)
        function = Function(
            made.folder if made else _folder(found, resource),
            self._parse_options,
            runtime=runtime,
            manifest=found,
            resource=resource,
            packed=made,
        )
        self.looked_at.append(f"{resource.name} ({_about(function)})")
        if function.image is None:
            self.not_judged.append(f"the code of {resource.name} (runtime {runtime})")
        self._check(function)

    def _check(self, function: Function) -> None:
        name, folder = function.name, function.folder
        self._add(name, limits.check(function))
        if function.image is None or folder is None:
            return
        if not folder.is_dir():
            if folder.exists():
                self.not_judged.append(f"what is in {shown(folder)}")
            return
        if function.is_custom:
            self._add(name, start.check(function))
            self._add(name, address.check(function))
            self._add(name, settings.check(function))
        self._add(name, handler.ignored(function))
        self._add(name, handler.check(function))
        self._add(name, packages.check(function))
        self.looked_at += _files(function, function.start)

    def _add(self, name: str, findings: Iterator[Finding] | list[Finding]) -> None:
        for finding in findings:
            known = [one for _, one in self.findings]
            if finding not in known:
                self.findings.append((name, finding))


def _nothing(found: Manifest) -> Finding:
    resources = found.root.get("resources")
    if resources is None:
        cause = "it has no resources"
    else:
        cause = "none of its resources is a function with component: fc3"
    return NOTHING_JUDGED.at(Place(found.shown), cause)


def _about(function: Function) -> str:
    about = function.runtime
    if function.image:
        about += f", Python {images.text_of(function.python or function.image.python)}"
    if function.is_custom and function.port:
        about += f", port {function.port}"
    return about


def _folder(found: Manifest, resource: Resource) -> Path | None:
    """Return where a function's code lies on this machine."""
    code = resource.props.text("code")
    return found.path.parent / code if code else None


def _files(function: Function, begun: Start) -> Iterator[str]:
    """Yield what of a folder was looked into."""
    if function.is_custom and begun.file and begun.file.is_file():
        yield shown(begun.file)
    if function.told:
        yield f"handler {function.told.settings.handler}"
    if function.folder and (vendored := packages.count(function.folder)):
        yield f"{vendored} vendored packages"
