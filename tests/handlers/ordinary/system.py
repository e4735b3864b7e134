"""What a function asks the system, and Python, about themselves."""

from __future__ import annotations

import ctypes
import ctypes.util
import datetime
import decimal
import errno
import faulthandler
import fcntl
import gc
import getpass
import grp
import hashlib
import importlib
import locale
import math
import mmap
import os
import platform
import pwd
import random
import resource
import secrets
import select
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
import tracemalloc
import warnings
import zoneinfo
from pathlib import Path

from .registry import Refused, action


def libc_call(name: str, *arguments: object) -> int:
    """Call a function of the C library.

    Raises:
        OSError: it says that it failed.
    """
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    result = int(function(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


@action("/proc/self")
def proc_self() -> None:
    me = Path("/proc/self")
    for name in (
        *("status", "stat", "statm", "maps", "smaps_rollup", "cmdline", "limits"),
        *("cgroup", "mountinfo", "mounts", "comm", "oom_score", "schedstat"),
        *(f"task/{os.getpid()}/stat", "net/tcp", "net/dev"),
    ):
        assert (me / name).read_bytes() or name == "cmdline", name
    assert (me / "exe").resolve().exists()
    assert os.readlink("/proc/self/cwd") == str(Path.cwd())  # noqa: PTH115 - as handlers write it
    assert "0" in [entry.name for entry in (me / "fd").iterdir()]


@action("/proc/self/environ, io and auxv")
def proc_self_private() -> None:
    for name in ("environ", "io", "auxv"):
        assert (Path("/proc/self") / name).read_bytes()


@action("a child reading its /proc/self/environ, io and auxv")
def proc_self_of_a_child() -> None:
    files = [f"/proc/self/{name}" for name in ("environ", "io", "auxv")]
    assert subprocess.check_output(["cat", *files])


@action("/proc/cpuinfo, meminfo, stat, uptime, loadavg, version")
def proc_files() -> None:
    for name in (
        *("cpuinfo", "meminfo", "stat", "uptime", "loadavg", "version"),
        *("filesystems", "sys/kernel/random/uuid", "sys/kernel/osrelease"),
        *("sys/net/core/somaxconn", "sys/vm/overcommit_memory", "sys/fs/file-max"),
        "sys/kernel/pid_max",
    ):
        assert (Path("/proc") / name).read_bytes(), name


@action("/sys/devices/system/cpu")
def sys_files() -> None:
    folder = Path("/sys/devices/system/cpu")
    assert (folder / "online").read_text()
    assert [entry.name for entry in folder.iterdir() if entry.name == "cpu0"]


@action("memory and CPU limits of the container (/sys/fs/cgroup)")
def cgroup_files() -> None:
    for path in (
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/cpu.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    ):
        if Path(path).exists():
            assert Path(path).read_text()


@action("huge pages and memory nodes in /sys")
def other_sys_files() -> None:
    for path in (
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/devices/system/node/online",
    ):
        if Path(path).exists():
            assert Path(path).read_text()


@action("network interfaces in /sys", "/sys/class/net/lo/address")
def sys_net() -> None:
    assert Path("/sys/class/net/lo/address").read_text()


@action("how many CPUs there are")
def cpus() -> None:
    assert os.cpu_count()
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, mine)
    assert os.sched_getaffinity(0) == mine
    assert os.getloadavg()
    assert os.sysconf("SC_NPROCESSORS_ONLN") > 0
    assert os.sysconf("SC_PHYS_PAGES") > 0


@action("reading and lowering one's own limits")
def limits() -> None:
    for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_STACK):
        soft, hard = resource.getrlimit(which)
        resource.setrlimit(which, (soft, hard))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(64, min(soft, 256)), hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0


@action("a thousand open files")
def many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    opened = []
    try:
        opened.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(960))
    finally:
        for fd in opened:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@action("a deep recursion")
def recursion() -> None:
    def descend(levels: int) -> int:
        return levels and 1 + descend(levels - 1)

    kept = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        assert descend(5_000) == 5_000
    finally:
        sys.setrecursionlimit(kept)


@action("200 MB of memory")
def much_memory() -> None:
    block = bytearray(200 << 20)
    block[:: 1 << 20] = b"x" * 200
    assert len(block) == 200 << 20


@action("the user's name (getpass.getuser)", "user name")
def user_name() -> None:
    assert getpass.getuser()


@action("the home directory (expanduser)")
def home() -> None:
    assert Path("~").expanduser().is_dir()
    assert os.environ["HOME"]


@action("the current directory and the environment")
def surroundings() -> None:
    assert Path.cwd() in Path(__file__).parents
    os.environ["ORDINARY"] = "set"
    assert os.popen("echo $ORDINARY").read() == "set\n"  # noqa: S605 - as handlers write it
    del os.environ["ORDINARY"]
    assert shutil.which("sh")


@action("users and groups (pwd and grp)")
def users() -> None:
    assert pwd.getpwnam("root").pw_uid == 0
    assert pwd.getpwall()
    assert grp.getgrgid(0).gr_name == "root"
    assert os.getuid() == os.geteuid()
    os.getgroups()


@action("the locale")
def locales() -> None:
    locale.setlocale(locale.LC_ALL, "")
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    assert locale.localeconv()
    assert "ä".encode(sys.getfilesystemencoding())


@action("time zones", "/usr/share/zoneinfo/Asia/Shanghai")
def time_zones() -> None:
    shanghai = zoneinfo.ZoneInfo("Asia/Shanghai")
    noon = datetime.datetime(2024, 1, 1, 12, tzinfo=shanghai)
    assert noon.astimezone(datetime.timezone.utc).hour == 4
    kept = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Shanghai"
    try:
        time.tzset()
        assert time.localtime(0).tm_hour == 8
    finally:
        del os.environ["TZ"]
        if kept is not None:
            os.environ["TZ"] = kept
        time.tzset()


@action("the platform (platform, sysconfig, uname)")
def about_the_platform() -> None:
    assert platform.platform()
    assert platform.libc_ver()[0]
    platform.processor()
    assert platform.freedesktop_os_release()["ID"]
    assert os.uname().sysname == "Linux"
    assert sysconfig.get_paths()["stdlib"]
    assert sysconfig.get_config_var("EXT_SUFFIX")


@action("clocks")
def clocks() -> None:
    for name in dir(time):
        if name.startswith("CLOCK_") and not name.startswith("CLOCK_U"):
            try:
                time.clock_gettime(getattr(time, name))
            except OSError as error:
                assert error.errno == errno.EINVAL, name  # noqa: PT017 - no pytest here
    time.sleep(0.001)
    assert time.process_time() > 0
    assert time.thread_time() > 0


@action("randomness and hashes")
def randomness() -> None:
    assert len(os.getrandom(8)) == len(os.urandom(8)) == len(secrets.token_bytes(8))
    assert random.SystemRandom().random() < 1
    for name in hashlib.algorithms_guaranteed:
        hashlib.new(name, b"text", usedforsecurity=False)
    hashlib.scrypt(b"word", salt=b"salt", n=2, r=8, p=1)
    hashlib.pbkdf2_hmac("sha256", b"word", b"salt", 10)


@action("modules of the standard library on first use")
def lazy_modules() -> None:
    for name in (
        *("encodings.idna", "encodings.gb18030", "unicodedata", "decimal", "fractions"),
        *("email.mime.text", "smtplib", "ftplib", "imaplib", "html.parser", "cmath"),
        *("wsgiref.simple_server", "statistics", "difflib", "plistlib", "sched"),
        *("graphlib", "pydoc", "unittest", "xml.dom.minidom", "xml.sax", "doctest"),
    ):
        sys.modules.pop(name, None)
        importlib.import_module(name)
    assert "bücher.example".encode("idna") == b"xn--bcher-kva.example"
    assert "中文".encode("gb18030").decode("gb18030") == "中文"
    assert decimal.Decimal("0.1") * 3 == decimal.Decimal("0.3")


@action("curses and readline", "module curses", "module readline")
def terminal_modules() -> None:
    curses = importlib.import_module("curses")
    curses.setupterm("xterm", os.open(os.devnull, os.O_WRONLY))
    importlib.import_module("readline")


@action("ctypes: libraries of the system")
def libraries() -> None:
    libm = ctypes.CDLL("libm.so.6")
    libm.cos.restype = ctypes.c_double
    libm.cos.argtypes = [ctypes.c_double]
    assert libm.cos(math.pi) == -1
    assert libc_call("getpid") == os.getpid()
    # Asks ldconfig, gcc or ld, whichever is there.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ctypes.util.find_library("c")
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda value: value + 1)
    assert compare(1) == 2


@action("faulthandler")
def faults() -> None:
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        assert b"in faults" in file.read()


@action("tracemalloc and gc")
def memory_tools() -> None:
    tracemalloc.start()
    held = [bytes(1000) for _ in range(100)]
    assert tracemalloc.get_traced_memory()[0] > 50_000
    tracemalloc.stop()
    del held
    gc.collect()
    gc.get_objects()


@action("eventfd, timerfd and signalfd")
def event_descriptors() -> None:
    event = os.eventfd(1) if hasattr(os, "eventfd") else libc_call("eventfd", 1, 0)
    assert os.read(event, 8) == struct.pack("Q", 1)
    os.close(event)
    timer = libc_call("timerfd_create", time.CLOCK_MONOTONIC, 0)
    once = struct.pack("4q", 0, 0, 0, 1_000_000)
    libc_call("timerfd_settime", timer, 0, once, None)
    assert select.select([timer], [], [], 5)[0] == [timer]
    os.close(timer)
    mask = struct.pack("Q", 1 << (signal.SIGUSR1 - 1)) + bytes(120)
    os.close(libc_call("signalfd", -1, mask, 0))


@action("pipes and their size")
def pipes() -> None:
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 18)
    assert os.write(write, bytes(1 << 18)) == 1 << 18
    os.close(read)
    os.close(write)


@action("locked memory and memory advice (mlock, madvise)")
def locked_memory() -> None:
    with mmap.mmap(-1, 1 << 16) as memory:
        memory.madvise(mmap.MADV_DONTNEED)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        libc_call("mlock", ctypes.c_void_p(address), 4096)
        libc_call("munlock", ctypes.c_void_p(address), 4096)


@action("POSIX semaphores and shared memory of the C library")
def posix_ipc() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    name = f"/ordinary-{os.getpid()}".encode()
    libc.sem_open.restype = ctypes.c_void_p
    assert libc.sem_open(name, os.O_CREAT, 0o600, 1), os.strerror(ctypes.get_errno())
    libc_call("sem_unlink", name)
    os.close(libc_call("shm_open", name, os.O_CREAT | os.O_RDWR, 0o600))
    libc_call("shm_unlink", name)


# What is refused, and why


@action(
    "System V shared memory (shmget)",
    refused=Refused(
        "PermissionError",
        "it outlives processes and is open to everybody with the same user",
        "`multiprocessing.shared_memory`, or a file in `/dev/shm`",
    ),
)
def system_v() -> None:
    block = libc_call("shmget", 0, 4096, 0o1600)
    libc_call("shmctl", block, 0, None)


@action(
    "POSIX message queues (mq_open)",
    refused=Refused(
        "PermissionError",
        "they outlive processes and fill a quota that all share",
        "a pipe, or `multiprocessing.Queue`",
    ),
)
def message_queue() -> None:
    library = ctypes.CDLL("librt.so.1", use_errno=True)
    name = f"/ordinary-{os.getpid()}".encode()
    queue = library.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, None)
    if queue < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.close(queue)
    library.mq_unlink(name)
