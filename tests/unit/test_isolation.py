"""Judging a rehearsal: what counts as enforced, what a profile lacks, what helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from isoruntime.cli import isolation, remedies
from isoruntime.cli.isolation import (
    ENFORCED,
    MECHANISMS,
    MISSING,
    REQUIRED_BY_STRICT,
    UNKNOWN,
    UNUSED,
    Finding,
    are_isolated,
    filled_in,
    judge,
    lacking_for_standard,
    lacking_for_strict,
)
from isoruntime.sandbox.walls import REQUIRED
from isoruntime.zygote.attempts import ATTEMPTS
from isoruntime.zygote.rehearsal import Rehearsal

#: Nothing got through. "eat" is the sibling's part, beside the table of attempts.
ALL_HELD = {name: ("held", "") for name in (*ATTEMPTS, "eat")}
REFUSED = "user namespaces refused: Operation not permitted"


def found(profile: str, rehearsal: Rehearsal) -> dict[str, Finding]:
    findings = judge(profile, rehearsal, has_network=False)
    return {finding.mechanism.name: finding for finding in findings}


def names(findings: list[Finding]) -> list[str]:
    return [finding.mechanism.name for finding in findings]


def test_every_attempt_speaks_for_a_mechanism() -> None:
    tried = {name for mechanism in MECHANISMS for name in mechanism.attempts}
    assert tried == ALL_HELD.keys()


def test_what_a_worker_must_not_be_without_is_required_at_the_start_too() -> None:
    assert set(REQUIRED_BY_STRICT) >= REQUIRED
    assert set(REQUIRED_BY_STRICT) <= {mechanism.name for mechanism in MECHANISMS}


@pytest.mark.parametrize("profile", ["standard", "strict"])
def test_where_every_attack_fails_nothing_is_lacking(profile: str) -> None:
    findings = judge(profile, Rehearsal({}, ALL_HELD), has_network=False)
    assert {finding.state for finding in findings} <= {ENFORCED, UNUSED}
    assert lacking_for_standard(findings) == []
    assert lacking_for_strict(findings) == []


def test_a_mechanism_that_was_skipped_is_missing_for_that_reason() -> None:
    rehearsal = Rehearsal({"seccomp": "no table of system calls for sparc"}, ALL_HELD)
    assert found("standard", rehearsal)["seccomp"][1:] == (
        MISSING,
        "no table of system calls for sparc",
    )


def test_a_mechanism_that_an_attack_gets_past_is_missing_whatever_the_walls_say() -> (
    None
):
    through = {"signal-a-sibling": ("through", "process 7 could be signalled")}
    rehearsal = Rehearsal({}, {**ALL_HELD, **through})
    finding = found("standard", rehearsal)["landlock-scopes"]
    assert finding[1:] == (MISSING, "process 7 could be signalled")
    assert not are_isolated(rehearsal)


def test_an_attack_that_could_not_be_made_proves_nothing() -> None:
    untried = {"change-the-code": ("untried", "no unnamed files")}
    rehearsal = Rehearsal({}, {**ALL_HELD, **untried})
    assert found("standard", rehearsal)["read-only-code"].state == UNKNOWN


def test_a_network_that_was_asked_for_is_no_finding() -> None:
    through = {"connect": ("through", "a server outside could be connected to")}
    rehearsal = Rehearsal({}, {**ALL_HELD, **through})
    findings = judge("strict", rehearsal, has_network=True)
    assert lacking_for_strict(findings) == []
    assert names(lacking_for_strict(judge("strict", rehearsal, has_network=False))) == [
        "network"
    ]


def test_without_namespaces_strict_lacks_what_hangs_on_them() -> None:
    strict = judge("strict", Rehearsal({}, {}, REFUSED), has_network=False)
    standard = judge(
        "standard",
        Rehearsal({"landlock": "the kernel has no Landlock"}, ALL_HELD),
        has_network=True,
    )
    assert names(lacking_for_strict(filled_in(strict, standard))) == [
        "landlock",
        "namespaces",
        "private-tmp",
    ]


def test_a_rehearsal_without_a_worker_leaves_strict_unavailable() -> None:
    rehearsal = Rehearsal({}, {}, "the rehearsal took longer than 10 s")
    lacking = lacking_for_strict(judge("strict", rehearsal, has_network=False))
    assert names(lacking) == list(REQUIRED_BY_STRICT)
    assert {finding.reason for finding in lacking} == {rehearsal.refused}


@pytest.mark.parametrize(
    ("skipped", "lacking"),
    [
        pytest.param([], [], id="nothing is skipped"),
        pytest.param(["uid"], [], id="Landlock makes up for a user of its own"),
        pytest.param(
            ["uid", "landlock"], ["landlock-scopes", "landlock"], id="neither"
        ),
        pytest.param(["cgroup", "rlimits", "private-tmp"], [], id="extras"),
        pytest.param(["seccomp"], ["seccomp"], id="no filter"),
        pytest.param(["no-new-privileges"], ["no-new-privileges"], id="privileges"),
    ],
)
def test_standard_is_whole_as_the_threat_model_says(
    skipped: list[str], lacking: list[str]
) -> None:
    rehearsal = Rehearsal(dict.fromkeys(skipped, "for some reason"), ALL_HELD)
    findings = judge("standard", rehearsal, has_network=True)
    assert names(lacking_for_standard(findings)) == lacking


@pytest.mark.parametrize(
    ("mechanism", "reason", "files", "helps"),
    [
        ("landlock", "Landlock is switched off at boot (lsm=)", {}, "lsm="),
        ("landlock-scopes", "the kernel is older than 6.12", {}, "6.12"),
        ("uid", "CAP_SETUID is missing", {}, "--cap-add"),
        ("uid", "/x cannot be entered by other users", {}, "every user may read"),
        (
            "namespaces",
            REFUSED,
            {"/proc/sys/kernel/unprivileged_userns_clone": "0"},
            "sysctl kernel.unprivileged_userns_clone=1",
        ),
        (
            "namespaces",
            "user namespaces refused: ids cannot be mapped: Operation not permitted",
            {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"},
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "namespaces",
            "user namespaces refused: No space left on device",
            {"/proc/sys/user/max_user_namespaces": "0"},
            "sysctl user.max_user_namespaces=15000",
        ),
        (
            "namespaces",
            REFUSED,
            {"/proc/self/status": "Name:\tx\nSeccomp:\t2\n"},
            "seccomp=unconfined",
        ),
        ("proc", "/proc shows the processes outside", {}, "procMount: Unmasked"),
        ("cgroup", "the groups are mounted read-only", {}, "Delegate=yes"),
    ],
)
def test_a_remedy_fits_the_reason(
    mechanism: str, reason: str, files: dict[str, str], helps: str
) -> None:
    text = remedies.remedy(mechanism, reason, lambda path: files.get(path, ""))
    assert helps in text
    assert "\n" not in text


def test_what_is_enforced_needs_no_remedy() -> None:
    for mechanism in isolation.MECHANISMS:
        assert Finding(mechanism, ENFORCED).remedy == ""


def test_the_documentation_lists_every_mechanism_there_is() -> None:
    page = Path(__file__).parents[2] / "docs" / "sandbox.md"
    _, _, table = page.read_text().partition("## Mechanisms")
    rows = [line.split(" | ")[:2] for line in table.splitlines() if "|" in line]
    assert rows[2:] == [[f"| {one.name}", one.purpose] for one in MECHANISMS]
