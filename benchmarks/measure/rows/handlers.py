"""Row 12: every kind of function, next to what people run it with today.

The same application or program on both sides, and the same number of processes of it:
two for each core, which is about what gunicorn's own documentation advises.
"""

from __future__ import annotations

import os
from typing import Final

from benchmarks.measure.contenders import Contenders
from benchmarks.measure.invocation import EVENT, HEADERS, SMALL, Request
from benchmarks.measure.loading import RATE, Level, Loaded, measure_loads
from benchmarks.measure.peers import Peer
from benchmarks.measure.rounds import Session
from benchmarks.measure.row import Row
from benchmarks.measure.samples import (
    Finding,
    Samples,
    absolute,
    at_least,
    at_most,
    ratio,
)

_PROCESSES: Final = str(2 * (os.cpu_count() or 1))
_WORKERS: Final = ("--max-workers", _PROCESSES)
_ONE: Final = Level(1)
_EIGHT: Final = Level(8)
_P50: Final = "p50 ms"

_CAT: Final = ("/bin/cat",)
_ECHOED: Final = Request(EVENT, EVENT)
#: What the platform sends for an HTTP trigger; the path is the application's own.
_PAGE: Final = SMALL._replace(headers={**HEADERS, "x-fc-control-path": "/http-invoke"})

COMMAND: Final = "isoruntime, `/bin/cat`"
RUN: Final = "`subprocess.run`, `/bin/cat`, waitress"
UPSTREAM_FLASK: Final = "isoruntime, upstream Flask's server"
UPSTREAM_GUNICORN: Final = "isoruntime, upstream gunicorn, Flask"
UPSTREAM_UWSGI: Final = "isoruntime, upstream uWSGI, Flask"
WSGI: Final = "isoruntime, WSGI Flask"
ASGI: Final = "isoruntime, ASGI Starlette"
FLASK: Final = "Flask's server"
GUNICORN: Final = "gunicorn, Flask"
UVICORN: Final = "uvicorn, Starlette"


def measure(session: Session) -> Samples:
    """Measure all kinds and what they are compared with at 1 and 8 connections."""
    who = session.contenders
    peers: list[tuple[Peer, Request]] = [
        (who.kind(COMMAND, "--command", "--", *_CAT), _ECHOED),
        (who.commanding(RUN, *_CAT), _ECHOED),
        *((one, _PAGE) for one in _applications(who)),
        *((one, SMALL) for one in _servers(who)),
    ]
    return measure_loads(
        [Loaded(peer, [_ONE, _EIGHT], request) for peer, request in peers], session
    )


def _applications(who: Contenders) -> list[Peer]:
    return [
        who.kind(WSGI, "--http", "flask_app.app", *_WORKERS),
        who.kind(ASGI, "--http", "starlette_app.app", *_WORKERS),
    ]


def _servers(who: Contenders) -> list[Peer]:
    served = (*_WORKERS, "--upstream", "--")
    python, gunicorn = who.peer_program("python"), who.peer_program("gunicorn")
    application = ("flask_app:app",)
    return [
        who.kind(UPSTREAM_FLASK, *served, python, "flask_app.py"),
        who.kind(
            UPSTREAM_GUNICORN,
            *served,
            *(gunicorn, "--bind", "unix:{socket}", *application),
        ),
        who.kind(
            UPSTREAM_UWSGI,
            *served,
            *(who.peer_program("uwsgi"), "--http11-socket", "127.0.0.1:{port}"),
            *("--need-app", "--die-on-term", "--disable-logging"),
            *("--module", *application),
        ),
        who.serving(FLASK, "python", "flask_app.py"),
        who.serving(
            GUNICORN,
            "gunicorn",
            "--bind",
            "127.0.0.1:{port}",
            "--workers",
            _PROCESSES,
            *application,
        ),
        who.serving(
            UVICORN,
            *("uvicorn", "--port", "{port}", "--workers", _PROCESSES),
            *("--log-level", "warning", "starlette_app:app"),
        ),
    ]


def judge(samples: Samples) -> list[Finding]:
    """Compare each kind with whoever runs the same today."""
    rate = _EIGHT.metric(RATE)
    alone = _ONE.metric(_P50)

    def over(ours: str, theirs: str, least: float) -> Finding:
        what = f"calls/s at 8 connections: {ours}, over {theirs}"
        return ratio(samples, what, ours, theirs, rate, at_least(least))

    what = "p50 at 1 connection: a command, `/bin/cat`"
    return [
        absolute(samples, what, COMMAND, alone, at_most(3), "ms"),
        over(COMMAND, RUN, 1),
        over(UPSTREAM_FLASK, FLASK, 1),
        # A server that keeps the connection to its worker; those that do not pay for it.
        over(UPSTREAM_UWSGI, GUNICORN, 0.7),
        over(UPSTREAM_GUNICORN, GUNICORN, 0.7),
        over(WSGI, GUNICORN, 0.9),
    ]


ROW: Final = Row(
    "handlers",
    "Commands, servers and applications",
    measure,
    judge,
    reference=(GUNICORN, _EIGHT.metric(RATE)),
)
