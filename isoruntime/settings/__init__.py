"""The settings: declared once each, read once at the start, never changed.

    flag > ISORUNTIME_* > what FC sets > default

`table` declares them, `setting` says what a declaration is, `parse` turns text
into values, `read` finds the text and everything that is wrong with it. Nobody
below `runtime` sees `Settings`: parts are given the values they need.
"""

from isoruntime.environment import on_fc
from isoruntime.settings.read import read_settings
from isoruntime.settings.setting import GROUPS, Setting
from isoruntime.settings.table import DECLARED, Settings

__all__ = [
    "DECLARED",
    "GROUPS",
    "Setting",
    "Settings",
    "on_fc",
    "read_settings",
]
