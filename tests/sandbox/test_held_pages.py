"""What a zygote holds pages with is of no use to anybody else, and not had everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from isoruntime.sandbox import landlock
from tests.sandbox.arena import Arena
from tests.sandbox.levels import LEVELS, missing
from tests.support import rings
from tests.support.server import Serve
from tests.waiting import wait_until

if rings.missing():
    pytest.skip(rings.missing(), allow_module_level=True)

_AT_IMPORT = """
import ctypes, errno, mmap, os

libc = ctypes.CDLL(None, use_errno=True)
SETUP, ENTER, REGISTER = 425, 426, 427

def call(*words):
    result = libc.syscall(*(ctypes.c_long(word) for word in words))
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]

def find():
    for name in os.listdir("/proc/self/fd"):
        try:
            if "io_uring" in os.readlink("/proc/self/fd/" + name):
                return int(name)
        except FileNotFoundError:
            continue
    return -1

ring = find()
memory = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.write(b"x")
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
buffers = (ctypes.c_uint64 * 2)(start, mmap.PAGESIZE)
words = ctypes.create_string_buffer(120)
numbers = (ctypes.c_int32 * 1)(1)
found = {
    "a ring": ring >= 0,
    "another ring": call(SETUP, 1, ctypes.addressof(words)),
    "submit": call(ENTER, ring, 1, 0, 0, 0, 0),
    "wait": call(ENTER, ring, 0, 0, 1, 0, 0),
    "files": call(REGISTER, ring, 2, ctypes.addressof(numbers), 1),
    "give up buffers": call(REGISTER, ring, 1, 0, 0),
    "restrictions": call(REGISTER, ring, 11, ctypes.addressof(words), 1),
    "enable": call(REGISTER, ring, 12, 0, 0),
    "by number": call(REGISTER, ring, 1 << 31, ctypes.addressof(buffers), 1),
}
"""

FOUND = {
    "a ring": True,
    "another ring": "ENOSYS",
    "submit": "ENOSYS",
    "wait": "ENOSYS",
    "files": "ENOSYS",
    "give up buffers": "ENOSYS",
    "restrictions": "ENOSYS",
    "enable": "ENOSYS",
    "by number": "ENOSYS",
}

#: The worst that can be done with it: to keep the zygote from doing it.
_TAKES_IT = """
found["buffers"] = call(REGISTER, ring, 0, ctypes.addressof(buffers), 1)

def handler(event, context):
    return found
"""

#: Workers have what an import has opened, and so a second descriptor of it.
_PASSES_IT_ON = """
kept = os.dup(ring)

def handler(event, context):
    found["enter"] = call(ENTER, kept, 1, 0, 0, 0, 0)
    found["files"] = call(REGISTER, kept, 2, ctypes.addressof(numbers), 1)
    found["buffers"] = call(REGISTER, kept, 0, ctypes.addressof(buffers), 1)
    return found
"""


def test_an_import_that_finds_the_ring_can_but_spoil_it(
    serve: Serve, code_dir: Path
) -> None:
    (code_dir / "finds.py").write_text(_AT_IMPORT + _TAKES_IT)
    server = serve("finds.handler", "--fresh", code_dir=code_dir)
    zygote = server.zygote.pid
    expected = {**FOUND, "buffers": "done"}
    assert server.invoke().json() == expected
    assert len(rings.rings_of(zygote)) == 1

    def is_given_up() -> bool:
        assert server.invoke().json() == expected
        return not rings.rings_of(zygote)

    wait_until(is_given_up, 30, "that the zygote has given the ring up")
    assert server.invoke().json() == expected
    assert server.zygote.pid == zygote


def test_a_worker_that_is_passed_the_ring_can_but_spoil_it(
    serve: Serve, code_dir: Path
) -> None:
    (code_dir / "finds.py").write_text(_AT_IMPORT + _PASSES_IT_ON)
    server = serve("finds.handler", "--fresh", code_dir=code_dir)
    zygote = server.zygote.pid
    expected = {**FOUND, "enter": "ENOSYS", "buffers": "done"}
    assert server.invoke().json() == expected
    assert len(rings.rings_of(zygote)) == 2
    expected["buffers"] = "EBUSY"

    def is_given_up() -> bool:
        assert server.invoke().json() == expected
        # That of the import stays.
        return len(rings.rings_of(zygote)) == 1

    wait_until(is_given_up, 30, "that the zygote has given the ring up")
    assert server.invoke().json() == expected
    assert server.zygote.pid == zygote


_SLOW = {"root-in-docker", "root-in-kubernetes", "user-in-docker", "user-in-kubernetes"}


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in _SLOW else ())
        for name in LEVELS
    ]
)
def arena(request: pytest.FixtureRequest) -> Iterator[Arena]:
    level = LEVELS[request.param]
    if reason := missing(level) or landlock.reason():
        # Without Landlock nobody but root looks into workers.
        pytest.skip(f"{level.name}: {reason}")
    made = Arena(level, "standard", "--fresh")
    yield made
    made.close()


def test_pages_are_held_where_there_are_rings_and_workers_can_be_looked_into(
    arena: Arena,
) -> None:
    def invoke() -> None:
        assert arena.invoke({"do": "echo", "text": "here"}).body == b"here"

    invoke()
    zygote = arena.server.zygote.pid
    if arena.level.name in ("root-in-docker", "user-in-docker"):
        assert rings.rings_of(zygote) == []
        return
    assert len(rings.rings_of(zygote)) == 1
    # Its workers are other users, and it may not look into these: CAP_SYS_PTRACE.
    is_held = arena.level.name != "root-in-kubernetes"

    def is_decided() -> bool:
        invoke()
        return rings.held_kb(zygote) > 0 or not rings.rings_of(zygote)

    wait_until(is_decided, 50, "a decision")
    assert bool(rings.held_kb(zygote)) == is_held
    assert len(rings.rings_of(zygote)) == is_held
    invoke()
