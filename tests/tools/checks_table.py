"""Writes docs/checks.md from the kinds of findings that `isoruntime check` knows.

python -m tests.tools.checks_table
"""

from __future__ import annotations

from pathlib import Path

from isoruntime.project.finding import Kind
from isoruntime.project.review import kinds

PAGE = Path(__file__).parents[2] / "docs" / "checks.md"

_INTRODUCTION = """\
# What `isoruntime check` looks for

<!-- Made by `python -m tests.tools.checks_table`; a test compares. -->

    isoruntime check [DIR|s.yaml] [--json] [--strict] [--runtime ID]

It looks at a function as it lies on disk, runs nothing of it, and sends nothing anywhere.
A folder with an `s.yaml` (or `s.yml`, `s.json`) is judged by that: every resource with
`component: fc3`, and the folder that its `code` names, or that an action packs into it with
`isoruntime package`; what that mends or brings along is not complained of. A folder without one is judged as
`custom.debian12` at port 9000, or as `--runtime` says. YAML needs PyYAML:
`pip install 'isoruntime[yaml]'`. What only Serverless Devs can fill in (`${...}`) is not
judged; `${vars...}` and templates of the same file are filled in.

The exit code is 1 if there is an error. A warning is what may fail, or may not be as it
was meant; it changes the exit code with `--strict` only. The names below never change.
Code is read, never imported; where an interpreter of the image's version is on this
machine, it is asked to compile the code.
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([_INTRODUCTION, *map(_section, kinds())])


def _section(kind: Kind) -> str:
    lines = [
        f"## {kind.name}",
        "",
        f"{kind.severity.capitalize()}. {kind.cause}",
        "",
        f"Fix: {kind.fix}.",
        "",
    ]
    if kind.says:
        lines += [f"The platform says: `` {kind.says} ``", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
