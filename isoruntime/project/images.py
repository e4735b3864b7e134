"""What the platform's images have: Python, C library, programs (fc-contract.md 5.2)."""

from __future__ import annotations

from isoruntime.typed import Final, NamedTuple


class Image(NamedTuple):
    """The system that functions of one runtime run on."""

    runtime: str
    system: str
    #: the newest Python there, which `bootstrap` finds, and where it lies
    python: tuple[int, int]
    python_bin: str
    #: what `python3` is if PATH is left as it is
    system_python: tuple[int, int]
    glibc: tuple[int, int]

    @property
    def python_text(self) -> str:
        """The version as people write it."""
        return text_of(self.python)


def text_of(version: tuple[int, int]) -> str:
    """Return `3.11` for (3, 11)."""
    return f"{version[0]}.{version[1]}"


_DEBIAN_12: Final = Image(
    "custom.debian12", "Debian 12", (3, 11), "/usr/bin", (3, 11), (2, 36)
)
_DEBIAN_11: Final = Image(
    *("custom.debian11", "Debian 11", (3, 12), "/var/fc/lang/python3.12/bin"),
    *((3, 9), (2, 31)),
)
_DEBIAN_10: Final = Image(
    *("custom.debian10", "Debian 10", (3, 10), "/var/fc/lang/python3.10/bin"),
    *((3, 7), (2, 28)),
)
_DEBIAN_9: Final = Image("custom", "Debian 9", (3, 7), "/usr/bin", (3, 7), (2, 24))

#: Those on which a start command of one's own runs.
CUSTOM: Final = {
    image.runtime: image for image in (_DEBIAN_9, _DEBIAN_10, _DEBIAN_11, _DEBIAN_12)
}
#: The platform's own Python runtimes, which call the handler themselves.
BUILT_IN: Final = {
    "python3.12": _DEBIAN_11._replace(runtime="python3.12"),
    "python3.10": _DEBIAN_10._replace(runtime="python3.10"),
    "python3.9": _DEBIAN_9._replace(runtime="python3.9", python=(3, 9)),
}
#: What a folder is judged for that has no s.yaml.
DEFAULT: Final = _DEBIAN_12.runtime
#: What isoruntime needs.
OLDEST_PYTHON: Final = (3, 10)

#: Programs that every one of these images has, by their usual paths.
PROGRAMS: Final = frozenset(
    {
        *("/bin/sh", "/bin/bash", "/bin/dash", "/usr/bin/env"),
        *("/usr/bin/python3", "/usr/bin/perl"),
    }
)
#: Names that a shell or `env` finds there. More may be there: an unknown name is a
#: warning and no more.
NAMES: Final = frozenset(
    {"sh", "bash", "dash", "env", "perl", "python3", "node", "java", "php"}
)
#: Folders of a developer's machine that no image has.
NOWHERE: Final = ("/home/", "/Users/", "/opt/homebrew/", "/root/", "/mnt/c/", "C:")
