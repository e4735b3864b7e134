"""`bootstrap`, the start command: ours, and what has to be right about anybody's.

The platform runs it as a program, so that an editor or a checkout on another system can
spoil it without a visible trace.
"""

from __future__ import annotations

from pathlib import Path

from isoruntime.errors import CannotPackage
from isoruntime.typed import Final

NAME: Final = "bootstrap"
#: The checkout's own script: a link to it there, a copy of it in what is installed.
_OURS: Final = Path(__file__).with_name(NAME)
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def ours() -> bytes:
    """Return the script that starts isoruntime.

    Raises:
        CannotPackage: this isoruntime was copied without it.
    """
    try:
        return _OURS.read_bytes()
    except FileNotFoundError:
        problem = f"{_OURS} is missing: install isoruntime whole, with pip"
        raise CannotPackage([problem]) from None


def mended(script: bytes) -> tuple[bytes, list[str]]:
    """Return the script as the platform can start it, and what had to be done.

    What is no script, such as a compiled program, stays as it is.
    """
    remarks = []
    if script.startswith(_BYTE_ORDER_MARK + b"#!"):
        script = script.removeprefix(_BYTE_ORDER_MARK)
        remarks.append("the byte order mark before its first line is taken out")
    if script.startswith(b"#!") and b"\r\n" in script:
        script = script.replace(b"\r\n", b"\n")
        remarks.append("its line endings, CRLF, are made LF")
    return script, remarks
