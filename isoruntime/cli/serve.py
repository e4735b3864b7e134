"""isoruntime serve: the runtime, from its words and variables to its exit code.

A cold start is waited for, and most of it is imports. So the zygote's interpreter is
started before anything else is imported, on another core; what it is to load, and
whether there is anything to load at all, it is told later.
"""

from __future__ import annotations

import gc
import os

from isoruntime.environment import environment_for_workers, on_fc
from isoruntime.postponed import postpone
from isoruntime.typed import TYPE_CHECKING
from isoruntime.zygote.spawn import spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from isoruntime.function import Described
    from isoruntime.runtime import Reloading, Runtime
    from isoruntime.settings import Settings
    from isoruntime.zygote.spawn import Spawned

#: Words that ask for something to read, for which nothing need be started.
_TO_READ = frozenset({"-h", "--help", "--version"})


def main(argv: Sequence[str]) -> int:
    """Read the settings and serve; 2 with every problem listed if they are bad."""
    # Of what a start makes, hardly anything is garbage. Serving turns it on again.
    gc.disable()
    ahead = None if _TO_READ & set(argv) else spawn_ahead()
    postpone()
    # Only here, now that the zygote is on its way.
    from isoruntime.cli.options import parse
    from isoruntime.cli.text import BAD_USAGE, complain, serve_help
    from isoruntime.cli.version import version_line
    from isoruntime.errors import InvalidSettings
    from isoruntime.settings import read_settings

    flags, problems = parse(argv)
    if flags.pop("help", False):
        print(serve_help())
        return 0
    if flags.pop("version", False):
        print(version_line())
        return 0
    try:
        settings = read_settings(flags, os.environ)
    except InvalidSettings as error:
        problems += error.problems
    functions: Sequence[Described] = ()
    if not problems and settings.gateway:
        from isoruntime.cli.functions import functions_of

        try:
            functions = functions_of(settings, flags, os.environ)
        except InvalidSettings as error:
            problems += error.problems
    if problems:
        # A zygote that was started ends when this process does, with nothing loaded.
        complain(problems)
        return BAD_USAGE
    reloading = None
    if settings.reload:
        from isoruntime.cli.reloading import reloading_with

        reloading = reloading_with(settings, flags, os.environ)
    return run(settings, os.environ, ahead, functions, reloading)


def spawn_ahead() -> Spawned | None:
    """Start the zygote's process; what `--env` adds it is told with its order."""
    variables, _ = environment_for_workers(os.environ, (), on_fc(os.environ))
    try:
        return spawn(variables)
    except OSError:
        # The pool tries again when it can say what is wrong, and go on without.
        return None


def run(
    settings: Settings,
    environ: Mapping[str, str],
    ahead: Spawned | None = None,
    functions: Sequence[Described] = (),
    reloading: Callable[[Runtime], Reloading] | None = None,
) -> int:
    """Return 0 after a drain, 1 if the runtime could not go on, 2 if not started."""
    from isoruntime.cli.text import BAD_USAGE, complain
    from isoruntime.errors import ConfigurationError

    # The socket before the rest, which takes as long again: the platform waits for it.
    from isoruntime.frontend.sockets import listen

    try:
        demand_isolation(settings, environ)
        sockets = listen(settings.host, settings.port)
        admin = listen(*settings.admin) if settings.admin else []

        from isoruntime.runtime import Begun, serve

        begun = Begun(sockets, ahead, admin)
        return serve(settings, environ, begun, functions, reloading)
    except ConfigurationError as error:
        complain(str(error).splitlines())
        return BAD_USAGE


def demand_isolation(settings: Settings, environ: Mapping[str, str]) -> None:
    """Refuse to run strangers' code with less protection than was asked for."""
    if settings.sandbox != "strict" and settings.network == "host":
        return
    # It tries everything with real processes; the usual start does not wait for that.
    from isoruntime.cli.isolation import broken_promises
    from isoruntime.errors import SandboxUnavailable

    problems = broken_promises(settings, environ)
    if problems:
        raise SandboxUnavailable(problems)
