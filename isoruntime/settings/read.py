"""Reading settings: flag > `ISORUNTIME_*` > what FC sets > default.

All that is wrong is found before anything is said, so that one start is enough
to learn of it.
"""

from __future__ import annotations

from isoruntime.environment import OWN_PREFIX, on_fc
from isoruntime.errors import InvalidSettings
from isoruntime.settings.parse import closest
from isoruntime.settings.table import DECLARED, NOT_YET, Settings

TYPE_CHECKING = False  # `typing` itself would cost milliseconds at every start.
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from isoruntime.settings.setting import Setting

# Ours, but no settings: read by `bootstrap`, by the admin port, and by a command
# handler, which may well start a runtime of its own.
_OTHER_VARIABLES = frozenset(
    {"ISORUNTIME_PYTHON", "ISORUNTIME_ADMIN_TOKEN", "ISORUNTIME_DEADLINE_MS"}
)
_OTHER_PREFIXES = ("ISORUNTIME_TEST_", "ISORUNTIME_CHAOS")
_LONGEST_SHOWN = 80


def read_settings(flags: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """Return the settings that `flags` and `environ` ask for.

    `flags` holds the command line by attribute of `Settings`: the text of a flag,
    True for a switch, a list of texts for `env`, of words for `command` and
    `upstream`, None for a flag that lacks its value; and `fresh`.

    Raises:
        InvalidSettings: lists every problem, not just the first.
    """
    reading = _Reading(flags, environ)
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
    if problems:
        raise InvalidSettings(problems)
    return settings


class _Reading:
    """The values found so far, where they came from, and what is wrong."""

    def __init__(self, flags: Mapping[str, object], environ: Mapping[str, str]) -> None:
        self._flags = flags
        self._environ = environ
        self.values: dict[str, object] = {}
        self.sources: dict[str, str] = {}
        self.problems: list[str] = []
        self.refused: set[str] = set()

    def read(self, setting: Setting) -> None:
        """Take a setting from the first of its sources that has it."""
        if setting.name in self._flags:
            given = self._flags[setting.name]
            self._take(setting, setting.flag, _shown_flag(setting, given), given)
        elif setting.name == "max_invocations" and self._flags.get("fresh"):
            self._take(setting, "--fresh", "--fresh", "1")
        elif text := self._environ.get(setting.variable):
            shown = f"{setting.variable}={_shown(setting, text)}"
            self._take(setting, setting.variable, shown, text)
        else:
            self._take_from_platform(setting)

    def _take(self, setting: Setting, source: str, shown: str, given: object) -> None:
        try:
            value = _value(setting, given)
        except ValueError as error:
            self.problems.append(f"{shown} {error}")
            self.refused.add(setting.name)
            return
        if setting.name in NOT_YET and value != setting.default:
            self.problems.append(f"{shown} is not available in this version")
            self.refused.add(setting.name)
        self.values[setting.name] = value
        self.sources[setting.name] = source

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


def _value(setting: Setting, given: object) -> object:
    if given is None or given == []:
        raise ValueError(f"lacks its value: give {setting.flag} {setting.metavar}")
    if isinstance(given, bool):
        return given
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, (list, tuple)):
        raise TypeError(f"{setting.flag} as {type(given).__name__}")
    if None in texts:
        raise ValueError(f"lacks its value: give {setting.flag} {setting.metavar}")
    if any("\0" in text for text in texts):
        raise ValueError("holds a NUL byte: give text without")
    if isinstance(given, str):
        return setting.parse(given)
    return tuple(texts) if setting.is_argv else setting.parse(",".join(texts))


def _shown_flag(setting: Setting, given: object) -> str:
    if isinstance(given, (list, tuple)):
        words = [word for word in given if word is not None]
        given = " ".join(words) if words else None
    if given is None or given is True:
        return setting.flag
    return f"{setting.flag} {_shown(setting, str(given))}"


def _shown(setting: Setting, text: str) -> str:
    if setting.is_secret:
        return "'***'"
    if len(text) > _LONGEST_SHOWN:
        text = text[:_LONGEST_SHOWN] + "..."
    return ascii(text) if not text.isprintable() else f"'{text}'"


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
            f"{_told(settings, 'max_workers')}: give at least as many at most"
        )
    if flags.get("fresh") and settings.max_invocations != 1:
        yield (
            "--fresh means --max-invocations 1 and contradicts "
            f"{_told(settings, 'max_invocations')}: give one of the two"
        )
    if settings.command and settings.upstream:
        yield (
            f"{settings.source('command')} and {settings.source('upstream')} exclude "
            "each other: give one of the two"
        )


def _told(settings: Settings, name: str) -> str:
    source = settings.source(name)
    between = "=" if source.startswith(OWN_PREFIX) else " "
    return f"{source}{between}{settings.value_of(name)}"
