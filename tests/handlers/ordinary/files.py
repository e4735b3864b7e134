"""Files, folders and what is kept in them."""

from __future__ import annotations

import array
import bz2
import configparser
import csv
import ctypes
import dbm
import fcntl
import gzip
import importlib
import io
import json
import logging
import logging.handlers
import lzma
import mmap
import os
import pickle
import pkgutil
import shelve
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from .registry import Refused, action

HERE = Path(__file__).parent
CODE_IS_READ_ONLY = (
    "the code is read-only, so that no invocation changes the next one",
    "write below `TMPDIR` or `/tmp`; `--allow-write` names further folders",
)
HOME = "`HOME` is the worker's temporary folder, and ends with the worker"


@contextmanager
def folder(below: str | None = None) -> Iterator[Path]:
    """Make a folder for the duration of the block."""
    with tempfile.TemporaryDirectory(dir=below) as made:
        yield Path(made)


def write_and_read(path: Path) -> None:
    path.write_bytes(b"some bytes")
    with path.open("ab") as file:
        file.write(b", and more")
        file.flush()
        os.fsync(file.fileno())
    assert path.read_bytes() == b"some bytes, and more"
    path.unlink()


@action("a file in TMPDIR")
def in_tmpdir() -> None:
    write_and_read(Path(os.environ["TMPDIR"]) / "file")


@action("every kind of tempfile")
def every_kind_of_tempfile() -> None:
    assert tempfile.gettempdir() == os.environ["TMPDIR"]
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    with tempfile.NamedTemporaryFile(suffix=".txt") as named:
        assert Path(named.name).exists()
    with tempfile.SpooledTemporaryFile(max_size=8) as spooled:
        spooled.write(b"more than eight bytes")
    fd, name = tempfile.mkstemp()
    os.close(fd)
    Path(name).unlink()
    Path(tempfile.mkdtemp()).rmdir()


@action(
    "a file in /tmp",
    remark="under `standard` the workers share it, under `strict` each has its own",
)
def in_tmp() -> None:
    write_and_read(Path(f"/tmp/ordinary-{os.getpid()}"))


@action("a folder tree in /tmp")
def tree_in_tmp() -> None:
    with folder("/tmp") as root:
        (root / "a" / "b").mkdir(parents=True)
        write_and_read(root / "a" / "b" / "file")


@action("a file in /var/tmp")
def in_var_tmp() -> None:
    write_and_read(Path(f"/var/tmp/ordinary-{os.getpid()}"))


@action("a file in /dev/shm", "/dev/shm")
def in_shared_memory() -> None:
    write_and_read(Path(f"/dev/shm/ordinary-{os.getpid()}"))


@action("a file in the home directory", "own files", remark=HOME)
def in_home() -> None:
    write_and_read(Path("~").expanduser() / f".ordinary-{os.getpid()}")


@action("a cache below the home directory", "own files", remark=HOME)
def cache_at_home() -> None:
    cache = Path("~").expanduser() / ".cache" / f"ordinary-{os.getpid()}"
    cache.mkdir(parents=True)
    write_and_read(cache / "file")
    cache.rmdir()


@action(
    "a new file beside the code",
    "own files",
    refused=Refused("PermissionError", *CODE_IS_READ_ONLY),
    strict=Refused("OSError", *CODE_IS_READ_ONLY),
)
def beside_the_code() -> None:
    write_and_read(HERE / f"new-{os.getpid()}")


@action("a data file beside the code")
def data_beside_the_code() -> None:
    assert (HERE / "data.json").read_bytes() == pkgutil.get_data(
        __package__ or "", "data.json"
    )
    # The working directory is the code directory.
    assert json.loads(Path("ordinary/data.json").read_text()) == {"a": [1, 2.5, "ä"]}


@action("listing the code directory")
def list_the_code() -> None:
    assert "index.py" in [entry.name for entry in os.scandir(HERE)]
    assert HERE / "index.py" in list(Path.cwd().rglob("*.py"))


@action("importing a module of the function's on first use")
def import_later() -> None:
    importlib.invalidate_caches()
    sys.modules.pop(f"{__package__}.later", None)
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    try:
        later = importlib.import_module(f"{__package__}.later")
    finally:
        sys.dont_write_bytecode = kept
    assert later.WHEN == "on first use"


@action(
    "listing the root directory",
    refused=Refused(
        "PermissionError",
        "Landlock has no right to list one folder without all below it",
        "list the folder that is meant; `os.path.exists` works everywhere",
    ),
)
def list_root() -> None:
    assert "usr" in os.listdir("/")  # noqa: PTH208 - as handlers write it


@action("looking whether a path exists")
def look_for_paths() -> None:
    assert Path("/usr").is_dir()
    assert not Path("/no/such/path").exists()
    # Existence can be asked of everything, readable or not.
    assert Path("/etc/shadow").exists()


@action("well-known files in /etc")
def well_known_in_etc() -> None:
    for name in ("hosts", "passwd", "group", "resolv.conf", "os-release"):
        path = Path("/etc") / name
        assert not path.exists() or path.read_text(errors="replace")


@action("more well-known files in /etc")
def more_in_etc() -> None:
    for name in (
        *("nsswitch.conf", "host.conf", "gai.conf", "services", "protocols"),
        *("mime.types", "localtime", "timezone", "ssl/openssl.cnf", "debian_version"),
        *("ld.so.cache", "fonts/fonts.conf", "hostname"),
    ):
        path = Path("/etc") / name
        if path.exists():
            path.read_bytes()


@action("/dev/null and /dev/zero")
def null_and_zero() -> None:
    with Path(os.devnull).open("r+b", buffering=0) as null:
        assert null.write(b"gone") == 4
        assert null.read() == b""
    with Path("/dev/zero").open("rb") as zero:
        assert zero.read(8) == bytes(8)


@action("/dev/urandom and /dev/random")
def random_devices() -> None:
    for name in ("/dev/urandom", "/dev/random"):
        with Path(name).open("rb", buffering=0) as device:
            assert len(device.read(16)) == 16


@action("writing to /dev/stdout and /dev/stderr")
def reopened_output() -> None:
    for name in ("/dev/stdout", "/dev/stderr", "/dev/fd/1", "/proc/self/fd/2"):
        with Path(name).open("w") as stream:
            print(f"through {name}", file=stream)


@action("/dev/stdin is there and empty")
def reopened_input() -> None:
    with Path("/dev/stdin").open("rb") as stream:
        assert stream.read() == b""
    assert sys.stdin.read() == ""


@action("/dev/full says that the disk is full", "/dev/full")
def full_device() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        os.write(fd, b"x")
    except OSError as error:
        assert error.strerror == "No space left on device"  # noqa: PT017 - no pytest here
    else:
        raise AssertionError("it took everything")
    finally:
        os.close(fd)


# Databases


def use_database(where: str) -> None:
    database = sqlite3.connect(where)
    try:
        database.execute("create table t (a integer primary key, b text)")
        with database:
            database.executemany(
                "insert into t (b) values (?)", [(str(n),) for n in range(100)]
            )
        assert database.execute("select count(*) from t").fetchone() == (100,)
    finally:
        database.close()


@action("sqlite in memory")
def sqlite_in_memory() -> None:
    use_database(":memory:")


@action("sqlite in TMPDIR")
def sqlite_in_tmpdir() -> None:
    with folder() as root:
        use_database(str(root / "db.sqlite"))


@action("sqlite in /tmp")
def sqlite_in_tmp() -> None:
    with folder("/tmp") as root:
        use_database(str(root / "db.sqlite"))


@action("sqlite with a write-ahead log, from two processes")
def sqlite_from_two_processes() -> None:
    with folder("/tmp") as root:
        path = root / "db.sqlite"
        database = sqlite3.connect(path)
        assert database.execute("pragma journal_mode=wal").fetchone() == ("wal",)
        database.execute("create table t (a integer)")
        program = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1])\n"
        program += "with d: d.execute('insert into t values (7)')\nd.close()"
        subprocess.run([sys.executable, "-c", program, str(path)], check=True)
        assert database.execute("select a from t").fetchall() == [(7,)]
        database.close()


@action("dbm and shelve")
def key_value_files() -> None:
    with folder() as root:
        with dbm.open(str(root / "dbm"), "c") as db:
            db[b"key"] = b"value"
        with shelve.open(str(root / "shelf")) as shelf:  # noqa: S301 - its own file
            shelf["key"] = {"value": 1}
        with shelve.open(str(root / "shelf")) as shelf:  # noqa: S301 - its own file
            assert shelf["key"] == {"value": 1}


# What can be done to files


@action("symbolic and hard links")
def links() -> None:
    with folder() as root:
        (root / "file").write_text("text")
        (root / "symbolic").symlink_to("file")
        os.link(root / "file", root / "hard")
        assert (root / "symbolic").read_text() == (root / "hard").read_text() == "text"
        assert (root / "file").stat().st_nlink == 2


@action("renaming within and between folders")
def rename() -> None:
    with folder() as root, folder() as other:
        (root / "a").write_text("text")
        (root / "a").rename(root / "b")
        (root / "b").replace(other / "c")
        assert (other / "c").read_text() == "text"


@action("moving a file from TMPDIR to /tmp")
def move_between() -> None:
    with folder() as root, folder("/tmp") as other:
        (root / "file").write_text("text")
        shutil.move(root / "file", other / "file")
        assert (other / "file").read_text() == "text"
        assert not (root / "file").exists()


@action("chmod, utime and umask")
def modes() -> None:
    with folder() as root:
        kept = os.umask(0o027)
        try:
            (root / "file").touch()
        finally:
            os.umask(kept)
        assert stat.S_IMODE((root / "file").stat().st_mode) == 0o640
        (root / "file").chmod(0o755)
        os.utime(root / "file", (1, 2))
        assert (root / "file").stat().st_mtime == 2


@action("chown to oneself")
def chown() -> None:
    with folder() as root:
        (root / "file").touch()
        os.chown(root / "file", os.getuid(), os.getgid())
        shutil.chown(root / "file", os.getuid())


@action("extended attributes")
def extended_attributes() -> None:
    with folder() as root:
        (root / "file").touch()
        try:
            os.setxattr(root / "file", "user.colour", b"blue")
        except OSError as error:
            # Not every file system has them; a wall would say something else.
            assert error.strerror == "Operation not supported"  # noqa: PT017 - no pytest here
        else:
            assert os.getxattr(root / "file", "user.colour") == b"blue"


@action("copying and removing folder trees")
def copy_trees() -> None:
    with folder() as root:
        (root / "from" / "deep").mkdir(parents=True)
        (root / "from" / "deep" / "file").write_text("text")
        (root / "from" / "link").symlink_to("deep/file")
        shutil.copytree(root / "from", root / "to", symlinks=True)
        assert (root / "to" / "link").read_text() == "text"
        shutil.rmtree(root / "to")
        assert shutil.disk_usage(root).total > 0


@action("copying the code directory")
def copy_the_code() -> None:
    with folder() as root:
        shutil.copytree(
            HERE, root / "code", ignore=shutil.ignore_patterns("__pycache__")
        )
        assert (root / "code" / "data.json").exists()


@action("making a program and running it")
def make_a_program() -> None:
    for below in (None, "/tmp"):
        with folder(below) as root:
            program = root / "program"
            program.write_text("#!/bin/sh\necho made here\n")
            program.chmod(0o755)
            assert subprocess.check_output([program]) == b"made here\n"


@action("sparse files, truncate and fallocate")
def allocate() -> None:
    with tempfile.TemporaryFile() as file:
        os.truncate(file.fileno(), 32 << 20)
        os.posix_fallocate(file.fileno(), 0, 1 << 16)
        assert os.fstat(file.fileno()).st_size == 32 << 20


@action("sendfile, copy_file_range and splice")
def copy_in_the_kernel() -> None:
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        source.write(b"x" * 5000)
        source.flush()
        assert os.sendfile(target.fileno(), source.fileno(), 0, 5000) == 5000
        assert os.copy_file_range(source.fileno(), target.fileno(), 100, 0, 0) == 100
        read, write = os.pipe()
        assert os.splice(source.fileno(), write, 100, 0) == 100
        assert os.read(read, 200) == b"x" * 100
        os.close(read)
        os.close(write)


@action("an unnamed temporary file (O_TMPFILE)")
def unnamed_file() -> None:
    fd = os.open(os.environ["TMPDIR"], os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"text")
    os.close(fd)


@action("statvfs and free space")
def free_space() -> None:
    for path in ("/", "/tmp", os.environ["TMPDIR"]):
        assert os.statvfs(path).f_blocks >= 0


@action("a named pipe between two processes")
def named_pipe() -> None:
    with folder() as root:
        pipe = root / "pipe"
        os.mkfifo(pipe)
        child = subprocess.Popen(["sh", "-c", 'echo through > "$0"', str(pipe)])
        assert pipe.read_text() == "through\n"
        assert child.wait() == 0


@action("file locks (lockf and flock)")
def file_locks() -> None:
    program = "import fcntl, sys\nf = open(sys.argv[1], 'r+b')\n"
    program += "try: fcntl.{}(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
    program += "except OSError: print('held')"
    with tempfile.NamedTemporaryFile() as file:
        for how in ("lockf", "flock"):
            getattr(fcntl, how)(file, fcntl.LOCK_EX)
            command = [sys.executable, "-S", "-c", program.format(how), file.name]
            assert subprocess.check_output(command) == b"held\n"
            getattr(fcntl, how)(file, fcntl.LOCK_UN)


@action("rotating log files in /tmp")
def rotating_logs() -> None:
    with folder("/tmp") as root:
        log = logging.handlers.RotatingFileHandler(root / "log", "a", 100, 3)
        for number in range(20):
            log.emit(logging.makeLogRecord({"msg": f"line number {number}"}))
        log.close()
        assert (root / "log.3").exists()


# Memory that is a file


@action("anonymous memory maps, private and shared with a child")
def anonymous_maps() -> None:
    private = mmap.mmap(-1, 1 << 16, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    private[:4] = b"text"
    shared = mmap.mmap(-1, 4096)
    # Safe because the child does nothing but write and leave.
    pid = os.fork()
    if pid == 0:
        shared[:4] = b"told"
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert shared[:4] == b"told"


@action("memory-mapped files")
def mapped_files() -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(8192)
        with mmap.mmap(file.fileno(), 8192) as view:
            view[8000:8004] = b"text"
            view.flush()
        file.seek(8000)
        assert file.read(4) == b"text"


@action("memfd, also executed")
def memory_file() -> None:
    fd = os.memfd_create("ordinary")
    os.write(fd, b"text")
    assert os.pread(fd, 4, 0) == b"text"
    os.close(fd)
    fd = os.memfd_create("program")
    os.write(fd, Path(shutil.which("true") or "").read_bytes())
    name = f"/proc/self/fd/{fd}"
    assert subprocess.run([name], pass_fds=[fd], check=False).returncode == 0
    os.close(fd)


@action("memory that may be executed (just-in-time compilers)")
def executable_memory() -> None:
    code = mmap.mmap(
        -1,
        4096,
        mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
        mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
    )
    code[:1] = b"\xc3"
    code.close()


@action("inotify")
def watch() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with folder() as root:
        fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert fd >= 0, os.strerror(ctypes.get_errno())
        created = 0x100
        watching = libc.inotify_add_watch(fd, str(root).encode(), created)
        assert watching >= 0, os.strerror(ctypes.get_errno())
        (root / "new").touch()
        _, mask, _, length = struct.unpack_from("iIII", data := os.read(fd, 4096))
        assert mask == created
        assert data[16 : 16 + length].rstrip(b"\0") == b"new"
        os.close(fd)


# Formats


@action("zip and tar archives")
def archives() -> None:
    with folder() as root:
        (root / "file").write_text("text")
        for kind in ("zip", "tar", "gztar", "bztar", "xztar"):
            made = shutil.make_archive(str(root.parent / f"{root.name}-a"), kind, root)
            shutil.unpack_archive(made, root / kind)
            Path(made).unlink()
            assert (root / kind / "file").read_text() == "text"
        with zipfile.ZipFile(root / "a.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.write(root / "file", "file")
        with tarfile.open(root / "a.tar", "w") as tarred:
            tarred.add(root / "file")


@action("gzip, bz2 and lzma")
def compress() -> None:
    for module in (gzip, bz2, lzma):
        assert module.decompress(module.compress(b"text" * 1000)) == b"text" * 1000


@action("csv, json, xml, ini and pickle")
def formats() -> None:
    text = io.StringIO()
    csv.writer(text).writerow(["a", "b, c"])
    assert next(csv.reader([text.getvalue()])) == ["a", "b, c"]
    assert json.loads(json.dumps({"a": [1, None]})) == {"a": [1, None]}
    assert ElementTree.fromstring("<a><b>c</b></a>").findtext("b") == "c"  # noqa: S314 - its own text
    ini = configparser.ConfigParser()
    ini.read_string("[a]\nb = c")
    assert ini["a"]["b"] == "c"
    numbers = array.array("d", [1.5])
    assert pickle.loads(pickle.dumps(numbers)) == numbers  # noqa: S301 - its own bytes
