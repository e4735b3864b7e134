"""A runtime under attack: what it is like before and after, and what differs.

One `Arena` is one running server at one privilege level under one profile. An attack
runs in one worker while another invocation, the neighbour, is in flight in a second
one. Whatever is different afterwards is damage, whatever the attack itself believes:

- front end, zygote, neighbour: gone, stopped, traced, or with other limits, priority,
  processors, score or group than before;
- the neighbour's answer is not its own, or it had visitors;
- a secret of somebody else's came out with the attack's answer or output;
- a file of the function's code, of the runtime, or of the victim's folder has changed;
- something still runs that the attack has started.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.sandbox.levels import (
    BASE,
    LAUNCH,
    Level,
    can_be_apart,
    installation,
    launcher,
    python_for,
    uid_of,
)
from tests.support.server import HANDLERS, Reply, Server
from tests.waiting import wait_until

ATTACKS = HANDLERS / "attacks"
#: What the front end has, and handlers must not: the operator's words and credentials.
_SECRET_VARIABLES = (
    "ISORUNTIME_ADMIN_TOKEN",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
    "ALIBABA_CLOUD_SECURITY_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "DATABASE_PASSWORD",
)
#: Nobody waits longer for an attack.
_AT_MOST_S = 15
#: Whoever has said nothing for so long may be stopped.
_PATIENCE_S = 1.0


class Apart(Server):
    """The runtime, started at a privilege level by launch.py."""

    @property
    def _is_apart(self) -> bool:
        return can_be_apart()

    @property
    def front_end(self) -> psutil.Process:
        """The process with the port, which has become launch.py's or its grandchild."""
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        if not self._is_apart:
            return process
        (init,) = process.children()
        for child in init.children():
            words = " ".join(child.cmdline())
            if "isoruntime serve" in words and LAUNCH.name not in words:
                return child
        raise psutil.NoSuchProcess(0, msg="the front end is gone")


class Arena:
    """One server at one level under one profile, made anew when it has taken damage."""

    def __init__(
        self,
        level: Level,
        profile: str,
        *options: str,
        base: Path = BASE,
        handler: str = "index.handler",
    ) -> None:
        """Make the folders below `base`; the server starts with the first attack."""
        self.level = level
        self.profile = profile
        self._options = options
        self._handler = handler
        self._made = ExitStack()
        self._server: Apart | None = None
        self._pool = self._made.enter_context(ThreadPoolExecutor(4))
        self._folder = Path(tempfile.mkdtemp(prefix="isoruntime-test-", dir=base))
        self._made.callback(shutil.rmtree, self._folder)
        self._folder.chmod(0o755)
        self.code = self._folder / "code"
        self.victim = self._folder / "victim"
        self.runtime = self._folder / "runtime"
        self._home = self._folder / "home"
        self._shared = Path("/tmp", f"{self._folder.name}-shared")
        self._made.callback(shutil.rmtree, self._shared, ignore_errors=True)
        self.gates = self.code / "gates"
        self._gate_number = 0
        self._settle()

    # The ground

    def _settle(self) -> None:
        """Put code, gates and a victim's folder in place, as new."""
        for folder in (self.code, self.victim, self.runtime):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(installation(), self.runtime)
        shutil.copytree(
            ATTACKS, self.code, ignore=shutil.ignore_patterns("__pycache__")
        )
        (self.code / "victim.py").write_text("vow = True\n")
        self.gates.mkdir()
        self.victim.mkdir()
        self._home.mkdir(exist_ok=True)
        (self.victim / "file").write_text("precious\n")
        (self.victim / "folder").mkdir()
        (self.victim / "folder" / "file").write_text("precious too\n")
        private = self._folder / "private"
        private.write_text("CANARY-private-" + secrets.token_hex(8))
        private.chmod(0o600)
        if os.getuid() == 0:
            # The user's own code, as most users have it: the hardest case.
            for path in (self._folder, *self._folder.rglob("*")):
                os.lchown(path, uid_of(self.level), uid_of(self.level))
            program = self.code / "setuid-id"
            shutil.copy("/usr/bin/id", program)
            os.chown(program, 0, 0)
            program.chmod(0o4755)

    def new_gate(self) -> Path:
        """Return the path of a file that is yet to be made."""
        self._gate_number += 1
        return self.gates / str(self._gate_number)

    # The server

    @property
    def server(self) -> Apart:
        """The running server; started if there is none."""
        if self._server is None:
            self._server = self._start()
        return self._server

    def _start(self) -> Apart:
        # By a file that is removed at once: in no process but the front end's.
        self.front_mark = secrets.token_hex(8)
        secret = {one: f"CANARY-front-{self.front_mark}" for one in _SECRET_VARIABLES}
        handle, path = tempfile.mkstemp(dir=self._folder)
        with os.fdopen(handle, "w") as file:
            json.dump(secret, file)
        python = python_for(self.level)
        server = Apart(
            self._handler,
            "--sandbox",
            self.profile,
            "--timeout",
            "8",
            "--min-workers",
            "3",
            *self._options,
            code_dir=self.code,
            command=(python, "-m", "isoruntime", "serve"),
            prefix=launcher(self.level, "--variables", path),
            env={
                "PYTHONPATH": str(self.runtime),
                "ISORUNTIME_PYTHON": python,
                **self._folders(),
            },
            within=10,
        )
        server.__enter__()
        return server

    def _folders(self) -> dict[str, str]:
        """Return the variables that name a home, or that there is nothing but /tmp."""
        if self.level.has_home:
            return {"HOME": str(self._home)}
        shutil.rmtree(self._shared, ignore_errors=True)
        self._shared.mkdir()
        self._shared.chmod(0o1777)
        return {"HOME": "/nonexistent", "TMPDIR": str(self._shared)}

    def close(self) -> None:
        """End the server, proving that nothing is left, and remove the folders."""
        server, self._server = self._server, None
        try:
            if server is not None:
                server.__exit__(None, None, None)
        finally:
            self._made.close()

    def renew(self) -> None:
        """Have everything as new for the next attack, since this one did damage."""
        server, self._server = self._server, None
        if server is not None:
            server._abandon()
        self._settle()

    # Attacking

    def attack(self, name: str, **extra: Any) -> list[str]:
        """Run an attack beside a neighbour; return the damage, worst first."""
        try:
            damage = Attempt(self, name, extra).run()
        except BaseException:
            self.renew()
            raise
        if damage:
            self.renew()
        return damage

    def invoke(self, event: Mapping[str, Any], key: str = "") -> Reply:
        """Send an event on a connection of its own."""
        headers = {"x-fc-access-key-id": "id", "x-fc-access-key-secret": key or "none"}
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.server.port, timeout=_AT_MOST_S
        )
        try:
            connection.request("POST", "/invoke", json.dumps(event), headers)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def submit(self, event: Mapping[str, Any], key: str = "") -> Future[Reply]:
        """Send an event from a thread."""
        return self._pool.submit(self.invoke, event, key)


class Attempt:
    """One attack, from the first look to the last."""

    def __init__(self, arena: Arena, name: str, extra: dict[str, Any]) -> None:
        self._arena = arena
        self._server = arena.server
        self._name = name
        self._extra = extra
        self._mark = secrets.token_hex(8)
        self._id = secrets.token_hex(8)
        self._since = self._server.stdout.size()
        self.said: dict[str, Any] = {}
        self.reply: Reply | None = None

    def run(self) -> list[str]:
        """Return what was harmed."""
        try:
            return self._run()
        finally:
            # A neighbour that was killed has not done it.
            for folder in ("/tmp", "/dev/shm"):
                Path(folder, f"isoruntime-test-{self._mark}").unlink(missing_ok=True)

    def _run(self) -> list[str]:
        gates = [self._arena.new_gate(), self._arena.new_gate()]
        with _sidecars(self._arena) as sidecars:
            held = self._hold(gates[1])
            before = self._look()
            event = {**self._event(gates[0]), **sidecars.event(), **self._extra}
            attack = self._arena.submit(event)
            self._wait_for_the_attack(attack)
            during = self._look()
            self._let_go_on()
            gates[0].touch()
            damage = self._judge_attack(attack)
            gates[1].touch()
            damage += self._judge_neighbour(held)
            damage += _differences(before, during)
            damage += _differences(before, self._look())
            damage += sidecars.visitors()
        damage += self._leaks()
        damage += self._survivors()
        for gate in gates:
            gate.unlink(missing_ok=True)
        return list(dict.fromkeys(damage))

    def _hold(self, gate: Path) -> Future[Reply]:
        """Start the neighbour, and wait until it has something to lose."""
        self._secret = f"CANARY-neighbour-{self._mark}"
        self._key = f"CANARY-key-{self._mark}"
        event = {
            "do": "hold",
            "id": self._id,
            "mark": self._mark,
            "secret": self._secret,
            "gate": str(gate),
        }
        held = self._arena.submit(event, self._key)
        line = self._server.wait_for_line(f"holding {self._id}", self._since)
        self._folder_of_neighbour = line.split()[-1]
        return held

    def _event(self, gate: Path) -> dict[str, Any]:
        victims = self._victims()
        return {
            "do": self._name,
            "id": self._id,
            "gate": str(gate),
            "may_scan": can_be_apart(),
            **{name: _number_inside(process) for name, process in victims.items()},
            "code": str(self._arena.code),
            "runtime": str(self._arena.runtime),
            "victim": str(self._arena.victim),
            "private": str(self._arena.victim.parent / "private"),
            "file": f"isoruntime-test-{self._mark}",
            "folder of the neighbour": self._folder_of_neighbour,
            "port": self._server.port,
        }

    def _victims(self) -> dict[str, psutil.Process]:
        front = self._server.front_end
        (neighbour,) = _named("neighbour", front)
        return {"front": front, "zygote": self._server.zygote, "neighbour": neighbour}

    def _wait_for_the_attack(self, attack: Future[Reply]) -> None:
        tried = f"tried {self._id}".encode()
        patient_until = time.monotonic() + _PATIENCE_S

        def is_over() -> bool:
            if attack.done() or self._server.stdout.contains(tried, self._since):
                return True
            # Whoever is stopped tells nothing.
            front = state_of(self._watched["front"])
            if not front["alive"] or front["stopped"]:
                return True
            return time.monotonic() > patient_until and bool(self._stopped())

        wait_until(is_over, _AT_MOST_S, f"an end of {self._name}")

    def _stopped(self) -> list[psutil.Process]:
        """Return who is stopped: a victim, or the attack, which may have hit itself.

        Not whoever is traced: there, a signal would be its tracer's to pass on.
        """
        front = self._watched["front"]
        states = {one: state_of(one) for one in [front, *_below(front)]}
        return [
            one
            for one, state in states.items()
            if state.get("stopped") and not state["traced"]
        ]

    def _let_go_on(self) -> None:
        """Wake up whoever was stopped, now that it has been seen."""
        for process in self._stopped():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)

    # Looking

    def _look(self) -> dict[str, dict[str, Any]]:
        seen: dict[str, dict[str, Any]] = {}
        if not hasattr(self, "_watched"):
            self._watched = self._victims()
        for name, process in self._watched.items():
            # The zygote changes its own score for every worker that it forks.
            seen[f"the {name}"] = state_of(process, has_score=name != "zygote")
        seen["code"] = tree_of(self._arena.code, without=self._arena.gates)
        seen["the runtime"] = tree_of(self._arena.runtime)
        seen["the victim's folder"] = tree_of(self._arena.victim)
        return seen

    def _has_answered(self, attack: Future[Reply]) -> bool:
        wait([attack], 0.2)
        if not attack.done():
            # Woken up, it stops itself again, by the next way it knows.
            self._let_go_on()
        return attack.done()

    def _judge_attack(self, attack: Future[Reply]) -> list[str]:
        try:
            wait_until(lambda: self._has_answered(attack), _AT_MOST_S, "an answer")
            self.reply = attack.result()
        except (OSError, http.client.HTTPException) as error:
            return [f"the front end answered the attack with {error!r}"]
        if self.reply.status == 200:
            with suppress(ValueError):
                self.said = self.reply.json()
        got = self.said.get("got")
        return [f"got {got!r}"] if got else []

    def _judge_neighbour(self, held: Future[Reply]) -> list[str]:
        try:
            reply = held.result(_AT_MOST_S)
        except (OSError, TimeoutError, http.client.HTTPException) as error:
            return [f"the neighbour got no answer: {error!r}"]
        if reply.status != 200:
            return [f"the neighbour was answered {reply.status} {reply.body[:200]!r}"]
        said = reply.json()
        damage = []
        if (said["secret"], said["key"]) != (self._secret, self._key):
            damage.append(f"the neighbour's memory holds {said}")
        if said["vow"] != "UNTOUCHED-MEMORY":
            damage.append("the neighbour's memory was written to")
        if said["visitors"]:
            damage.append("the neighbour's socket had a visitor")
        return damage

    def _leaks(self) -> list[str]:
        answer = self.reply.body if self.reply is not None else b""
        seen = answer + self._server.stdout.read(self._since)
        secret = [self._mark, self._arena.front_mark]
        private = (self._arena.victim.parent / "private").read_text()
        secret.append(private.rpartition("-")[2])
        kinds = [
            "front",
            "neighbour",
            "key",
            "own",
            "tmp",
            "shm",
            "sysv",
            "keyring",
            "mqueue",
            "private",
        ]
        return [
            f"the secret {kind} came out"
            for kind in kinds
            for mark in secret
            if f"CANARY-{kind}-{mark}".encode() in seen
        ]

    def _survivors(self) -> list[str]:
        # Ours by descent; whoever has run out of parents is ours by adoption.
        try:
            wait_until(lambda: not _named("leftover", psutil.Process()), 2)
        except AssertionError:
            return ["what the attack has left behind still runs"]
        return []


class _Sidecars:
    """Listeners beside the runtime, which have nothing to do with the function."""

    def __init__(self, folder: Path, uid: int, kept: ExitStack) -> None:
        self._name = f"isoruntime-test-{secrets.token_hex(8)}"
        self._path = folder / "sidecar.sock"
        self._path.unlink(missing_ok=True)
        self.tcp = kept.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.udp = kept.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.udp.bind(("127.0.0.1", 0))
        self.abstract = kept.enter_context(socket.socket(socket.AF_UNIX))
        self.abstract.bind("\0" + self._name)
        self.abstract.listen()
        self.path = kept.enter_context(socket.socket(socket.AF_UNIX))
        self.path.bind(str(self._path))
        self.path.listen()
        # As its owner, who is the runtime's user, would have it.
        self._path.chmod(0o600)
        if os.getuid() == 0:
            os.chown(self._path, uid, uid)
        for one in (self.tcp, self.udp, self.abstract, self.path):
            one.setblocking(False)

    def event(self) -> dict[str, Any]:
        return {
            "tcp": self.tcp.getsockname()[1],
            "udp": self.udp.getsockname()[1],
            "abstract": [self._name],
            "paths": [str(self._path)],
        }

    def visitors(self) -> list[str]:
        """Return who was visited."""
        found = []
        for name in ("tcp", "abstract", "path"):
            with suppress(OSError):
                getattr(self, name).accept()[0].close()
                found.append(f"the sidecar's {name} socket had a visitor")
        with suppress(OSError):
            self.udp.recv(16)
            found.append("the sidecar's udp socket had a visitor")
        return found


@contextmanager
def _sidecars(arena: Arena) -> Iterator[_Sidecars]:
    with ExitStack() as kept:
        yield _Sidecars(arena.victim.parent, uid_of(arena.level), kept)


def _name_of(process: psutil.Process) -> str:
    try:
        return str(Path(f"/proc/{process.pid}/comm").read_text().strip())
    except OSError:
        return ""


def _named(name: str, above: psutil.Process) -> list[psutil.Process]:
    """Return the descendants of a process that call themselves so."""
    return [one for one in _below(above) if _name_of(one) == name]


def _below(above: psutil.Process) -> list[psutil.Process]:
    try:
        return above.children(recursive=True)
    except (psutil.NoSuchProcess, ProcessLookupError):
        # One of them ended while psutil looked.
        return _below(above) if above.is_running() else []


def _number_inside(process: psutil.Process) -> int:
    """Return a process's number in the namespace of the runtime."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = (one for one in status.splitlines() if one.startswith("NSpid:"))
    numbers = line.split()[1:]
    return int(numbers[1] if can_be_apart() else numbers[0])


def state_of(process: psutil.Process, *, has_score: bool = False) -> dict[str, Any]:
    """Return what others could have done to a process."""
    at = Path(f"/proc/{process.pid}")
    try:
        status = dict(
            line.split(":\t", 1)
            for line in (at / "status").read_text().splitlines()
            if ":\t" in line
        )
        if not process.is_running() or status["State"][0] in "ZX":
            return {"alive": False}
        score = (at / "oom_score_adj").read_text() if has_score else ""
        return {
            "alive": True,
            "score for the OOM killer": score,
            "stopped": status["State"][0] in "Tt" or _is_to_stop(status),
            "traced": status["TracerPid"].strip() != "0",
            "niceness": process.nice(),
            "processors": status["Cpus_allowed"],
            "policy": os.sched_getscheduler(process.pid),
            "priority of input": _input_priority(process),
            "limits": (at / "limits").read_text(),
            "groups": (at / "cgroup").read_text(),
        }
    except (OSError, psutil.Error):
        return {"alive": False}


def _is_to_stop(status: Mapping[str, str]) -> bool:
    """Return whether a process stops as soon as it gets a processor."""
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    return bool(pending & 1 << signal.SIGSTOP - 1)


def _input_priority(process: psutil.Process) -> Any:
    try:
        return process.ionice()
    except psutil.AccessDenied:
        return None


def _differences(
    before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]
) -> list[str]:
    found = []
    for who, state in after.items():
        if before[who].get("alive") and not state.get("alive", True):
            found.append(f"{who} died")
            continue
        for what in {**before[who], **state}:
            was, is_now = before[who].get(what), state.get(what)
            if was != is_now:
                short = "" if len(str(is_now)) > 40 else f": {was} -> {is_now}"
                found.append(f"{who} has another {what}{short}")
    return found


def tree_of(folder: Path, without: Path | None = None) -> dict[str, Any]:
    """Return what is below a folder: kind, rights, owner, size and times.

    Nobody sets the time of change, which moves with the content and all the rest.
    """
    found: dict[str, Any] = {}
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if without is not None and entry.path == str(without):
                    continue
                facts = entry.stat(follow_symlinks=False)
                is_folder = entry.is_dir(follow_symlinks=False)
                kept = (facts.st_mode, facts.st_uid, facts.st_nlink)
                # Not the times of folders: what is put in one and taken out moves them.
                file = (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
                found[os.path.relpath(entry.path, folder)] = (
                    kept if is_folder else kept + file
                )
                if is_folder:
                    waiting.append(entry.path)
    return found


#: Arenas by level and profile, for as long as attack follows attack.
_open: dict[tuple[str, ...], Arena] = {}
_lock = threading.Lock()


def arena_for(level: Level, profile: str, *options: str, base: Path = BASE) -> Arena:
    """Return the arena of a level and profile, the same one as the last time."""
    key = (level.name, profile, str(base), *options)
    with _lock:
        if key not in _open:
            # One at a time: what the last one proves at its end, it proves now.
            close_all()
            _open[key] = Arena(level, profile, *options, base=base)
        return _open[key]


def close_all() -> None:
    """End every arena."""
    while _open:
        _open.popitem()[1].close()
