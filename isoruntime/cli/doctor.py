"""isoruntime doctor: what this host keeps handlers from, and what to do about the rest.

Everything is tried with real processes (`zygote.rehearsal`), under both profiles, with
the settings that `serve` would have.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from isoruntime import __version__
from isoruntime.cli.isolation import (
    ENFORCED,
    MISSING,
    REQUIRED_BY_STRICT,
    UNUSED,
    Finding,
    are_isolated,
    filled_in,
    has_network,
    judge,
    lacking_for_standard,
    lacking_for_strict,
    rehearsal_of,
)
from isoruntime.cli.remedies import is_gvisor, read
from isoruntime.cli.text import BAD_USAGE, GREEN, YELLOW, coloured, complain
from isoruntime.errors import InvalidSettings
from isoruntime.sandbox import capabilities, identity, landlock, paths
from isoruntime.settings import DECLARED, read_settings
from isoruntime.typed import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

if TYPE_CHECKING:
    from isoruntime.settings import Settings
    from isoruntime.zygote.rehearsal import Rehearsal

#: Exit code: something that was required is missing.
_FINDINGS: Final = 1
_PROFILES: Final = ("standard", "strict")
#: Settings that decide what there is to be tried.
_TAKEN: Final = (
    *("code_dir", "sandbox", "network", "preload", "max_processes"),
    *("env", "allow_read", "allow_write"),
)
_COLOURS: Final = {ENFORCED: GREEN, MISSING: YELLOW}
_BETWEEN_INVOCATIONS: Final = (
    "invocations of one worker are not isolated from each other, except with --fresh"
)
_WIDEST: Final = 100
_NARROWEST: Final = 72

_USAGE: Final = """\
usage: isoruntime doctor [--require standard|strict] [--json] [OPTIONS]

Tries what this host can enforce, with real processes, and says what to do about the
rest. Exit code 1 if the profile after --require cannot be had in full.

  --require PROFILE  standard: in full; strict: able to start
  --json             one JSON object instead of the table
  --help             print this and exit

These mean what they mean to isoruntime serve, as do their variables:"""


class _Profile(NamedTuple):
    """What was found for one profile."""

    name: str
    rehearsal: Rehearsal
    findings: list[Finding]
    lacking: list[Finding]

    @property
    def verdict(self) -> str:
        """One sentence on all of it."""
        if self.name == "strict":
            if not self.lacking:
                return "available"
            return f"not available: {_named(self.lacking)}"
        return f"without {_named(self.lacking)}" if self.lacking else "in full"


class _Unreadable(Exception):
    """The words break the grammar of options."""


class _Parser(argparse.ArgumentParser):
    """A parser that leaves printing and exiting to the command."""

    def error(self, message: str) -> NoReturn:
        raise _Unreadable(message)


def main(argv: Sequence[str]) -> int:
    """Print what was found; 1 if what is required is missing, 2 for bad words."""
    if {"-h", "--help"} & set(argv):
        print("\n".join([_USAGE, *_options()]))
        return 0
    try:
        flags = vars(_parser().parse_args(list(argv)))
        required, as_json = flags.pop("require", None), flags.pop("json", False)
        settings = read_settings(flags, os.environ)
    except _Unreadable as error:
        complain([f"{error}: see isoruntime doctor --help"])
        return BAD_USAGE
    except InvalidSettings as error:
        complain(error.problems)
        return BAD_USAGE
    profiles = _examine(settings)
    facts = dict(_facts(settings))
    facts["temporary"] = _temporary(profiles[0].rehearsal)
    if as_json:
        print(json.dumps(_as_json(facts, profiles), indent=2))
    else:
        print("\n".join(_report(facts, profiles)))
    lacking = [one.lacking for one in profiles if one.name == required]
    return _FINDINGS if any(lacking) else 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS
    )
    parser.add_argument("--require", choices=_PROFILES)
    parser.add_argument("--json", action="store_true")
    for setting in DECLARED:
        if setting.name in _TAKEN:
            action = "append" if setting.is_list else "store"
            parser.add_argument(setting.flag, dest=setting.name, action=action)
    return parser


def _options() -> Iterator[str]:
    for setting in DECLARED:
        if setting.name in _TAKEN:
            usage = f"{setting.flag} {setting.metavar}"
            yield f"  {usage}  [{setting.variable}]"


def _examine(settings: Settings) -> list[_Profile]:
    seen = {
        name: rehearsal_of(settings, name, os.environ, with_memory=True)
        for name in _PROFILES
    }
    standard, strict = (
        judge(name, seen[name], has_network=has_network(settings, name))
        for name in _PROFILES
    )
    if seen["strict"].refused:
        strict = filled_in(strict, standard)
    return [
        _Profile(
            "standard", seen["standard"], standard, lacking_for_standard(standard)
        ),
        _Profile("strict", seen["strict"], strict, lacking_for_strict(strict)),
    ]


def _temporary(rehearsal: Rehearsal) -> str:
    if rehearsal.temp_parent:
        return f"{rehearsal.temp_parent}, a folder for each worker"
    return "no folder for them could be made: workers share /tmp"


def _facts(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield what is to be known about this host, by name."""
    system = os.uname()
    version = landlock.version()
    spoken = f"Landlock {version}" if version else f"no Landlock: {landlock.reason()}"
    yield "kernel", f"{system.sysname} {system.release} {system.machine}, {spoken}"
    yield "user", _user()
    yield "container", ", ".join(_container(os.environ)) or "no sign of one"
    yield "python", _python(settings)
    yield "code", _code(settings)


def _user() -> str:
    held = capabilities.held()
    if not held:
        return f"uid {os.geteuid()}, no capabilities"
    most = set(capabilities.names)
    lacking = sorted(most - held)
    text = f"uid {os.geteuid()}, {len(held)} capabilities"
    if held >= most:
        return f"uid {os.geteuid()}, all capabilities"
    shown = f"all but {', '.join(lacking)}"
    few = ", ".join(sorted(held))
    return f"{text}: {shown if len(lacking) < len(held) else few}"


def _container(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield every hint at what we may be running in."""
    if os.path.exists("/.dockerenv"):  # noqa: PTH110 - one look each, as elsewhere
        yield "Docker"
    if os.path.exists("/run/.containerenv"):  # noqa: PTH110
        yield "Podman"
    if environ.get("KUBERNETES_SERVICE_HOST"):
        yield "Kubernetes"
    if is_gvisor() and not landlock.version():
        yield "gVisor"
    if "Seccomp:\t2" in read("/proc/self/status"):
        yield "a system call filter is around us"


def _python(settings: Settings) -> str:
    text = f"{sys.version.split()[0]}, {sys.executable}"
    # Of interest only where workers could be somebody else.
    if identity.available():
        return text
    code_dir = str(settings.code_dir)
    problem = identity.reachable(paths.needed_by_all(code_dir))
    problem = problem or identity.unreadable_in(code_dir)
    return f"{text}; not for every user: {problem}" if problem else text


def _code(settings: Settings) -> str:
    code_dir = str(settings.code_dir)
    grants = paths.for_worker(code_dir, None, settings.allow_read, settings.allow_write)
    if not paths.code_is_writable(grants, code_dir):
        return code_dir
    return f"{code_dir}, which is below a folder that handlers may write to"


def _named(findings: Iterable[Finding]) -> str:
    return ", ".join(finding.mechanism.name for finding in findings)


def _as_json(facts: dict[str, str], profiles: list[_Profile]) -> dict[str, Any]:
    mechanisms = []
    for rows in zip(*(one.findings for one in profiles), strict=True):
        mechanism = rows[0].mechanism
        entry: dict[str, Any] = {
            "name": mechanism.name,
            "purpose": mechanism.purpose,
            "required_by_strict": mechanism.name in REQUIRED_BY_STRICT,
        }
        for profile, finding in zip(profiles, rows, strict=True):
            state = "unused" if finding.state == UNUSED else finding.state
            entry[profile.name] = {
                "state": state,
                "reason": finding.reason,
                "remedy": finding.remedy,
            }
        mechanisms.append(entry)
    return {
        "version": __version__,
        "host": facts,
        "mechanisms": mechanisms,
        "profiles": {
            one.name: {
                "verdict": one.verdict,
                "lacking": [finding.mechanism.name for finding in one.lacking],
                "workers_isolated": are_isolated(one.rehearsal),
            }
            for one in profiles
        },
    }


# The table.


def _report(facts: dict[str, str], profiles: list[_Profile]) -> Iterator[str]:
    width = min(_WIDEST, max(_NARROWEST, shutil.get_terminal_size().columns))
    yield f"isoruntime {__version__} on this host"
    yield ""
    for name, text in facts.items():
        yield from _wrapped(f"{name:11}", text, width)
    yield ""
    first = max(len(one.mechanism.name) for one in profiles[0].findings) + 2
    heads = "".join(f"{profile.name:10}" for profile in profiles)
    yield f"{'mechanism':{first}}{heads}".rstrip()
    for rows in zip(*(one.findings for one in profiles), strict=True):
        states = "".join(_coloured(finding.state) for finding in rows)
        yield f"{rows[0].mechanism.name:{first}}{states}{rows[0].mechanism.purpose}"
    yield from _remarks(profiles, width)
    yield ""
    for profile in profiles:
        yield from _wrapped(f"{profile.name:11}", profile.verdict, width)
    yield from _wrapped(f"{'workers':11}", _isolation(profiles), width)
    yield from _wrapped(f"{'':11}", _BETWEEN_INVOCATIONS, width)


def _remarks(profiles: list[_Profile], width: int) -> Iterator[str]:
    """Yield why something is missing and what to do, once however often it is."""
    by_reason: dict[str, list[Finding]] = {}
    for profile in profiles:
        for finding in profile.findings:
            if finding.state in (ENFORCED, UNUSED):
                continue
            alike = by_reason.setdefault(finding.reason, [])
            if finding.mechanism not in [one.mechanism for one in alike]:
                alike.append(finding)
    if by_reason:
        yield ""
    for reason, findings in by_reason.items():
        yield from _wrapped("", f"{_named(findings)}: {reason}", width)
        remedies = dict.fromkeys(one.remedy for one in findings if one.remedy)
        for text in remedies:
            yield from _wrapped("    -> ", text, width)


def _isolation(profiles: list[_Profile]) -> str:
    isolated = [one.name for one in profiles if are_isolated(one.rehearsal)]
    if not isolated:
        return "not isolated from each other"
    return f"isolated from each other under {' and '.join(isolated)}"


def _coloured(state: str) -> str:
    padded = f"{state:10}"
    if state not in _COLOURS:
        return padded
    return coloured(padded, _COLOURS[state], sys.stdout)


def _wrapped(label: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=label,
        subsequent_indent=" " * len(label) or "    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
