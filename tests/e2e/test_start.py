"""What a real start does not wait for, from exec to the first answer."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.server import Serve

HANDLER = "def handler(event, context):\n    return event\n"
#: Seen to take a hundredth of a start or more, and of no use there.
SLOW = {
    *("typing", "dataclasses", "inspect", "pathlib", "tempfile"),
    *("argparse", "asyncio", "concurrent.futures", "multiprocessing", "random"),
}
#: The front end's waitress does need some of what nobody needs to fork workers.
SLOW_IN_FRONT = SLOW | {
    *("datetime", "encodings.idna", "gettext", "locale", "subprocess", "textwrap"),
}
SLOW_IN_ZYGOTE = SLOW | {
    *("socket", "selectors", "signal", "logging", "importlib.util", "subprocess"),
}


def imported(said: bytes) -> set[str]:
    """Return which modules `-X importtime` tells of."""
    return set(re.findall(r"import time: +\d+ \| +\d+ \| +(\S+)", said.decode()))


def test_neither_process_imports_what_takes_long(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(HANDLER)
    server = serve(
        "index.handler",
        *("--env", "PYTHONPROFILEIMPORTTIME"),
        code_dir=tmp_path,
        env={"PYTHONPROFILEIMPORTTIME": "1"},
    )
    assert server.invoke(b"first", request_id="1").body == b"first"
    in_front, in_zygote = imported(server.stderr.read()), imported(server.stdout.read())
    assert "isoruntime.frontend.routes" in in_front
    assert "isoruntime.zygote.server" in in_zygote
    assert in_front & SLOW_IN_FRONT == set()
    assert in_zygote & SLOW_IN_ZYGOTE == set()
