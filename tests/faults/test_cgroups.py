"""What the kernel's own limits do for a worker, and that no group of ours stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from isoruntime.zygote.groups import Groups, Own, find
from tests.support.calls import Calls
from tests.support.server import PROJECT, Serve, Server
from tests.waiting import wait_until

LIMIT_MB = 64
#: With the worker itself.
MAX_PROCESSES = 24

HANDLER = '''
import errno, os, signal, subprocess, sys, threading, time

MB = 1 << 20
EAT = f"import time; x = b'm' * (300 << 20); time.sleep(10)"

def leap():
    return len(b"m" * (300 * MB))

def memory_file():
    """Written, never mapped: no process has it as its own."""
    fd = os.memfd_create("eaten")
    for _ in range(300):
        os.write(fd, b"m" * MB)

def forgiven_child():
    """The child's death is hidden, and the handler answers at once."""
    subprocess.run([sys.executable, "-c", EAT], check=False)
    return "all is well"

def bomb():
    """Fork until it is refused, 200 times at most; return how it went."""
    end = time.monotonic() + 10
    for number in range(200):
        try:
            pid = os.fork()
        except OSError as error:
            return f"{errno.errorcode[error.errno]} {number}"
        if pid == 0:
            while time.monotonic() < end:
                time.sleep(0.1)
            os._exit(0)
    return "never"

def threads():
    end = threading.Event()
    started = []
    try:
        for _ in range(200):
            one = threading.Thread(target=end.wait)
            one.start()
            started.append(one)
    except RuntimeError:
        return f"refused {len(started)}"
    finally:
        end.set()
        for one in started:
            one.join()

def leave_in_memory():
    """Leave a file in memory that outlives the worker."""
    with open(f"/dev/shm/{os.environ['KEPT']}-{os.getpid()}", "wb") as file:
        file.write(b"m" * (24 * MB))
    return "left"

def own_sigkill():
    os.kill(os.getpid(), signal.SIGKILL)

def groups():
    with open("/proc/self/cgroup") as file:
        return file.read()

def until(path):
    print("waiting", flush=True)
    while not os.path.exists(path):
        time.sleep(0.005)
    return "done"

def handler(event, context):
    way, *details = event.decode().split()
    return globals()[way](*details)
'''


@pytest.fixture(scope="module")
def own() -> Own:
    """Return the groups we are in, and the servers we start, if we may add to them."""
    probe = Groups(os.getpid(), LIMIT_MB, MAX_PROCESSES)
    probe.open()
    reason = probe.reason
    probe.close()
    if reason:
        pytest.skip(f"no groups can be made here: {reason}")
    found = find(
        Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text()
    )
    assert found is not None
    if not found.memory or not found.pids:
        pytest.skip(f"not both controllers: {found}")
    return found


@pytest.fixture
def start(own: Own, serve: Serve, code_dir: Path) -> Serve:
    (code_dir / "eats.py").write_text(HANDLER)
    limits = ("--memory", str(LIMIT_MB), "--max-processes", str(MAX_PROCESSES))

    def started(*options: str, **more: object) -> Server:
        return serve("eats.handler", *limits, *options, code_dir=code_dir, **more)

    return started


def groups_of(own: Own, front_end: int) -> list[Path]:
    """Return the groups of a front end's workers, and those that hold them."""
    return [
        path
        for folder in {own.memory, own.pids}
        for home in Path(folder).glob(f"isoruntime-{front_end}-*")
        for path in (home, *(one for one in home.glob("*") if one.is_dir()))
    ]


def wait_until_gone(own: Own, front_end: int) -> None:
    wait_until(
        lambda: not groups_of(own, front_end),
        2,
        f"an end of {groups_of(own, front_end)}",
    )


def test_a_worker_is_in_groups_of_its_own(start: Serve, own: Own) -> None:
    server = start()
    text = server.invoke("groups").body.decode()
    home = f"isoruntime-{server.front_end.pid}-"
    mine = [line for line in text.splitlines() if home in line]
    assert len(mine) == len({own.memory, own.pids})
    # The zygote, which serves all of them, is in none.
    zygote_in = Path(f"/proc/{server.zygote.pid}/cgroup").read_text()
    assert zygote_in == Path("/proc/self/cgroup").read_text()


@pytest.mark.parametrize("way", ["leap", "memory_file", "forgiven_child"])
def test_who_takes_too_much_memory_dies_of_it_alone(
    start: Serve, gate: Path, way: str
) -> None:
    server = start("--max-workers", "2")
    neighbour = Calls(server)
    neighbour.start(1, f"until {gate}")
    server.wait_for_line("waiting")
    reply = server.invoke(way)
    assert server.invoke("groups").status == 200
    assert not neighbour.replies
    gate.touch()
    (answered,) = neighbour.finish()
    assert answered.body == b"done"
    failure = reply.json()
    assert failure["errorType"] == "FunctionOOMError", failure
    assert failure["details"]["signal"] == "SIGKILL"
    # The limit is what it was stopped by, so it never had more than that, but where
    # the watchdog's sample was first.
    assert "it was killed when it used " in failure["errorMessage"]
    assert f"its memory limit is {LIMIT_MB}MB (--memory)" in failure["errorMessage"]
    used_mb = failure["details"]["maxMemoryMB"]
    assert LIMIT_MB <= used_mb < LIMIT_MB + 16
    assert failure["details"]["memoryLimitMB"] == LIMIT_MB


def test_other_deaths_are_not_taken_for_a_want_of_memory(start: Serve) -> None:
    server = start("--max-workers", "1")
    assert server.invoke("forgiven_child").error_type == "FunctionOOMError"
    # Were it in the group of the last one, it would be blamed for what it did not do.
    assert server.invoke("own_sigkill").error_type == "ProcessExitedError"
    assert server.invoke("groups").status == 200


def test_a_fork_over_the_limit_fails_and_can_be_handled(start: Serve) -> None:
    server = start("--max-workers", "1")
    # The first one is the worker itself.
    assert server.invoke("bomb").body == b"EAGAIN %d" % (MAX_PROCESSES - 1)
    assert server.invoke("groups").status == 200


def test_a_thread_over_the_limit_fails_and_can_be_handled(start: Serve) -> None:
    server = start()
    assert server.invoke("threads").body == b"refused %d" % (MAX_PROCESSES - 1)


def test_a_group_serves_one_worker_after_the_other(start: Serve, own: Own) -> None:
    server = start("--fresh", "--max-workers", "2")
    for _ in range(20):
        assert server.invoke("groups").status == 200
    # They are numbered as they are made: some for the workers there are, some for
    # those that are still saying goodbye.
    groups = groups_of(own, server.front_end.pid)
    assert max(int(one.name) for one in groups if one.name.isdigit()) <= 10


def test_no_worker_pays_for_what_another_left_in_memory(
    start: Serve, tmp_path: Path
) -> None:
    mark = f"kept-{os.getpid()}-{tmp_path.name}"
    server = start("--fresh", "--max-workers", "1", "--env", "KEPT", env={"KEPT": mark})
    try:
        # Three times that would be over the limit of any one of them.
        for _ in range(6):
            assert server.invoke("leave_in_memory").body == b"left"
    finally:
        for left in Path("/dev/shm").glob(f"{mark}-*"):
            left.unlink()


def test_no_group_is_left_after_a_stop(start: Serve, own: Own) -> None:
    server = start()
    assert server.invoke("bomb").status == 200
    front_end = server.front_end.pid
    assert groups_of(own, front_end)
    server.stop()
    assert groups_of(own, front_end) == []


def test_no_group_of_a_killed_zygote_is_left(start: Serve, own: Own) -> None:
    server = start()
    assert server.invoke("groups").status == 200
    front_end, zygote = server.front_end.pid, server.zygote
    before = set(groups_of(own, front_end))
    zygote.kill()
    wait_until(
        lambda: any(one.pid != zygote.pid for one in server.zygotes), 5, "another one"
    )
    assert server.invoke("groups").status == 200
    wait_until(lambda: not before & set(groups_of(own, front_end)), 2, "their end")
    server.stop()
    assert groups_of(own, front_end) == []


def test_no_group_of_a_killed_front_end_is_left(start: Serve, own: Own) -> None:
    server = start()
    assert server.invoke("groups").status == 200
    front_end = server.front_end.pid
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_until_gone(own, front_end)


def test_what_was_killed_as_a_whole_is_cleared_by_the_next_start(
    start: Serve, own: Own
) -> None:
    first = start()
    assert first.invoke("groups").status == 200
    front_end = first.front_end.pid
    # Stopped, the front end cannot replace its zygote.
    first.signal(signal.SIGSTOP)
    first.zygote.kill()
    first.signal(signal.SIGKILL)
    wait_until(lambda: not first.left_over(), 5, "the end of all of it")
    # Nobody was left to remove that, either; it is not what this is about.
    for left in first._temp_dir.iterdir():
        shutil.rmtree(left)
    first.wait()
    assert groups_of(own, front_end)
    neighbour = start()
    assert neighbour.invoke("groups").status == 200
    wait_until_gone(own, front_end)
    # A third one does not take them for abandoned that somebody lives in.
    third = start()
    assert third.invoke("groups").status == 200
    assert groups_of(own, neighbour.front_end.pid)
    assert neighbour.invoke("leap").error_type == "FunctionOOMError"


# Version 2. Where its hierarchy has no controllers of ours, others will do.


@pytest.fixture
def v2_group(tmp_path: Path) -> Iterator[Path]:
    """Return a new group of version 2, for a process that will move itself there."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            made = Path(line.split(" ")[4]) / f"test-{os.getpid()}-{tmp_path.name}"
            break
    else:
        pytest.skip("no hierarchy of version 2 is mounted")
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(f"no groups of version 2 can be made here: {error}")
    yield made
    # The files in there go with their groups.
    for group in (*made.glob("*/*"), *made.glob("*"), made):
        if group.is_dir():
            group.rmdir()


def in_group(group: Path, program: str, *arguments: str) -> str:
    """Run a program in a group; return what it printed."""
    prelude = (
        "import os, signal, subprocess, sys\n"
        "from isoruntime.zygote.groups import Groups, delegate, enable, put, withdraw\n"
        "own = sys.argv[1]\n"
        "def read(path):\n"
        "    with open(path) as file:\n"
        "        return file.read().split()\n"
        "assert put(f'{own}/cgroup.procs', b'0')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prelude + program, str(group), *arguments],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=20,
    )
    return done.stdout


@pytest.fixture
def controller(v2_group: Path) -> str:
    """Return a controller that version 2 has here."""
    available = (v2_group.parent / "cgroup.controllers").read_text().split()
    if not available:
        pytest.skip("version 2 has no controllers here")
    wanted = next((one for one in ("memory", "pids") if one in available), available[0])
    switch = v2_group.parent / "cgroup.subtree_control"
    if wanted not in switch.read_text().split():
        try:
            switch.write_text(f"+{wanted}")
        except OSError as error:
            pytest.skip(f"{wanted} cannot be had below the root: {error}")
    return wanted


def test_version_2_moves_us_into_a_leaf_and_back(
    v2_group: Path, controller: str
) -> None:
    said = in_group(
        v2_group,
        """
child = subprocess.Popen(["sleep", "20"])
base, leaf = delegate(own, [sys.argv[2]], os.getpid())
assert base == own
print(*read(f"{own}/cgroup.subtree_control"), len(read(f"{own}/cgroup.procs")))
assert sorted(map(int, read(f"{leaf}/cgroup.procs"))) == sorted([os.getpid(), child.pid])
# Another zygote of the same front end finds it done.
assert delegate(leaf, [sys.argv[2]], os.getpid()) == (base, leaf)
group = f"{base}/holder"
os.mkdir(group)
enable(group, [sys.argv[2]])
withdraw(base, leaf)
assert read(f"{leaf}/cgroup.procs"), "not while others need it"
os.rmdir(group)
withdraw(base, leaf)
print(os.path.exists(leaf), read(f"{own}/cgroup.subtree_control"))
assert sorted(map(int, read(f"{own}/cgroup.procs"))) == sorted([os.getpid(), child.pid])
child.kill()
child.wait()
""",
        controller,
    )
    assert said == f"{controller} 0\nFalse []\n"


def test_version_2_leaves_a_group_alone_that_others_are_in(
    v2_group: Path, controller: str
) -> None:
    said = in_group(
        v2_group,
        """
child = subprocess.Popen(["sleep", "20"])
try:
    # As if the child were the front end, and we a foreigner.
    delegate(own, [sys.argv[2]], child.pid)
except ValueError as error:
    print(error)
assert sorted(map(int, read(f"{own}/cgroup.procs"))) == sorted([os.getpid(), child.pid])
child.kill()
child.wait()
""",
        controller,
    )
    assert said == f"{v2_group} is not ours alone\n"
    assert [one for one in v2_group.iterdir() if one.is_dir()] == []


def test_version_2_is_given_up_where_there_is_no_controller(v2_group: Path) -> None:
    said = in_group(
        v2_group,
        """
try:
    delegate(own, ["nonesuch"], os.getpid())
except ValueError as error:
    print(error)
assert read(f"{own}/cgroup.procs") == [str(os.getpid())]
""",
    )
    assert "has no controllers but" in said
    assert [one for one in v2_group.iterdir() if one.is_dir()] == []


def test_version_2_kills_what_is_left_in_a_group(v2_group: Path) -> None:
    made = Groups(os.getpid(), 0, 8)
    # Not through `open`, which asks for controllers.
    made._homes.append(str(v2_group))
    made.take(1)
    asleep = subprocess.Popen(["sleep", "30"])
    try:
        (group,) = (one for one in v2_group.iterdir() if one.is_dir())
        (group / "cgroup.procs").write_text(f"{asleep.pid}")
        # In a group that somebody is still in nobody else is put.
        made.give_back(1, was_killed=False, was_alone=False)
        assert asleep.wait(5) == -signal.SIGKILL
        made.tidy()
        assert not group.exists()
    finally:
        asleep.kill()
        asleep.wait()
