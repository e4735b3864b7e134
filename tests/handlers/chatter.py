"""Say a word in every way a process can, from Python, from C and from a child."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
from typing import Any

libc = ctypes.CDLL(None)


def say(word: str) -> None:
    print(f"print {word}")
    print(f"stderr {word}", file=sys.stderr)
    logging.getLogger("chatter").info("logging %s", word)
    sys.stdout.flush()
    os.write(1, f"write {word}\n".encode())
    libc.dprintf(2, b"native %s\n", word.encode())
    libc.puts(f"buffered {word}".encode())
    libc.fflush(None)
    command = f"echo child {word}; echo child-stderr {word} >&2"
    subprocess.run(["sh", "-c", command], check=True)


def handler(event: bytes, context: Any) -> bytes:
    way, _, word = event.decode().partition(" ")
    if way == "say":
        say(word)
    elif way == "raise":
        raise ValueError(word)
    elif way == "die":
        print(f"print {word}", flush=True)
        os._exit(3)
    elif way == "hang":
        print(f"print {word}", flush=True)
        while True:
            pass
    return event
