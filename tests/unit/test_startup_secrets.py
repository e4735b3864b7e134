"""Where the secrets of the start are looked for, and when they are left alone."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from isoruntime.sandbox import startup_secrets


def test_nothing_chosen_is_nothing_changed() -> None:
    before = Path("/proc/self/environ").read_bytes()
    assert startup_secrets.overwrite_environment(frozenset()) == 0
    assert startup_secrets.overwrite_environment(lambda name: False) == 0
    assert startup_secrets.overwrite_arguments(["", "no such argument"]) == 0
    assert Path("/proc/self/environ").read_bytes() == before


def test_a_block_is_trusted_only_if_it_is_what_the_kernel_shows(tmp_path: Path) -> None:
    shown = Path("/proc/self/environ").read_bytes()
    at = startup_secrets._ENVIRONMENT_AT
    (tmp_path / "same").write_bytes(shown)
    (tmp_path / "other").write_bytes(shown[:-2] + b"?\0")
    (tmp_path / "longer").write_bytes(shown + b"A=1\0")
    (tmp_path / "empty").write_bytes(b"")

    found = startup_secrets._block(at, str(tmp_path / "same"))
    assert found is not None
    assert ctypes.string_at(found.address, len(shown)) == shown
    for name in ("other", "longer", "empty", "missing"):
        assert startup_secrets._block(at, str(tmp_path / name)) is None
    # A field that is no address at all.
    assert startup_secrets._block(0, str(tmp_path / "same")) is None


def test_memory_that_cannot_be_written_is_told_from_such_that_can() -> None:
    buffer = ctypes.create_string_buffer(16)
    address = ctypes.addressof(buffer)
    assert startup_secrets._is_writable(address, address + 16)
    assert not startup_secrets._is_writable(0, 16)
    assert not startup_secrets._is_writable(address, address + (1 << 46))
    code = next(
        line
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "r-x" in line
    )
    start = int(code.partition("-")[0], 16)
    assert not startup_secrets._is_writable(start, start + 8)
    assert os.getpid() > 0
