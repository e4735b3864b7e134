"""`Packed`: a zip that `isoruntime package` makes of a folder before it is deployed."""

from __future__ import annotations

import shlex
from pathlib import Path

from isoruntime.project.manifest import Node, Resource
from isoruntime.typed import Final, NamedTuple

_TAKING_VALUES: Final = frozenset({"-o", "--output", "--python", "--platform"})


class Packed(NamedTuple):
    """What is known of such a zip without looking into it."""

    folder: Path
    #: isoruntime, what it needs, and what requirements.txt asks for are put in
    has_packages: bool

    @property
    def has_requirements(self) -> bool:
        """Whether there are packages of the code's own among them."""
        try:
            text = (self.folder / "requirements.txt").read_text("utf-8", "replace")
        except OSError:
            return False
        lines = (line.strip() for line in text.splitlines())
        return self.has_packages and any(line and line[0] != "#" for line in lines)


def packed(resource: Resource, root: Path) -> Packed | None:
    """Return what a resource's zip is made of, if an action of s.yaml makes it."""
    if not resource.props.text("code").endswith(".zip"):
        return None
    actions = resource.node.get("actions.pre-deploy")
    for action in actions.items if actions else ():
        words = _words(action)
        if "package" not in words:
            continue
        program, given = (
            words[: words.index("package")],
            words[words.index("package") + 1 :],
        )
        if any(word.rpartition("/")[2] == "isoruntime" for word in program):
            folder = root / action.text("path") / _folder(given)
            return Packed(folder, "--no-vendor" not in given)
    return None


def _words(action: Node) -> list[str]:
    try:
        return shlex.split(action.text("run"))
    except ValueError:
        # A quote that is open; the shell will tell.
        return []


def _folder(words: list[str]) -> str:
    """Return the folder among what the command is given."""
    before = ""
    for word in words:
        if not word.startswith("-") and before not in _TAKING_VALUES:
            return word
        before = word
    return "."
