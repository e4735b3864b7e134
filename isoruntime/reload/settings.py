"""Which of a function's settings can change while it is served, and which cannot."""

from __future__ import annotations

from isoruntime.settings import DECLARED, Settings
from isoruntime.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isoruntime.function import Described

#: What newer workers are told and the parts around them can be given. The others are
#: built into what they are about: sockets, folders, formats, the walls tried at the start.
_IN_PLACE: Final = frozenset(
    {
        *("handler", "command", "upstream", "http"),
        *("initializer", "pre_stop", "pre_freeze", "preload", "env"),
        *("min_workers", "max_workers", "max_invocations", "max_age_s"),
        *("timeout_s", "init_timeout_s", "memory_mb", "max_processes"),
        *("queue", "queue_timeout_s", "allow_read", "allow_write", "leftovers"),
    }
)
#: What is run. Another program can take its place, but none of another kind.
_KINDS: Final = ("command", "upstream", "http", "takes_events")


def in_place(serving: Described, wanted: Described) -> Described:
    """Return what can be had of `wanted` without a restart."""
    kept = {*_after_restart(serving.settings, wanted.settings)}
    values, sources = {}, {}
    for each in DECLARED:
        chosen = serving.settings if each.name in kept else wanted.settings
        values[each.name] = chosen.value_of(each.name)
        source = chosen.source(each.name)
        if source != "default":
            sources[each.name] = source
    settings = Settings(on_fc=serving.settings.on_fc, sources=sources, **values)
    return serving._replace(settings=settings, variables=wanted.variables)


def is_same(one: Described, other: Described) -> bool:
    """Tell whether the same would be served, and in the same way."""
    values = (
        [described.settings.value_of(each.name) for each in DECLARED]
        for described in (one, other)
    )
    return next(values) == next(values) and one.variables == other.variables


def after_restart(serving: Described, wanted: Described) -> list[str]:
    """Return what differs and needs a restart, as operators know it."""
    flags = {each.name: each.flag for each in DECLARED}
    names = [flags[name] for name in _after_restart(serving.settings, wanted.settings)]
    others = ("region", "account_id", "max_retries", "max_age_s")
    return names + [
        name for name in others if getattr(serving, name) != getattr(wanted, name)
    ]


def _after_restart(serving: Settings, wanted: Settings) -> Iterator[str]:
    is_same_kind = all(
        bool(getattr(serving, kind)) == bool(getattr(wanted, kind)) for kind in _KINDS
    )
    for each in DECLARED:
        name = each.name
        if name in _IN_PLACE and (is_same_kind or name not in (*_KINDS, "handler")):
            continue
        if serving.value_of(name) != wanted.value_of(name):
            yield name
