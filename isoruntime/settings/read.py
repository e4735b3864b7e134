"""Reading settings: flag > `ISORUNTIME_*` > s.yaml > what FC sets > default.

All that is wrong is found before anything is said, so that one start is enough
to learn of it.
"""

from __future__ import annotations

from isoruntime.environment import OWN_PREFIX, on_fc
from isoruntime.errors import InvalidSettings
from isoruntime.settings.parse import closest
from isoruntime.settings.table import DECLARED, Settings
from isoruntime.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from isoruntime.settings.setting import Setting

# Ours, but no settings: read by `bootstrap`, by the admin port, and by a command
# handler, which may well start a runtime of its own.
_OTHER_VARIABLES = frozenset(
    {"ISORUNTIME_PYTHON", "ISORUNTIME_ADMIN_TOKEN", "ISORUNTIME_DEADLINE_MS"}
)
_OTHER_PREFIXES = ("ISORUNTIME_TEST_", "ISORUNTIME_CHAOS")
_LONGEST_SHOWN = 80


#: The source of what stands in a manifest.
MANIFEST = "s.yaml"


def read_settings(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    manifest: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings that `flags` and `environ` ask for.

    `flags` holds the command line by attribute of `Settings`: the text of a flag,
    True for a switch, a list of texts for `env`, of words for `command` and
    `upstream`, None for a flag that lacks its value; and `fresh`. `manifest` holds what
    an s.yaml says of the function, as text by attribute.

    Raises:
        InvalidSettings: lists every problem, not just the first.
        TypeError: `flags` holds a name or a type that no flag has.
    """
    if strangers := flags.keys() - {setting.name for setting in DECLARED} - {"fresh"}:
        raise TypeError(f"no such flag: {', '.join(sorted(strangers))}")
    reading = _Reading(flags, environ, manifest or {})
    for setting in DECLARED:
        reading.read(setting)
    problems = [*reading.problems, *_unknown_variables(environ)]
    try:
        settings = Settings(
            on_fc=on_fc(environ), sources=reading.sources, **reading.values
        )
    except ValueError as error:
        problems.append(f"the current directory {error}, with --code-dir")
    else:
        problems += _contradictions(settings, flags, reading.refused)
        problems += _open_doors(settings, environ, reading.refused)
    if problems:
        raise InvalidSettings(problems)
    return settings


class _Reading:
    """The values found so far, where they came from, and what is wrong."""

    def __init__(
        self,
        flags: Mapping[str, object],
        environ: Mapping[str, str],
        manifest: Mapping[str, str],
    ) -> None:
        self._flags = flags
        self._environ = environ
        self._manifest = manifest
        self.values: dict[str, object] = {}
        self.sources: dict[str, str] = {}
        self.problems: list[str] = []
        self.refused: set[str] = set()

    def read(self, setting: Setting) -> None:
        """Take a setting from the first of its sources that has it."""
        if setting.name in self._flags:
            self._take(setting, setting.flag, self._flags[setting.name])
        elif setting.name == "max_invocations" and self._flags.get("fresh"):
            self._take(setting, "--fresh", "1")
        elif text := self._environ.get(setting.variable):
            self._take(setting, setting.variable, text)
        elif text := self._manifest.get(setting.name):
            self._take(setting, MANIFEST, text)
        else:
            self._take_from_platform(setting)

    def _take(self, setting: Setting, source: str, given: object) -> None:
        self.sources[setting.name] = source
        if setting.is_list:
            self._take_list(setting, source, given)
            return
        try:
            value = _value(setting, given)
        except ValueError as error:
            self._refuse(setting, f"{_shown(setting, source, given)} {error}")
            return
        self.values[setting.name] = value

    def _take_list(self, setting: Setting, source: str, given: object) -> None:
        # An item at a time: one that is refused must not hide the next one.
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, (list, tuple)):
            raise TypeError(f"{setting.flag} as {type(given).__name__}")
        values: list[object] = []
        for item in _comma_separated(texts):
            try:
                values += _value(setting, item)
            except ValueError as error:
                self._refuse(setting, f"{_shown(setting, source, item)} {error}")
        self.values[setting.name] = tuple(dict.fromkeys(values))

    def _refuse(self, setting: Setting, problem: str) -> None:
        self.problems.append(problem)
        self.refused.add(setting.name)

    def _take_from_platform(self, setting: Setting) -> None:
        # The operator cannot mend what the platform sets, so it never stops a start.
        for variable in setting.fc:
            if text := self._environ.get(variable):
                try:
                    self.values[setting.name] = setting.fc_parse(text)
                except ValueError:
                    continue
                self.sources[setting.name] = variable
                return


def _value(setting: Setting, given: object) -> Any:
    if given is None or given == []:
        raise ValueError(f"lacks its value: give {setting.flag} {setting.metavar}")
    if isinstance(given, bool):
        return given
    if isinstance(given, str):
        if "\0" in given:
            raise ValueError("holds a NUL byte: give text without")
        return setting.parse(given)
    if setting.is_argv and isinstance(given, (list, tuple)):
        return tuple(given)
    raise TypeError(f"{setting.flag} as {type(given).__name__}")


def _comma_separated(texts: Iterable[str | None]) -> Iterator[str | None]:
    for text in texts:
        if text is None:
            yield None
        else:
            # A comma at the end, as generated lists have it, is no empty name.
            yield from [item for item in text.split(",") if item.strip()] or [text]


def _shown(setting: Setting, source: str, given: object) -> str:
    """Return a source and its value as the operator wrote them, on one line."""
    if source == "--fresh" or given is None or given is True or given == []:
        return source
    between = "=" if source.startswith(OWN_PREFIX) else " "
    if setting.is_secret:
        return f"{source}{between}'***'"
    text = " ".join(given) if isinstance(given, (list, tuple)) else str(given)
    if len(text) > _LONGEST_SHOWN:
        text = text[:_LONGEST_SHOWN] + "..."
    return f"{source}{between}" + (f"'{text}'" if text.isprintable() else ascii(text))


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    known = {setting.variable for setting in DECLARED} | _OTHER_VARIABLES
    for name in sorted(environ):
        if not name.startswith(OWN_PREFIX) or name.startswith(_OTHER_PREFIXES):
            continue
        if environ[name] and name not in known:
            hint = closest(name.upper(), known)
            yield f"{name} is no setting: {hint}unset it, or see docs/settings.md"


def _contradictions(
    settings: Settings, flags: Mapping[str, object], refused: set[str]
) -> Iterator[str]:
    """Find values that are fine alone and wrong together."""
    if settings.min_workers > settings.max_workers and refused.isdisjoint(
        {"min_workers", "max_workers"}
    ):
        yield (
            f"{_told(settings, 'min_workers')} is more than "
            f"{_told(settings, 'max_workers')}: lower the first or raise the second"
        )
    is_fresh = settings.max_invocations == 1 or "max_invocations" in refused
    if flags.get("fresh") and not is_fresh:
        yield (
            "--fresh is short for --max-invocations 1 and contradicts "
            f"{_told(settings, 'max_invocations')}: give one of the two"
        )
    yield from _kinds_in_conflict(settings)


def _open_doors(
    settings: Settings, environ: Mapping[str, str], refused: set[str]
) -> Iterator[str]:
    """Find what anybody could ask for who reaches us, and should not."""
    if settings.key and not settings.gateway:
        yield f"{settings.source('key')} is the gateway's: give --gateway as well"
    needs_key = settings.gateway and not settings.key and "key" not in refused
    if needs_key and not _is_loopback(settings.host) and "host" not in refused:
        yield (
            f"{settings.source('gateway')} would let everybody who reaches "
            f"{settings.host} invoke functions: give --host 127.0.0.1, or --key ID:SECRET"
        )
    if not settings.admin or _is_loopback(settings.admin[0]):
        return
    if not environ.get("ISORUNTIME_ADMIN_TOKEN"):
        yield (
            f"{settings.source('admin')} would let everybody in who reaches "
            f"{settings.admin[0]}: set ISORUNTIME_ADMIN_TOKEN, or give a port alone"
        )


def _is_loopback(host: str) -> bool:
    is_v4 = host.startswith("127.") and host.replace(".", "").isdigit()
    return is_v4 or host in ("localhost", "::1")


def _kinds_in_conflict(settings: Settings) -> Iterator[str]:
    """Find more than one answer to the question what is run."""
    kind = "command" if settings.command else "upstream"
    if not settings.value_of(kind):
        return
    if kind == "command" and settings.upstream:
        yield (
            f"{settings.source('command')} and {settings.source('upstream')} exclude "
            "each other: give one of the two"
        )
    for name in ("handler", "http", "initializer", "pre_stop", "pre_freeze"):
        if settings.is_chosen(name):
            yield (
                f"{_told(settings, name)} names Python code, and "
                f"{settings.source(kind)} is run in place of any: give one of the two"
            )


def _told(settings: Settings, name: str) -> str:
    source = settings.source(name)
    between = "=" if source.startswith(OWN_PREFIX) else " "
    return f"{source}{between}{settings.value_of(name)}"
