"""`Setting`: everything there is to know about one setting, declared once.

The command line, the reading of variables, the documentation and the typed
attribute of `Settings` all come from this one declaration.
"""

from __future__ import annotations

from isoruntime.settings.parse import OneOf
from isoruntime.typed import TYPE_CHECKING, Any

# These two are dataclasses in spirit. The `dataclasses` module costs 7-10 ms at
# start, because it imports `inspect`, and `typing` another 4; a cold start has
# 110 ms in all. A descriptor does the same with neither.
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    T = TypeVar("T")

#: Sections of the help and of the documentation, in the order of both.
GROUPS = ("function", "server", "workers", "limits", "isolation", "output", "other")


class Setting:
    """One setting: where it may come from, how it is read, what it means.

    It is also the read-only attribute of `Settings` that holds the value.
    """

    __slots__ = (
        "default",
        "default_text",
        "doc",
        "fc",
        "fc_parse",
        "flag",
        "group",
        "header",
        "is_argv",
        "is_list",
        "is_secret",
        "is_switch",
        "metavar",
        "name",
        "parse",
        "variable",
    )

    def __init__(
        self,
        flag: str,
        *,
        group: str,
        doc: str,
        default: Any,
        parse: Callable[[str], Any],
        metavar: str,
        default_text: str | None,
        fc: tuple[str, ...],
        fc_parse: Callable[[str], Any] | None,
        header: str | None,
        kind: str,
        is_secret: bool,
    ) -> None:
        self.name = ""
        self.flag = flag
        self.variable = ""
        #: variables of the platform, in the order they are tried
        self.fc = fc
        #: request header that may lower the value, for the documentation
        self.header = header
        self.group = group
        self.doc = doc
        self.parse = parse
        self.fc_parse = fc_parse or parse
        self.metavar = "|".join(parse.choices) if isinstance(parse, OneOf) else metavar
        #: a value, or a function of the settings declared before this one
        self.default = default
        self.default_text = _text_of(default) if default_text is None else default_text
        self.is_switch = kind == "switch"
        self.is_list = kind == "list"
        self.is_argv = kind == "argv"
        #: True: the value is never shown
        self.is_secret = is_secret

    def __set_name__(self, owner: type, name: str) -> None:
        """Take the attribute's name, and derive the variable's from the flag."""
        self.name = name
        words = self.flag.removeprefix("--").replace("-", "_")
        self.variable = f"ISORUNTIME_{words.upper()}"

    def __get__(self, instance: Any, owner: type) -> Any:
        """Return the value in `instance`, or on the class the declaration."""
        return self if instance is None else instance.value_of(self.name)

    def __set__(self, instance: object, value: object) -> None:
        """Refuse: settings are read once and then never change."""
        raise AttributeError(f"settings are read-only; {self.name} cannot be changed")

    def default_for(self, known: Mapping[str, Any]) -> Any:
        """Return the default, given `on_fc` and the settings declared before."""
        return self.default(known) if callable(self.default) else self.default


def setting(
    flag: str,
    *,
    group: str,
    doc: str,
    default: T | Callable[[Mapping[str, Any]], T],
    parse: Callable[[str], T],
    metavar: str = "",
    default_text: str | None = None,
    fc: tuple[str, ...] = (),
    fc_parse: Callable[[str], T] | None = None,
    header: str | None = None,
    kind: str = "value",
    is_secret: bool = False,
) -> T:
    """Declare a setting.

    The type says that this returns the value, as `dataclasses.field` does: that
    is what reading the attribute of a `Settings` gives.

    Args:
        default: the value, or a function of the settings declared above it.
        fc_parse: reads the variables of the platform, where those need a
            reading of their own; a ValueError there means "not set".
        kind: "value"; "switch" (no argument); "list" (repeatable); "argv" (all
            that follows `--`).
    """
    declared: Any = Setting(
        flag,
        group=group,
        doc=doc,
        default=default,
        parse=parse,
        metavar=metavar,
        default_text=default_text,
        fc=fc,
        fc_parse=fc_parse,
        header=header,
        kind=kind,
        is_secret=is_secret,
    )
    value: T = declared
    return value


def _text_of(default: object) -> str:
    if default is None or default == ():
        return "none"
    if default is False:
        return "off"
    return f"{default:g}" if isinstance(default, float) else str(default)
