"""The packages that are shipped in `python/`: isoruntime, what it needs, what the code needs.

pip chooses and unpacks them for the target, which need not be this machine. What it
leaves there of this machine, its paths, scripts and compiled files, is not shipped.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import isoruntime
from isoruntime.errors import CannotPackage
from isoruntime.project.contents import FILE, Entry, permitted
from isoruntime.project.target import Target
from isoruntime.typed import Final

#: Where `bootstrap` looks for packages beside itself.
FOLDER: Final = "python"
#: What isoruntime imports, as in pyproject.toml.
NEEDED: Final = ("waitress>=3.0.2,<4", "psutil>=5.9,<8")

#: Written by pip for itself; they tell of this machine.
_PIPS_OWN: Final = frozenset({"INSTALLER", "REQUESTED", "direct_url.json"})
_METADATA: Final = re.compile(
    rf"{FOLDER}/(?P<name>[^/]+)-(?P<version>[^/-]+)\.dist-info/METADATA"
)
#: A requirement, and no extra's, that holds for some Pythons only.
_CONDITION: Final = re.compile(
    r"^(?!#)(?!.*\bextra\b).*;.*\bpython(_full)?_version\b", re.MULTILINE
)
_LAST_WORDS: Final = 6
_NO_WHEEL: Final = "No matching distribution found"
#: Ends in "no matching distribution" as well, and wants another answer.
_UNREACHED: Final = "connection broken by"


def fetch(
    target: Target, requirements: Path | None, into: Path, folder: Path
) -> list[Entry]:
    """Have pip put the packages into an empty folder; return what is shipped of them.

    Raises:
        CannotPackage: with pip's last words.
    """
    wanted = [*_needed(requirements)]
    if requirements is not None:
        # In the folder, where pip runs too: what the file names is relative to that.
        wanted += ["--requirement", requirements.name]
    command = [
        *(sys.executable, "-m", "pip", "install", "--target", str(into)),
        *("--no-compile", "--only-binary=:all:", "--no-input"),
        *("--disable-pip-version-check", "--progress-bar=off", "--quiet"),
        *("--implementation", "cp", "--python-version", target.python),
        *(word for tag in target.tags for word in ("--platform", tag)),
        *wanted,
    ]
    done = subprocess.run(  # noqa: S603 - our own interpreter's pip
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise CannotPackage(_complaint(target, done.stderr + done.stdout))
    return [*_shipped(into), *_isoruntime()]


def distributions(entries: Iterable[Entry]) -> dict[str, str]:
    """Return the version of every distribution among the entries, by its name."""
    return {normalized(name): version for name, version, _ in _metadata(entries)}


def remarks_on(
    entries: Iterable[Entry], requirements: Path | None, target: Target
) -> list[str]:
    """Return what to know about packages that were fetched.

    Some ask for others depending on the Python that they are for, and pip answers that
    for the Python that it runs on, whatever the target.
    """
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here == target.python:
        return []
    texts = [(name, source.read_text()) for name, _, source in _metadata(entries)]
    if requirements is not None:
        texts.append((requirements.name, requirements.read_text(errors="replace")))
    return [
        f"{name} asks for packages depending on the Python version, which pip took to "
        f"be {here}: run isoruntime with Python {target.python} to be sure"
        for name, text in texts
        if _CONDITION.search(text)
    ]


def _metadata(entries: Iterable[Entry]) -> Iterator[tuple[str, str, Path]]:
    """Yield name, version and description of every distribution, by name."""
    for entry in sorted(entries, key=lambda entry: entry.name):
        match = _METADATA.fullmatch(entry.name)
        if match and isinstance(entry.source, Path):
            yield match["name"], match["version"], entry.source


def normalized(name: str) -> str:
    """Return the name under which a distribution is known, however it is spelt."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _needed(requirements: Path | None) -> Iterator[str]:
    """Yield our own requirements, in the versions that are known to work: those here."""
    theirs = _names(requirements.read_text(errors="replace")) if requirements else ()
    for requirement in NEEDED:
        [name] = _names(requirement)
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            here = ""
        yield f"{name}=={here}" if here and name not in theirs else requirement


def _names(requirements: str) -> list[str]:
    found = re.findall(r"^\s*([A-Za-z0-9][\w.-]*)", requirements, re.MULTILINE)
    return [normalized(name) for name in found]


def _complaint(target: Target, said: str) -> list[str]:
    if "No module named pip" in said:
        return [
            f"{sys.executable} has no pip, which fetches the packages: "
            f"{sys.executable} -m ensurepip, or on Debian apt-get install python3-pip"
        ]
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    problems = [f"pip did not get what python/ needs for {target}; its last words:"]
    problems += [f"    {line}" for line in lines[-_LAST_WORDS:]]
    if _UNREACHED in said:
        problems.append(
            "the package index was not reached: PIP_INDEX_URL names another, PIP_FIND_LINKS "
            "a folder with wheels; --no-vendor packs without any"
        )
    elif _NO_WHEEL in said:
        problems.append(
            "what has no wheel for that can be built first: pip wheel --no-deps -w wheels "
            "NAME, then PIP_FIND_LINKS=wheels isoruntime package; or take another "
            "--python or --platform"
        )
    return problems


def _shipped(tree: Path) -> Iterator[Entry]:
    """Yield what is shipped of a folder that pip filled."""
    paths = sorted(path for path in tree.rglob("*") if path.is_file())
    kept = [path for path in paths if _is_shipped(path.relative_to(tree), path)]
    names = {path.relative_to(tree).as_posix() for path in kept}
    for path in kept:
        name = f"{FOLDER}/{path.relative_to(tree).as_posix()}"
        if path.name == "RECORD" and path.parent.suffix == ".dist-info":
            yield Entry(name, FILE, _record(path.read_text(), names))
        else:
            yield Entry(name, permitted(path.stat()), path)


def _is_shipped(relative: Path, path: Path) -> bool:
    if path.suffix == ".pyc" or relative.parts[0].partition("-")[0] == "isoruntime":
        # Of isoruntime, the one that runs here is shipped.
        return False
    if path.parent.suffix == ".dist-info" and path.name in _PIPS_OWN:
        return False
    # Scripts name the interpreter of this machine; compiled programs name nothing.
    return not (relative.parts[0] == "bin" and _is_script(path))


def _is_script(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def _record(text: str, names: set[str]) -> bytes:
    """Return a list of files without those that are not shipped."""
    rows = sorted(row for row in csv.reader(text.splitlines()) if row[0] in names)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()


def _isoruntime() -> Iterator[Entry]:
    """Yield the package that is running now."""
    root = Path(isoruntime.__file__).parent
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            name = f"{FOLDER}/{root.name}/{path.relative_to(root).as_posix()}"
            # Of the script, the content: in a checkout it is a link.
            yield Entry(name, permitted(path.stat()), path.resolve())
