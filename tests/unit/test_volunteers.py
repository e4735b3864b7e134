"""Who volunteers to be ended first, when real processes fork one another."""

from __future__ import annotations

import os
from pathlib import Path

from isoruntime.zygote.volunteers import Volunteering


def value_of(pid: int) -> str:
    return Path(f"/proc/{pid}/oom_score_adj").read_text().strip()


def test_what_is_forked_volunteers_and_who_forks_does_not() -> None:
    usual = value_of(os.getpid())
    volunteering = Volunteering()
    ends, end = os.pipe()
    volunteering.begin()
    pid = os.fork()
    if pid == 0:
        os.close(end)
        os.read(ends, 1)
        os._exit(0)
    volunteering.end()
    assert (value_of(pid), value_of(os.getpid())) == ("1000", usual)
    os.close(end)
    os.waitpid(pid, 0)
    os.close(ends)
