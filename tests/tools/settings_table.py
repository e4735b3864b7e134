"""Writes docs/settings.md from the declarations of the settings.

python -m tests.tools.settings_table
"""

from __future__ import annotations

from pathlib import Path

from isoruntime.settings import DECLARED, GROUPS, Setting

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

_INTRODUCTION = """\
# Settings

<!-- Made by `python -m tests.tools.settings_table`; a test compares. -->

Every setting has a flag of `isoruntime serve` (and of `./bootstrap`) and a variable.
What counts is the flag, else the variable, else what Function Compute sets, else the
default. An empty variable counts as not set. A bad value of the platform's is passed
over; every other problem is listed, one a line on stderr, and nothing is started: exit 2.
"""

_CLOSING = """\
`--fresh` is short for `--max-invocations 1`. MB are 1024 x 1024 bytes, durations are
seconds and may have a fraction.

On FC means: `FC_INSTANCE_ID`, `FC_FUNCTION_NAME` or `FC_ACCOUNT_ID` is set. There a
worker's memory is that of the function less a reserve for the front end: a quarter, at
most 64 MB, and a worker never has less than 64 MB.

## What workers see of the environment

| variables | |
|---|---|
| `ISORUNTIME_*` | never |
| `ALIBABA_CLOUD_ACCESS_KEY_ID`, `ALIBABA_CLOUD_ACCESS_KEY_SECRET`, \
`ALIBABA_CLOUD_SECURITY_TOKEN`, `accessKeyID`, `accessKeySecret`, `securityToken` \
| never; a handler has those of its invocation in `context.credentials` |
| `FC_*`, `_FC_*` | those a handler of the built-in runtime sees, and what `--env` names |
| names that look like a credential (`SECRET`, `TOKEN`, `PASSWORD`, `API_KEY` ...) \
| on FC yes, they are the function's own; elsewhere only what `--env` names |
| all others | yes |
"""


def page() -> str:
    """Return the whole page."""
    parts = [_INTRODUCTION]
    for group in GROUPS:
        settings = [setting for setting in DECLARED if setting.group == group]
        if settings:
            parts.append(_section(group, settings))
    return "\n".join([*parts, _CLOSING])


def _section(group: str, settings: list[Setting]) -> str:
    rows = [
        f"## {group.capitalize()}",
        "",
        "| flag | variable | FC source | default | meaning |",
        "|---|---|---|---|---|",
        *(_row(setting) for setting in settings),
    ]
    return "\n".join(rows) + "\n"


def _row(setting: Setting) -> str:
    has_value = setting.flag.startswith("--") and not setting.is_switch
    flag = f"{setting.flag} {setting.metavar}" if has_value else setting.flag
    platform = [*setting.fc, *([f"header {setting.header}"] if setting.header else [])]
    cells = (
        f"`{flag}`",
        f"`{setting.variable}`",
        ", then ".join(f"`{name}`" for name in platform) or "-",
        setting.default_text,
        setting.doc,
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
