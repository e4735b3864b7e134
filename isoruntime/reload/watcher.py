"""The watcher: a thread that looks at files, and tells the loop what has changed.

It says so when the files have come to rest, since a checkout or an installation changes
thousands of them one after the other. With the `watchfiles` package the system says when
to look. Without it the watcher looks by itself, and never for more than a small part of
the time: the more files there are, the longer the pauses.

What changed is always found by looking: what the system tells of changes says nothing of
links to other places, and on some file systems nothing at all.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from isoruntime.reload.look import Folder, Look, changed, mark_of
from isoruntime.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from isoruntime.loop import Loop

#: Pauses between looks are at least so long, and so many times what a look takes.
_PAUSE_S: Final = 0.25
_PAUSES_PER_LOOK: Final = 20
#: Files are at rest that look the same for so long.
_REST_S: Final = 0.05
#: Those that never rest are not waited for longer than this.
_LONGEST_UNREST_S: Final = 10.0
#: Pauses between looks that nobody has asked for, where the system says when to look.
_UNTOLD_S: Final = 1.0
_STEP_MS: Final = 50
_STOP_S: Final = 5.0


class Watcher:
    """Looks at folders, and at a few single files."""

    def __init__(
        self,
        loop: Loop,
        folders: Sequence[Folder],
        files: Sequence[str],
        prepare: Callable[[list[str]], Callable[[], object]],
    ) -> None:
        """Take the first look: what the code is loaded from is what is there now.

        `prepare` is called in the watcher's thread with the paths that have changed;
        what it returns is called in the loop.
        """
        self._loop = loop
        self._folders = folders
        self._files = files
        self._prepare = prepare
        self._took_s = 0.0
        self._known = self._look()
        self._is_over = threading.Event()
        self._for_loop: deque[Callable[[], object]] = deque()
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        #: whether the system says when to look
        self.is_told = _has_watchfiles()
        self._thread = threading.Thread(
            target=self._run, name="isoruntime-reload", daemon=True
        )

    def start(self) -> None:
        """Go on looking."""
        self._loop.watch(self._wake_r, self._woken)
        self._thread.start()

    def close(self) -> None:
        """Look no more; nothing is told after this."""
        self._is_over.set()
        self._loop.unwatch(self._wake_r)
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        if not self._thread.is_alive():
            # A thread that a file system does not let go keeps its descriptor.
            os.close(self._wake_r)
            os.close(self._wake_w)

    def _woken(self, events: int) -> None:
        os.read(self._wake_r, 4096)
        while self._for_loop:
            self._for_loop.popleft()()

    # In the thread.

    def _run(self) -> None:
        for _ in self._occasions():
            if self._is_over.is_set():
                return
            paths = self._changed_and_at_rest()
            if paths and not self._is_over.is_set():
                self._for_loop.append(self._prepare(paths))
                os.write(self._wake_w, b"!")

    def _occasions(self) -> Iterator[object]:
        """Yield whenever it is time to look."""
        if self.is_told:
            try:
                yield from self._told_occasions()
            except (ImportError, OSError, RuntimeError):
                # The system watches no more, as there are limits per user; or the
                # package is not whole.
                self.is_told = False
        while not self._is_over.wait(max(_PAUSE_S, _PAUSES_PER_LOOK * self._took_s)):
            yield None

    def _told_occasions(self) -> Iterator[object]:
        import watchfiles

        # It tells in the log of every change, ours to ignore or not.
        logging.getLogger("watchfiles").setLevel(logging.WARNING)
        # The import has taken a while, in which nobody was told of anything.
        yield None
        untold_s = max(_UNTOLD_S, _PAUSES_PER_LOOK * self._took_s)
        yield from watchfiles.watch(
            *{
                *(each.path for each in self._folders),
                *map(os.path.dirname, self._files),
            },
            watch_filter=lambda _, path: self._is_worth_a_look(path),
            debounce=_STEP_MS,
            step=_STEP_MS,
            stop_event=self._is_over,
            rust_timeout=round(untold_s * 1000),
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )

    def _is_worth_a_look(self, path: str) -> bool:
        return path in self._files or any(each.counts(path) for each in self._folders)

    def _changed_and_at_rest(self) -> list[str]:
        now, since = self._look(), time.monotonic()
        if now == self._known:
            return []
        while time.monotonic() - since < _LONGEST_UNREST_S:
            if self._is_over.wait(_REST_S):
                return []
            before, now = now, self._look()
            if now == before:
                break
        known, self._known = self._known, now
        return changed(known, now)

    def _look(self) -> Look:
        began = time.thread_time()
        found = {}
        for folder in self._folders:
            found.update(folder.look())
        for path in self._files:
            mark = mark_of(path)
            if mark is not None:
                found[path] = mark
        self._took_s = time.thread_time() - began
        return found


def _has_watchfiles() -> bool:
    from importlib.util import find_spec

    return find_spec("watchfiles") is not None
