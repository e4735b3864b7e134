"""Reloading: which functions a change concerns, and what becomes of it, in the log."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial

from isoruntime.errors import HandlerNotLoaded, InvalidSettings
from isoruntime.reload.look import Folder
from isoruntime.reload.settings import after_restart, in_place, is_same
from isoruntime.reload.watcher import Watcher
from isoruntime.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from isoruntime.errors import InvocationError
    from isoruntime.function import Described, Function
    from isoruntime.loop import Loop

#: The functions as they are described now.
ReadAgain = Callable[[], "Sequence[Described]"]

_MANIFESTS: Final = ("s.yaml", "s.yml", "s.json")
_MOST_NAMED: Final = 3

_log = logging.getLogger("isoruntime.reload")


class Reloading:
    """Has functions reloaded whose files, or whose part of an s.yaml, have changed."""

    def __init__(
        self,
        loop: Loop,
        functions: Sequence[Function],
        manifest_dir: str | None,
        read_again: ReadAgain,
    ) -> None:
        """`manifest_dir` is where an s.yaml counts; None if none does."""
        self._loop = loop
        self._functions = functions
        self._read_again = read_again
        folder = os.path.realpath(manifest_dir) if manifest_dir else ""
        self._manifests = [f"{folder}/{name}" for name in _MANIFESTS if folder]
        not_code = frozenset(self._manifests)
        self._code_dirs = {
            function: os.path.realpath(function.settings.code_dir)
            for function in functions
        }
        self._watcher = Watcher(
            loop,
            [
                Folder(path, not_code=not_code)
                for path in dict.fromkeys(self._code_dirs.values())
            ],
            self._manifests,
            self._prepare,
        )

    def start(self) -> None:
        """Watch, from now on; what has changed since this was made is noticed."""
        self._watcher.start()
        hint = "" if self._watcher.is_told else "; isoruntime[reload] sees them sooner"
        folders = list(dict.fromkeys(self._code_dirs.values()))
        _log.info("reloading when files change in %s%s", ", ".join(folders), hint)

    def close(self) -> None:
        """Watch no more."""
        self._watcher.close()

    def _prepare(self, paths: list[str]) -> Callable[[], object]:
        """Read what has to be read; in the watcher's thread, since it takes a while."""
        if not any(path in self._manifests for path in paths):
            return partial(self._changed, paths, None)
        try:
            described = self._read_again()
        except InvalidSettings as error:
            return partial(self._misread, paths, error.problems)
        except Exception as error:  # noqa: BLE001 - nobody would hear of it in a thread
            problem = f"the manifest cannot be read ({error!r}): please report it"
            return partial(self._misread, paths, [problem])
        return partial(self._changed, paths, described)

    # In the loop.

    def _misread(self, paths: list[str], problems: Sequence[str]) -> None:
        for problem in problems:
            _log.error("%s", problem)
        _log.error("what the manifest said before holds until this is mended")
        self._changed([path for path in paths if path not in self._manifests], None)

    def _changed(self, paths: list[str], described: Sequence[Described] | None) -> None:
        if any(function.dispatcher.is_draining for function in self._functions):
            return
        by_name = {each.name: each for each in described or ()}
        if described is not None:
            self._say_who_came_and_went(by_name)
        is_for_somebody = False
        for function in self._functions:
            wanted = by_name.get(function.name)
            if wanted is not None:
                wanted = self._as_far_as_possible(function, wanted)
            why = self._code_of(function, paths)
            if wanted is not None and not is_same(wanted, function.wanted):
                why += [path for path in paths if path in self._manifests]
            if why:
                is_for_somebody = True
                self._reload(function, wanted, self._shown(why))
        if not is_for_somebody and described is not None:
            _log.info("%s: nothing to reload for", self._shown(paths))

    def _say_who_came_and_went(self, by_name: dict[str, Described]) -> None:
        served = {function.name for function in self._functions}
        for names, what in (
            (by_name.keys() - served, "is not served yet"),
            (served - by_name.keys(), "is served still"),
        ):
            for name in sorted(names):
                _log.warning("%s %s: restart the runtime for that", name, what)

    def _as_far_as_possible(self, function: Function, wanted: Described) -> Described:
        names = after_restart(function.described, wanted)
        if names:
            _log.warning(
                "%schanged, but only a restart of the runtime applies it: %s",
                function.whose,
                ", ".join(names),
            )
        return in_place(function.described, wanted)

    def _code_of(self, function: Function, paths: list[str]) -> list[str]:
        inside = self._code_dirs[function].rstrip("/") + "/"
        return [
            path
            for path in paths
            if path.startswith(inside) and path not in self._manifests
        ]

    def _reload(self, function: Function, wanted: Described | None, shown: str) -> None:
        began_at = self._loop.now()

        def say(error: InvocationError | None) -> None:
            whose = function.whose
            if error is None:
                took_ms = (self._loop.now() - began_at) * 1000
                _log.info("%sreloaded in %.0f ms (%s)", whose, took_ms, shown)
            elif function.pool.has_workers:
                _log.error(
                    "%snot reloaded (%s): %s; the code before it serves on until this "
                    "is mended",
                    whose,
                    shown,
                    _why(error),
                )

        function.reload(wanted, say)

    def _shown(self, paths: Sequence[str]) -> str:
        roots = sorted(set(self._code_dirs.values()), key=len, reverse=True)
        names = []
        for path in paths[:_MOST_NAMED]:
            root = next((each for each in roots if path.startswith(f"{each}/")), "")
            names.append(path[len(root) + 1 :] if root else os.path.basename(path))  # noqa: PTH119 - a text
        more = len(paths) - len(names)
        return ", ".join(names) + (f" and {more} more" if more else "")


def _why(error: InvocationError) -> str:
    """Return why code does not load, to somebody who has just written it."""
    if isinstance(error, HandlerNotLoaded):
        return error.reason
    verdict = error.verdict
    if verdict is not None and verdict.signal:
        return f"its import was ended by {verdict.signal}"
    if verdict is not None and verdict.exit_code is not None:
        return f"its import ended the process with code {verdict.exit_code}"
    return str(error)
