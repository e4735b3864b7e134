"""What `serve --reload` reads once more when it has changed."""

from __future__ import annotations

from isoruntime.cli.functions import functions_of
from isoruntime.reload.reloading import Reloading
from isoruntime.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from isoruntime.function import Described
    from isoruntime.runtime import Runtime
    from isoruntime.settings import Settings


def reloading_with(
    settings: Settings, flags: Mapping[str, object], environ: Mapping[str, str]
) -> Callable[[Runtime], Reloading]:
    """Return what makes the reloading of a runtime that was told this."""
    # As it was at the start: what is secret in the process's own is overwritten then.
    environ = dict(environ)

    def described() -> Sequence[Described]:
        return functions_of(settings, flags, environ, is_told=True)

    def reloading(runtime: Runtime) -> Reloading:
        manifest_dir = settings.code_dir if settings.gateway else None
        return Reloading(runtime.loop, runtime.functions, manifest_dir, described)

    return reloading
