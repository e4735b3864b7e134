"""A disk without room: what cannot be stored is refused, everything else is served."""

from __future__ import annotations

from pathlib import Path

from tests.support.server import Serve


def test_an_event_that_cannot_be_stored_is_refused_in_words(
    serve: Serve, small_disk: Path
) -> None:
    server = serve("echo.handler", env={"TMPDIR": str(small_disk)})

    reply = server.invoke(b"x" * 4_000_000)
    assert reply.status == 500
    assert "No space left on device" in reply.json()["errorMessage"]

    assert server.invoke(b"small").body == b"small"
    assert server.invoke(b"y" * 500_000).body == b"y" * 500_000


def test_a_full_temporary_folder_costs_no_invocation(
    serve: Serve, small_disk: Path
) -> None:
    filler = small_disk / "filler"
    server = serve("echo.handler", "--fresh", env={"TMPDIR": str(small_disk)})
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    try:
        for number in range(5):
            assert server.invoke(b"%d" % number).body == b"%d" % number
    finally:
        filler.unlink()
