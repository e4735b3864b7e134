"""Processes that a function starts, in every way Python knows."""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.pool
import os
import pty
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path

from .registry import Refused, action

FORK = multiprocessing.get_context("fork")
_SET_NAME = 15


def square(number: int) -> int:
    return number * number


def python(program: str, *arguments: str, site: bool = False) -> str:
    """Run a program in another Python; return what it prints."""
    options = [] if site else ["-S"]
    return subprocess.check_output(
        [sys.executable, *options, "-c", program, *arguments], text=True
    )


# subprocess


@action("a Python child")
def python_child() -> None:
    assert python("print(6 * 7)") == "42\n"


@action("a Python child with the usual modules")
def python_child_with_modules() -> None:
    program = "import ssl, sqlite3, json, socket, ctypes, decimal, lzma; print('all')"
    assert python(program, site=True) == "all\n"


@action("python -m pip --version", "module pip")
def pip_version() -> None:
    command = [sys.executable, "-m", "pip", "--version"]
    assert subprocess.check_output(command).startswith(b"pip ")


@action("a child with an environment and a directory of its own")
def child_with_surroundings() -> None:
    with tempfile.TemporaryDirectory() as folder:
        said = subprocess.check_output(
            ["/bin/sh", "-c", "echo $COLOUR; pwd -P"],
            env={"COLOUR": "blue"},
            cwd=folder,
            text=True,
        )
        assert said == f"blue\n{Path(folder).resolve()}\n"


@action("talking to a child through pipes")
def talk_to_a_child() -> None:
    text = b"line\n" * 100_000
    done = subprocess.run(["cat"], input=text, capture_output=True, check=True)
    assert done.stdout == text
    failed = subprocess.run(
        ["sh", "-c", "echo why >&2; exit 3"], stderr=subprocess.PIPE, check=False
    )
    assert (failed.returncode, failed.stderr) == (3, b"why\n")


@action("a child that takes too long (subprocess timeout)")
def child_with_timeout() -> None:
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(["sleep", "60"], timeout=0.05, check=False)
        raise AssertionError("it ended by itself")


@action("terminate, kill, stop and continue a child")
def signal_a_child() -> None:
    for way, expected in (("terminate", -signal.SIGTERM), ("kill", -signal.SIGKILL)):
        child = subprocess.Popen(["sleep", "60"])
        getattr(child, way)()
        assert child.wait() == expected
    child = subprocess.Popen(["sleep", "60"])
    child.send_signal(signal.SIGSTOP)
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    child.send_signal(signal.SIGCONT)
    child.kill()
    assert child.wait() == -signal.SIGKILL


@action("killing the process group of a child (killpg)")
def kill_a_group() -> None:
    child = subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo there; wait"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"there\n"
    os.killpg(child.pid, signal.SIGKILL)
    # End of file: the grandchild is gone as well.
    assert child.stdout.read() == b""
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL


@action("os.system and os.popen")
def old_ways() -> None:
    assert os.waitstatus_to_exitcode(os.system("exit 4")) == 4  # noqa: S605 - as handlers write it
    with os.popen("echo popen") as stream:  # noqa: S605 - as handlers write it
        assert stream.read() == "popen\n"


@action("os.posix_spawn and os.spawnlp")
def spawn() -> None:
    # Safe because the program ends at once.
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 5"], os.environ)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert os.spawnlp(os.P_WAIT, "true", "true") == 0  # noqa: S606 - as handlers write it


@action("preexec_fn, a new session, close_fds=False")
def child_with_options() -> None:
    subprocess.run(
        ["true"],
        preexec_fn=lambda: os.nice(1) and None,
        start_new_session=True,
        close_fds=False,
        check=True,
    )


# fork


@action("fork and wait")
def fork_and_wait() -> None:
    # Safe because the child leaves at once.
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    _, status, usage = os.wait4(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert usage.ru_maxrss > 0


@action("a background process that ends before the handler")
def fork_twice() -> None:
    read, write = os.pipe()
    # Safe because both processes leave at once.
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(write, b"from below")
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    assert os.read(read, 100) == b"from below"
    assert os.read(read, 100) == b""
    os.close(read)


@action("waiting for a child with a pidfd")
def pidfd() -> None:
    child = subprocess.Popen(["sleep", "60"])
    fd = os.pidfd_open(child.pid)
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOWAIT)
    os.close(fd)
    assert child.wait() == -signal.SIGKILL


@action(
    "the limits of a child (prlimit)",
    refused=Refused(
        "PermissionError",
        "the call names a process by its number, and could as well name a neighbour",
        "set them on the way: `preexec_fn` with `resource.setrlimit`, or `ulimit` in a shell",
    ),
)
def limit_a_child() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        resource.prlimit(child.pid, resource.RLIMIT_CORE, (0, 0))
    finally:
        child.kill()
        child.wait()


@action(
    "the priority of a child (renice)",
    refused=Refused(
        "PermissionError",
        "the call names a process by its number, and could as well name a neighbour",
        "start it with `nice -n 5`, or `preexec_fn` with `os.nice`",
    ),
)
def renice_a_child() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        os.setpriority(os.PRIO_PROCESS, child.pid, 5)
    finally:
        child.kill()
        child.wait()


@action(
    "the CPUs of a child (taskset -p)",
    refused=Refused(
        "PermissionError",
        "the call names a process by its number, and could as well name a neighbour",
        "start it with `taskset -c 0 PROGRAM`, or `preexec_fn` with `os.sched_setaffinity`",
    ),
)
def move_a_child() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        os.sched_setaffinity(child.pid, os.sched_getaffinity(0))
    finally:
        child.kill()
        child.wait()


@action("the process's own name, priority and CPUs")
def own_priority() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    # In a child, because a priority can be lowered only.
    program = "import os; os.nice(5); os.sched_setaffinity(0, os.sched_getaffinity(0))"
    program += "; print(os.getpriority(os.PRIO_PROCESS, 0))"
    assert python(program) == f"{min(before + 5, 19)}\n"
    ctypes.CDLL(None).prctl(_SET_NAME, b"ordinary", 0, 0, 0)
    assert Path("/proc/self/comm").read_text() == "ordinary\n"


@action("nice, timeout, setsid, nohup, xargs -P and env -i")
def wrappers() -> None:
    for words in (
        "nice -n 5 true",
        "timeout 5 true",
        "setsid -w true",
        "nohup true",
        "env -i true",
        "sh -c 'seq 8 | xargs -P 4 -n 1 true'",
        "sh -c 'ulimit -c 0; ulimit -n 64; true'",
        "sh -c 'ulimit -v 1000000; true'",
        "ionice -c 3 true",
        "taskset 0xffffffff true",
    ):
        command = ["sh", "-c", words]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        assert done.returncode == 0, (words, done.stderr)


# Terminals


@action("a pseudo-terminal", "/dev/ptmx")
def pseudo_terminal() -> None:
    ours, theirs = pty.openpty()
    assert os.isatty(theirs)
    child = subprocess.Popen(["sh", "-c", "test -t 1 && echo terminal"], stdout=theirs)
    said = b""
    while not said.endswith(b"\n"):
        said += os.read(ours, 100)
    assert said == b"terminal\r\n"
    assert child.wait() == 0
    os.close(ours)
    os.close(theirs)


@action("a program on a terminal of its own (pty.fork)", "/dev/ptmx")
def fork_with_terminal() -> None:
    # Safe because the child only becomes another program.
    pid, ours = pty.fork()
    if pid == 0:
        try:
            os.execlp("sh", "sh", "-c", "tty > /dev/tty && stty size")  # noqa: S606 - as pty.spawn does
        finally:
            os._exit(127)
    said = b""
    with suppress(OSError):  # EIO is a terminal's end of file.
        while chunk := os.read(ours, 100):
            said += chunk
    os.close(ours)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert said.startswith(b"/dev/pts/")


# multiprocessing


@action("multiprocessing.Process with a Pipe")
def mp_pipe() -> None:
    ours, theirs = FORK.Pipe()
    child = FORK.Process(target=theirs.send, args=("hello",))
    child.start()
    assert ours.recv() == "hello"
    child.join()
    assert child.exitcode == 0


@action("multiprocessing.Pool")
def mp_pool() -> None:
    with FORK.Pool(2) as pool:
        assert pool.map(square, range(10)) == [n * n for n in range(10)]


@action("multiprocessing.pool.ThreadPool")
def mp_thread_pool() -> None:
    with multiprocessing.pool.ThreadPool(2) as pool:
        assert pool.map(square, range(10)) == [n * n for n in range(10)]


def _add(lock: object, total: object) -> None:
    for _ in range(50):
        with lock:  # type: ignore[attr-defined]
            total.value += 1  # type: ignore[attr-defined]


@action("multiprocessing locks, semaphores and shared values")
def mp_locks() -> None:
    lock, total = FORK.Lock(), FORK.Value("i", 0, lock=False)
    children = [FORK.Process(target=_add, args=(lock, total)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert total.value == 100
    assert FORK.Semaphore(1).acquire()
    assert FORK.RLock().acquire()
    assert not FORK.Event().is_set()


@action("multiprocessing.Queue")
def mp_queue() -> None:
    queue = FORK.Queue()
    child = FORK.Process(target=queue.put, args=({"a": 1},))
    child.start()
    assert queue.get(timeout=5) == {"a": 1}
    child.join()
    queue.close()
    queue.join_thread()


@action("multiprocessing.Manager")
def mp_manager() -> None:
    with FORK.Manager() as manager:
        shared = manager.dict()
        shared["a"] = [1, 2]
        assert dict(shared) == {"a": [1, 2]}


@action("multiprocessing.shared_memory")
def mp_shared_memory() -> None:
    block = shared_memory.SharedMemory(create=True, size=4096)
    try:
        block.buf[:4] = b"text"
        again = shared_memory.SharedMemory(name=block.name)
        assert bytes(again.buf[:4]) == b"text"
        again.close()
    finally:
        block.close()
        block.unlink()
    end_resource_tracker()


def end_resource_tracker() -> None:
    # multiprocessing leaves a process behind that would be taken for a leftover.
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


@action("ProcessPoolExecutor by fork")
def executor_by_fork() -> None:
    with ProcessPoolExecutor(2, mp_context=FORK) as pool:
        assert list(pool.map(square, range(5))) == [0, 1, 4, 9, 16]


# Signals


@action("signal handlers, alarm and interval timers")
def signals() -> None:
    assert signal.alarm(60) == 0
    assert signal.alarm(0) > 0
    _catch(signal.SIGALRM, lambda: signal.setitimer(signal.ITIMER_REAL, 0.01))
    _catch(signal.SIGUSR1, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    _catch(signal.SIGUSR2, lambda: signal.raise_signal(signal.SIGUSR2))


def _catch(which: int, send: Callable[[], object]) -> None:
    seen: list[int] = []
    kept = signal.signal(which, lambda number, _frame: seen.append(number))
    try:
        send()
        end = time.monotonic() + 5
        while which not in seen:
            assert time.monotonic() < end, f"no {which}"
            time.sleep(0.001)
    finally:
        signal.signal(which, kept)


@action("waiting for a signal")
def wait_for_a_signal() -> None:
    kept = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signal.sigtimedwait([signal.SIGUSR1], 5) is not None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, kept)
