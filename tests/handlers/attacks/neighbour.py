"""The victim: an invocation in flight that keeps secrets wherever functions keep them."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from means import LIBC, set_name, syscall, wait_for

#: In the memory of the zygote before any worker is forked. In two pieces, so that
#: nothing but the finished value looks like it.
VOW = bytearray(b"UNTOUCHED" + b"-MEMORY")

_IPC_PRIVATE, _IPC_CREAT, _IPC_RMID = 0, 0o1000, 0
_KEYRING_OF_USER, _SET_TIMEOUT = -4, 15
#: The same for all, so that an attack need not guess.
SHM_KEY = 0x15015


def hold(asked: dict[str, Any], context: Any) -> dict[str, Any]:
    """Keep secrets, hold still until the gate opens, and tell what has happened."""
    set_name("neighbour")
    mark = asked["mark"]
    secret = asked["secret"]
    with ExitStack() as kept, _listening(mark) as abstract, _listening_at() as path:
        for keep in (_in_files, _in_shared_memory, _in_a_keyring, _in_a_queue):
            with suppress(OSError):
                keep(mark, kept.callback)
        print(f"holding {asked['id']} {tempfile.gettempdir()}", flush=True)
        wait_for(asked["gate"], 20)
        visitors = _visitors(abstract) + _visitors(path)
    return {
        "secret": secret,
        "key": context.credentials.access_key_secret,
        "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "vow": VOW.decode(),
        "visitors": visitors,
    }


Clean = Callable[..., Any]


def _in_files(mark: str, clean: Clean) -> None:
    for folder, kind in (
        (tempfile.gettempdir(), "own"),
        ("/tmp", "tmp"),
        ("/dev/shm", "shm"),
    ):
        with suppress(OSError):
            path = f"{folder}/isoruntime-test-{mark}"
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(fd, f"CANARY-{kind}-{mark}".encode())
            os.close(fd)
            clean(os.unlink, path)


def _in_shared_memory(mark: str, clean: Clean) -> None:
    number = LIBC.shmget(SHM_KEY, 4096, _IPC_CREAT | 0o600)
    if number < 0:
        return
    clean(LIBC.shmctl, number, _IPC_RMID, None)
    LIBC.shmat.restype = ctypes.c_void_p
    address = LIBC.shmat(number, None, 0)
    text = f"CANARY-sysv-{mark}".encode()
    if address not in (None, ctypes.c_void_p(-1).value):
        ctypes.memmove(address, text, len(text))
        clean(LIBC.shmdt, ctypes.c_void_p(address))


def _in_a_keyring(mark: str, clean: Clean) -> None:
    # A name of its own: an expired key of the same name would be in the way.
    name = f"isoruntime-test-{mark}".encode()
    text = f"CANARY-keyring-{mark}".encode()
    key = syscall("add_key", b"user", name, text, len(text), _KEYRING_OF_USER)
    syscall("keyctl", _SET_TIMEOUT, key, 20)


def _in_a_queue(mark: str, clean: Clean) -> None:
    text = f"CANARY-mqueue-{mark}".encode()
    library = ctypes.CDLL("librt.so.1", use_errno=True)
    queue = library.mq_open(b"/isoruntime-test", os.O_RDWR | os.O_CREAT, 0o600, None)
    if queue >= 0:
        clean(library.mq_unlink, b"/isoruntime-test")
        library.mq_send(queue, text, len(text), 0)
        clean(os.close, queue)


def _listening(mark: str) -> socket.socket:
    return _listener("\0isoruntime-test-" + mark)


def _listening_at() -> socket.socket:
    return _listener(f"{tempfile.gettempdir()}/isoruntime-test.sock")


def _listener(address: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.setblocking(False)
    with suppress(OSError):
        made.bind(address)
        made.listen()
    return made


def _visitors(listener: socket.socket) -> int:
    try:
        listener.accept()[0].close()
    except OSError:
        return 0
    return 1
