"""Where our groups are, what their files say, and in which order limits are set."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from isoruntime.zygote.groups import Groups, Own, find, taken_kb

MB = 1 << 20


def v1(controllers: str, root: str = "/", point: str = "") -> str:
    point = point or f"/sys/fs/cgroup/{controllers}"
    return f"32 31 0:32 {root} {point} rw,relatime - cgroup cgroup rw,{controllers}\n"


def v2(root: str = "/", point: str = "/sys/fs/cgroup") -> str:
    return f"30 23 0:28 {root} {point} rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"


OTHERS = (
    "23 1 254:0 / / rw,relatime - ext4 /dev/root rw\n"
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
)


@pytest.mark.parametrize(
    ("cgroups", "mounts", "own"),
    [
        pytest.param(
            "9:name=systemd:/\n8:pids:/\n4:memory:/a/b\n1:cpu:/\n0::/\n",
            v1("cpu") + v1("memory") + v1("pids") + v2(point="/sys/fs/cgroup/unified"),
            Own(1, "/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/pids"),
            id="hybrid, the controllers in version 1",
        ),
        pytest.param(
            "0::/user.slice/app.scope\n",
            v2(),
            Own(2, *["/sys/fs/cgroup/user.slice/app.scope"] * 2),
            id="version 2",
        ),
        pytest.param(
            "0::/\n",
            v2(),
            Own(2, "/sys/fs/cgroup", "/sys/fs/cgroup"),
            id="version 2 in a namespace of its own",
        ),
        pytest.param(
            "5:pids,memory:/x\n",
            v1("memory,pids"),
            Own(1, *["/sys/fs/cgroup/memory,pids/x"] * 2),
            id="both in one hierarchy",
        ),
        pytest.param(
            "4:memory:/docker/abc/sub\n",
            v1("memory", root="/docker/abc", point="/cg"),
            Own(1, "/cg/sub", ""),
            id="a mount that begins further down, and no processes to count",
        ),
        pytest.param(
            "4:memory:/x\n8:pids:/y\n0::/\n",
            v1("pids") + v2(),
            Own(1, "", "/sys/fs/cgroup/pids/y"),
            id="memory mounted nowhere, and not in version 2 either",
        ),
        pytest.param(
            "0::/a:b c\n",
            v2(point="/my\\040groups"),
            Own(2, "/my groups/a:b c", "/my groups/a:b c"),
            id="names with colons and spaces",
        ),
        pytest.param(
            "4:memory:/docker/abcdef\n",
            v1("memory", root="/docker/abc"),
            None,
            id="a mount that shows a neighbour only",
        ),
        pytest.param("4:memory:/\n0::/\n", "", None, id="nothing mounted"),
        pytest.param("", v2(), None, id="a kernel without groups"),
    ],
)
def test_our_own_groups_are_found(cgroups: str, mounts: str, own: Own | None) -> None:
    assert find(cgroups, OTHERS + mounts) == own


@pytest.mark.parametrize(
    ("events", "peak", "taken"),
    [
        pytest.param("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", 64 * MB, 0),
        pytest.param("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", 64 * MB, 65536),
        pytest.param("oom_kill 2\n", 64 * MB - 8192, 65536),
        pytest.param("oom_kill 1\n", 40 * MB, 0, id="the host was short of memory"),
        pytest.param("max 9\noom 1\noom_kill 1\n", "", 65536, id="no peak is kept"),
        pytest.param("max 0\noom 0\noom_kill 1\n", 64 * MB, 0, id="a group above"),
        pytest.param("max 9\noom 1\noom_kill 0\n", 64 * MB, 0),
        pytest.param("", "", 0, id="the group is gone"),
    ],
)
def test_a_kill_counts_if_it_was_for_the_own_limit(
    events: str, peak: object, taken: int
) -> None:
    assert taken_kb(events, f"{peak}", 64 * MB) == taken


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (None, "no controller"),
        (Own(1, "", ""), "no controller"),
        (Own(1, "/nowhere", ""), "/nowhere"),
        (Own(2, "/nowhere", "/nowhere"), "/nowhere"),
    ],
)
def test_without_groups_there_is_a_reason_and_no_harm(
    own: Own | None, reason: str
) -> None:
    made = Groups(os.getpid(), 64, 64)
    if own is None:
        made._open(None)
    else:
        made.open(own)
    assert reason in made.reason
    made.take(1)
    assert made.memory_taken_kb(1) == 0
    made.give_back(1, was_killed=True, was_alone=False)
    made.tidy()
    made.close()


def test_without_limits_there_are_no_groups(tmp_path: Path) -> None:
    made = Groups(os.getpid(), 0, 0)
    made.open(Own(1, str(tmp_path), str(tmp_path)))
    assert made.reason
    assert list(tmp_path.iterdir()) == []


_opened: list[Path] = []
_hooks: list[bool] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _hooks and isinstance(arguments[0], str):
        _opened.append(Path(arguments[0]))


@pytest.fixture
def opened() -> Iterator[list[Path]]:
    """Return the files opened from now on, in order."""
    # There is no way to take a hook back, so it is told when to be quiet.
    sys.addaudithook(_note)
    _opened.clear()
    _hooks.append(True)
    yield _opened
    _hooks.clear()


def test_version_2_is_told_all_limits_before_anybody_enters(
    tmp_path: Path, opened: list[Path]
) -> None:
    files = ["memory.oom.group", "memory.swap.max", "memory.max", "pids.max"]
    files.append("cgroup.procs")
    group = tmp_path / "1"
    group.mkdir()
    for name in files:
        (group / name).write_text("-")
    made = Groups(os.getpid(), 64, 32)
    made._version = 2
    made._homes.append(str(tmp_path))
    made._limit_memory(str(tmp_path))
    made._limits.append((str(tmp_path), "pids.max", b"32"))
    opened.clear()
    for entrance in made.open_entrances(made.take(7)):
        os.write(entrance, b"0")
        os.close(entrance)
    assert [path.name for path in opened if path.parent == group] == files
    texts = [(group / name).read_text() for name in files]
    assert texts == ["1", "0", f"{64 * MB}", "32", "0"]
