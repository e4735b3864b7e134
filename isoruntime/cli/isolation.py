"""What this host keeps of the sandbox: the mechanisms, and a judgement of each.

Judged is what a rehearsal saw (`zygote.rehearsal`). A mechanism is *enforced* if the
walls put it up and the attack on it failed, *missing* if either is not so, *unknown* if
nothing could be tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from isoruntime.cli.remedies import remedy
from isoruntime.environment import environment_for_workers
from isoruntime.sandbox.paths import temp_parents
from isoruntime.typed import TYPE_CHECKING, Final, NamedTuple
from isoruntime.wire.order import LoadOrder
from isoruntime.zygote.attempts import HANDLER
from isoruntime.zygote.rehearsal import Rehearsal, rehearse

if TYPE_CHECKING:
    from isoruntime.settings import Settings

ENFORCED: Final = "enforced"
MISSING: Final = "missing"
UNKNOWN: Final = "unknown"
#: Not a part of that profile, or not asked for.
UNUSED: Final = "-"

_BOTH: Final = ("standard", "strict")
_STRICT: Final = ("strict",)


class Mechanism(NamedTuple):
    """One thing that keeps a handler inside."""

    name: str
    #: what it keeps handlers from, or neighbours safe from
    purpose: str
    #: the attempts that must fail
    attempts: tuple[str, ...]
    profiles: tuple[str, ...] = _BOTH
    #: under which names the walls say that it was skipped, besides its own
    told_as: tuple[str, ...] = ()


#: In the order in which they are shown.
MECHANISMS: Final = (
    Mechanism(
        "no-new-privileges",
        "no program gives a handler more rights than it has",
        ("gain-privileges",),
    ),
    Mechanism(
        "capabilities",
        "handlers have none of root's powers",
        ("use-capabilities",),
    ),
    Mechanism(
        "uid",
        "handlers run as another user than the runtime",
        ("be-the-same-user",),
    ),
    Mechanism(
        "non-dumpable",
        "nobody looks into front end, zygote or other workers",
        ("look-into-the-runtime", "look-into-a-sibling"),
    ),
    Mechanism(
        "landlock",
        "files: the system's, the code's and their own only",
        ("read-outside",),
    ),
    Mechanism(
        "landlock-scopes",
        "no signals to others, no abstract sockets of others",
        ("signal-the-runtime", "signal-a-sibling", "connect-by-name"),
        told_as=("landlock",),
    ),
    Mechanism(
        "seccomp",
        "no dangerous system calls",
        ("make-forbidden-calls",),
    ),
    Mechanism(
        "rlimits",
        "no endless files, descriptors, core dumps",
        ("raise-limits",),
    ),
    Mechanism(
        "namespaces",
        "a cell per worker: its own processes, mounts and IPC",
        ("share-namespaces",),
        _STRICT,
    ),
    Mechanism(
        "proc",
        "handlers see no processes but their own",
        ("see-processes",),
        _STRICT,
        ("namespaces",),
    ),
    Mechanism(
        "private-tmp",
        "the worker's own /tmp, /var/tmp and /dev/shm",
        ("find-files-in-tmp",),
        told_as=("namespaces",),
    ),
    Mechanism(
        "temporary-files",
        "TMPDIR is the worker's own",
        ("take-the-bait",),
    ),
    Mechanism(
        "read-only-code",
        "no invocation changes the code of the next one",
        ("change-the-code",),
    ),
    Mechanism(
        "network",
        "no network",
        ("connect",),
    ),
    Mechanism(
        "descriptors",
        "nothing of the runtime's is open in a worker",
        ("find-descriptors",),
    ),
    Mechanism(
        "subreaper",
        "what a handler starts is found when it is left behind",
        ("orphan",),
    ),
    Mechanism(
        "parent-death",
        "no worker outlives its zygote",
        ("outlive-the-parent",),
    ),
    Mechanism(
        "memory-limit",
        "a worker that takes more than it may is ended",
        ("eat",),
    ),
    Mechanism(
        "cgroup",
        "limits are the kernel's own, and hold to the page",
        ("be-ungrouped",),
    ),
)
_BY_NAME: Final = {mechanism.name: mechanism for mechanism in MECHANISMS}

#: What strict promises. Without any of these it does not start.
REQUIRED_BY_STRICT: Final = (
    "no-new-privileges",
    "capabilities",
    "landlock",
    "seccomp",
    "namespaces",
    "private-tmp",
    "network",
)
#: What makes standard whole: of each line one at least.
_WHOLE: Final = (
    ("no-new-privileges",),
    ("seccomp",),
    ("non-dumpable",),
    ("landlock-scopes",),
    ("landlock", "uid"),
    ("subreaper",),
)
#: Attacks of one worker on another; that any of them works means: not isolated.
_ON_SIBLINGS: Final = ("signal-a-sibling", "look-into-a-sibling", "take-the-bait")


class Finding(NamedTuple):
    """What became of one mechanism under one profile."""

    mechanism: Mechanism
    state: str
    #: why it is missing or unknown
    reason: str = ""

    @property
    def remedy(self) -> str:
        """What to do about it; empty where nothing is amiss, or nothing helps."""
        if self.state != MISSING:
            return ""
        return remedy(self.mechanism.name, self.reason)


def rehearsal_of(
    settings: Settings,
    profile: str,
    environ: Mapping[str, str],
    *,
    with_memory: bool = False,
) -> Rehearsal:
    """Rehearse a profile as these settings have it."""
    environment, _ = environment_for_workers(environ, settings.env, settings.on_fc)
    order = LoadOrder(
        handler=HANDLER,
        code_dir=str(settings.code_dir),
        environment={},
        preload=profile != "strict" or settings.preload == "always",
        max_processes=settings.max_processes,
        sandbox=profile,
        has_network=has_network(settings, profile),
        allow_read=list(settings.allow_read),
        allow_write=list(settings.allow_write),
    )
    return rehearse(order, environment, temp_parents(environ), with_memory=with_memory)


def has_network(settings: Settings, profile: str) -> bool:
    """Tell whether handlers reach the network under a profile.

    What was set counts; the default differs from one profile to the other.
    """
    if settings.source("network") == "default":
        return profile != "strict"
    return str(settings.network) == "host"


def judge(profile: str, rehearsal: Rehearsal, *, has_network: bool) -> list[Finding]:
    """Return a finding for every mechanism, in the order of `MECHANISMS`."""
    return [
        _judge(mechanism, rehearsal)
        if profile in mechanism.profiles
        and not (mechanism.name == "network" and has_network)
        else Finding(mechanism, UNUSED)
        for mechanism in MECHANISMS
    ]


def _judge(mechanism: Mechanism, rehearsal: Rehearsal) -> Finding:
    for name in (mechanism.name, *mechanism.told_as):
        if name in rehearsal.skipped:
            return Finding(mechanism, MISSING, rehearsal.skipped[name])
    if rehearsal.refused:
        is_cells = "namespaces" in (mechanism.name, *mechanism.told_as)
        is_why = is_cells and "namespaces refused" in rehearsal.refused
        return Finding(mechanism, MISSING if is_why else UNKNOWN, rehearsal.refused)
    ends = [rehearsal.attempts.get(name, ("", "")) for name in mechanism.attempts]
    through = [text for end, text in ends if end == "through"]
    if through:
        return Finding(mechanism, MISSING, "; ".join(through))
    untried = [text for end, text in ends if end != "held"]
    if untried:
        return Finding(mechanism, UNKNOWN, untried[0] or "it was not tried")
    return Finding(mechanism, ENFORCED)


def lacking_for_standard(findings: Iterable[Finding]) -> list[Finding]:
    """Return what keeps standard from being in full, nothing if it is."""
    found = {finding.mechanism.name: finding for finding in findings}
    return [
        found[names[0]]
        for names in _WHOLE
        if all(found[name].state != ENFORCED for name in names)
    ]


def lacking_for_strict(findings: Iterable[Finding]) -> list[Finding]:
    """Return what strict must have and has not; nothing if it can start.

    What could not be tried is among it only where nothing is known to be missing.
    """
    lacking = [
        finding
        for finding in findings
        if finding.mechanism.name in REQUIRED_BY_STRICT
        and finding.state not in (ENFORCED, UNUSED)
    ]
    return [one for one in lacking if one.state == MISSING] or lacking


def filled_in(strict: Iterable[Finding], standard: Iterable[Finding]) -> list[Finding]:
    """Return the findings on strict with what standard shows where strict had no worker.

    The walls of both are the same mechanisms, and those of standard refuse no worker.
    """
    return [
        theirs if ours.state == UNKNOWN and _is_the_same(theirs) else ours
        for ours, theirs in zip(strict, standard, strict=True)
    ]


def _is_the_same(finding: Finding) -> bool:
    return finding.state != UNUSED and "namespaces" not in finding.mechanism.told_as


def are_isolated(rehearsal: Rehearsal) -> bool:
    """Tell whether one worker could do nothing to another."""
    return not rehearsal.refused and all(
        rehearsal.attempts.get(name, ("",))[0] == "held" for name in _ON_SIBLINGS
    )


def broken_promises(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """Return why these settings cannot be kept here, each in a line; nothing if they can.

    `strict` promises everything it requires, `--network none` that there is no network.
    """
    profile = str(settings.sandbox)
    if profile == "off":
        if settings.network == "host":
            return []
        return [
            "--network none cannot be kept: nothing keeps handlers from the network "
            "under --sandbox off: give --sandbox standard or strict"
        ]
    networked = has_network(settings, profile)
    rehearsal = rehearsal_of(settings, profile, environ)
    findings = judge(profile, rehearsal, has_network=networked)
    if profile == "standard":
        words = "--network none"
        lacking = _lacking_without_network(findings)
    else:
        words = "--sandbox strict"
        if rehearsal.refused:
            shown = rehearsal_of(settings, "standard", environ)
            findings = filled_in(findings, judge("standard", shown, has_network=True))
        lacking = lacking_for_strict(findings)
    return [_promise(words, finding) for finding in _once(lacking)]


def _lacking_without_network(findings: Iterable[Finding]) -> list[Finding]:
    found = {finding.mechanism.name: finding for finding in findings}
    seccomp, network = found["seccomp"], found["network"]
    # Landlock alone denies TCP and lets everything else pass.
    return [one for one in (seccomp, network) if one.state != ENFORCED]


def _once(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out what is missing for a reason that was given before."""
    by_reason: dict[str, Finding] = {}
    for finding in findings:
        by_reason.setdefault(finding.reason, finding)
    return list(by_reason.values())


def _promise(words: str, finding: Finding) -> str:
    line = f"{words} cannot be kept: {finding.mechanism.name}: {finding.reason}"
    return f"{line}: {finding.remedy}" if finding.remedy else line
