"""Writes docs/threat-model.md from the table of attacks.

python -m tests.sandbox.page
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from tests.sandbox.levels import LEVELS
from tests.sandbox.table import ATTACKS, CONVERSATION, PROFILES, Attack

PAGE = Path(__file__).parents[2] / "docs" / "threat-model.md"

_INTRODUCTION = """\
# Threat model

<!-- Made by `python -m tests.sandbox.page`; a test compares. -->

Every attack below is a function in `tests/handlers/attacks` that runs for real: against a running runtime, beside
another invocation, at each of the privilege levels, under each profile. The test looks at what has become of the
others (whether they live, what they answer, what is in their files, which secrets came out), not at what the attack
believes. Most are also run without a sandbox, to see that they do harm there.

## Whom we trust

- **The operator**, who starts the runtime, and the settings and variables given to it.
- **Callers**, as far as the platform lets them in: whoever reaches the port may invoke the function. They are not
  trusted with each other's events and answers.
- **The front end**, the zygote until it imports the handler, and the keepers of cells: our own code.
- **Not** the handler, its packages, what they run at import, the programs they start, nor anything a worker says.

## What is promised

- **off**: a handler that crashes, hangs or eats harms nobody else. One that means harm can do whatever the user of the runtime can.
- **standard**: a handler does not get at the front end, the zygote and the other workers, their memory, secrets and
  temporary files, nor at files that are neither the system's nor the function's; it does not change its own code, and
  gains no rights. It shares `/tmp` and the network with the other workers of its function.
- **strict**: the same, and each worker has processes, mounts, shared memory, `/tmp` and network of its own.
- **With `--fresh`**: what one invocation leaves in memory does not reach the next one. **Without it there is no boundary between
  the invocations of one worker**, under any profile: a handler that one caller has taken over answers for the next
  caller, with that one's event and credentials in its hands.

It is not a substitute for a microVM between tenants. All workers share one kernel; whoever finds a fault in that is
outside. Nothing here is against side channels (caches, timing), nor against a host that lends its devices or its
container socket to the function.

Where a mechanism is missing on a host, `isoruntime doctor` says so, and what to do: [sandbox.md](sandbox.md).
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([_INTRODUCTION, _levels(), *_tables(), _not_stopped()])


def _levels() -> str:
    rows = ["## Privilege levels", "", "| level | the runtime is | profiles |"]
    rows.append("|---|---|---|")
    for level in LEVELS.values():
        strict = "standard, strict" if level.has_strict else "standard"
        rows.append(f"| {level.name} | {level.meaning} | {strict} |")
    return "\n".join([*rows, ""])


_LEGEND = """\
## Attacks

Under which profiles an attack fails:

- **both**: standard and strict
- **standard**: where strict does not start, for want of namespaces
- **strict**: under strict alone; under standard it succeeds
- **none**: it succeeds

"""


def _tables() -> list[str]:
    parts = [_LEGEND.rstrip("\n") + "\n"]
    rows = [*ATTACKS, *CONVERSATION]
    for subject, attacks in groupby(rows, lambda one: one.subject):
        lines = [f"### {subject}", ""]
        lines.append(f"| attack | tries to | {' | '.join(LEVELS)} |")
        lines.append("|---|---|" + "---|" * len(LEVELS))
        for attack in attacks:
            cells = [_verdict(attack, level) for level in LEVELS]
            lines.append(f"| `{attack.name}` | {attack.tries} | {' | '.join(cells)} |")
        parts.append("\n".join([*lines, ""]))
    return parts


def _profiles(level: str) -> Sequence[str]:
    return PROFILES if LEVELS[level].has_strict else PROFILES[:1]


def _verdict(attack: Attack, level: str) -> str:
    held = [one for one in _profiles(level) if not attack.why_open(one, level)]
    if len(held) == len(PROFILES):
        return "both"
    return f"**{held[0]}**" if held == ["strict"] else (held[0] if held else "**none**")


def _not_stopped() -> str:
    """Return every reason with the attacks that succeed for it."""
    by_reason: dict[str, dict[str, list[str]]] = {}
    for attack in (*ATTACKS, *CONVERSATION):
        for profile in PROFILES:
            for level in LEVELS:
                why = attack.why_open(profile, level)
                if why and profile in _profiles(level):
                    cells = by_reason.setdefault(why, {})
                    cells.setdefault(attack.name, []).append(f"{profile} {level}")
    lines = ["## Not stopped", ""]
    for why, attacks in by_reason.items():
        names = ", ".join(f"`{name}`" for name in attacks)
        (where, *others) = {_named(one) for one in attacks.values()}
        assert not others, f"one reason, several places: {why}"
        lines.append(f"- {names} ({where}): {why}.")
    return "\n".join([*lines, ""])


def _named(cells: list[str]) -> str:
    found = []
    for profile in PROFILES:
        levels = [one.split(" ", 1)[1] for one in cells if one.startswith(profile)]
        possible = [one for one in LEVELS if profile in _profiles(one)]
        if levels == possible:
            found.append(f"{profile} everywhere")
        elif levels:
            found.append(f"{profile} as {', '.join(levels)}")
    return "; ".join(found)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
