"""Who volunteers to be ended first, when real processes fork one another."""

from __future__ import annotations

import os
from pathlib import Path

from isoruntime.zygote.volunteers import Volunteering


def value_of(pid: int) -> str:
    return Path(f"/proc/{pid}/oom_score_adj").read_text().strip()


def test_what_is_forked_volunteers_and_who_forks_does_not() -> None:
    usual = value_of(os.getpid())
    ends, end = os.pipe()
    with Volunteering():
        pid = os.fork()
        if pid == 0:
            os.close(end)
            os.read(ends, 1)
            os._exit(0)
    assert (value_of(pid), value_of(os.getpid())) == ("1000", usual)
    os.close(end)
    os.waitpid(pid, 0)
    os.close(ends)


def test_a_child_that_comes_late_takes_it_from_nobody_forked_after_it() -> None:
    volunteering = Volunteering()
    told, tell = os.pipe()
    pid = -1
    try:
        with volunteering:
            pid = os.fork()
            if pid == 0:
                # Goes on when the next fork is about to be made.
                os.close(tell)
                os.read(told, 1)
    finally:
        if pid == 0:
            os._exit(0)
    with volunteering:
        os.close(tell)
        os.waitpid(pid, 0)
        assert value_of(os.getpid()) == "1000"
    os.close(told)
