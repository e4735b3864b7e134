"""Which files a worker and its zygote may reach, for Landlock.

Everything an ordinary function relies on and nothing private: no home, no secrets below
/etc, no other worker's temporary files. Rules are united, so no folder is granted that
holds something private. Where one would be, its entries are granted one by one.

A rule follows the file and not its name: a file of /etc that is replaced by a new
one (/etc/resolv.conf, say, when a network changes) is out of reach until the zygote
is replaced too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping

from isoruntime.environment import on_fc
from isoruntime.sandbox.landlock import Grants
from isoruntime.typed import Final

_SYSTEM: Final = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/bin",
    "/sbin",
    # Layers of the platform, and what is installed without a package manager.
    "/opt",
    "/var/fc",
    "/nix/store",
    "/gnu/store",
    "/home/linuxbrew/.linuxbrew",
    # Processes look themselves up here. Into others', the domain keeps them from
    # looking, and nothing below may be written.
    "/proc",
    "/sys/devices/system",
    # Names and addresses of network interfaces, as /proc/net has them too.
    "/sys/class/net",
    "/sys/devices/virtual/net",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
    "/sys/kernel/mm/hugepages",
    "/dev/random",
    "/dev/urandom",
    "/var/cache/fontconfig",
    "/var/lib/ca-certificates",
)
#: Targets of /etc/resolv.conf. As folders, for these files are often replaced.
_RESOLVERS: Final = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager")

#: Shared by the workers of a function where they have no mount namespaces: FC's
#: functions write to /tmp by its name, `multiprocessing` needs /dev/shm.
SHARED: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - named, not used
_DEVICES: Final = (
    # Standard input and output need no rule: they are in /proc, or pipes.
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/tty",
    # Own terminals, for `pty`. Those of others are their owners' alone, but all
    # terminals of the user that the worker runs as are within reach.
    "/dev/ptmx",
    "/dev/pts",
)
_GRAPHICS: Final = ("nvidia", "dri", "kfd", "dxg")

#: What of /etc is for everybody to read, by name. Whole folders only where none of
#: the usual systems keeps a key in them.
_ETC: Final = frozenset(
    " ".join(
        (
            # names of users, hosts and services
            "passwd group nsswitch.conf hosts host.conf hostname gai.conf networks",
            "services protocols rpc ethertypes netconfig resolv.conf krb5.conf",
            "bindresvport.blacklist",
            # the system's own
            "ld.so.cache ld.so.conf ld.so.conf.d ld.so.preload alternatives os-release",
            "lsb-release debian_version redhat-release system-release alpine-release",
            "issue mtab login.defs shells profile profile.d bash.bashrc bashrc inputrc",
            "terminfo selinux crypto-policies gnutls xattr.conf",
            # time, language and types of files
            "localtime timezone locale.conf locale.alias locale.gen mime.types mailcap",
            "magic magic.mime papersize",
            # programs that functions start
            "gitconfig wgetrc curlrc fonts ghostscript perl php php.ini php.d ruby R",
            "sgml xml xdg groff libreoffice dconf odbcinst.ini freetds",
            # graphics and computing
            "OpenCL vulkan glvnd egl X11 drirc",
        )
    ).split()
)
_ETC_BEGINNINGS: Final = ("ca-certificates", "python", "java", "ImageMagick")
#: Folders of /etc with keys in them: what of them is public.
_ETC_PARTS: Final = (
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust",
    "/etc/pki/java",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/pki/tls/openssl.d",
)

#: What is not given away with "/", should the code lie there.
_NEVER_WITH_ROOT: Final = frozenset(
    {
        "/boot",
        "/data",
        "/dev",
        "/etc",
        "/home",
        "/lost+found",
        "/media",
        "/mnt",
        "/proc",
        "/root",
        "/run",
        "/srv",
        "/sys",
        "/tmp",  # noqa: S108 - named, not used
        "/var",
    }
)

#: Variables with paths in them that whoever started us wants programs to find.
_PATH_VARIABLES: Final = (
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "NODE_PATH",
    "JAVA_HOME",
    "CONDA_PREFIX",
    "CUDA_HOME",
    "TZDIR",
    "OPENSSL_CONF",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
)
#: What belongs to the programs of a `bin` and is found beside it. Not `share`, which
#: below a home holds other things as well.
_BESIDE_BIN: Final = ("lib", "lib64", "libexec", "include", "ssl")

#: The smallest disk the platform gives a function.
_ROOM_BYTES: Final = 512 << 20


#: What the workers of no sandbox are granted, as there is nothing to be granted.
NO_GRANTS: Final = Grants((), ())


def for_worker(
    code_dir: str,
    temp_folder: str | None,
    allow_read: Iterable[str] = (),
    allow_write: Iterable[str] = (),
) -> Grants:
    """Return what a worker may reach.

    To be called where `sys.path` is the worker's. The code may be read only, unless it
    lies below something that may be written (`code_is_writable`). `allow_read` and
    `allow_write` are the operator's words and granted as they are.

    On Function Compute /mnt, and what is mounted below /home and /data, may be written:
    it is where the platform mounts a function's own NAS and OSS, which it was given to
    keep its files in. Elsewhere these folders are somebody's disks and homes, and
    nothing of them is granted.
    """
    private = set() if temp_folder is None else {_real(os.path.dirname(temp_folder))}  # noqa: PTH120 - pathlib is slow to import
    read, listed = _without(private, [code_dir, *_of_python()])
    write = [*SHARED, *_DEVICES, *_graphics(), *_mounted_for_us(), *allow_write]
    if temp_folder is not None:
        write.append(temp_folder)
    read += [*_SYSTEM, *_RESOLVERS, *_of_etc(), *_of_environment(), *allow_read]
    return Grants(_once(read), _once(write), _once(listed))


def for_zygote(
    workers: Grants, code_dir: str, temp_base: str, cgroups: Iterable[str] = ()
) -> Grants:
    """Return what a zygote may reach: all that its workers may, and its own work.

    That is their temporary folders below `temp_base`, their groups below `cgroups`,
    both of which it removes at its end, and `__pycache__` beside the modules it
    imports. The kernel cannot grant files by a pattern, so the last means the whole
    code folder.
    """
    private = {_real(temp_base)} if temp_base else set()
    write = [*workers.write, *cgroups]
    made = [*cgroups]
    if temp_base:
        write.append(temp_base)
        made.append(temp_base)
    pruned = _once(os.path.dirname(path) for path in made)  # noqa: PTH120
    if not _holds_private(_real(code_dir), private):
        write.append(code_dir)
    return workers._replace(write=_once(write), pruned=pruned)


def existing(grants: Grants) -> Grants:
    """Return the grants of what is there; what comes to be later is out of reach."""
    found = (tuple(filter(os.path.lexists, some)) for some in grants)
    return Grants(*found)


def within(zygote: Grants, workers: Grants) -> Grants:
    """Return the least that rules have to grant to who is under the zygote's already.

    Rules only take away. What the zygote is denied its workers are too, whatever their own
    rules say; what they may not do and the zygote may is for theirs to deny. So these
    grant folders as large as can be had without any of that: a tenth of the rules, each
    of which the kernel copies for each worker.
    """
    own = {_real(path) for path in (*zygote.write, *zygote.pruned)}
    own -= {_real(path) for path in workers.write}
    wide: list[str] = []
    narrow: list[list[str]] = [[], []]
    known: dict[str, tuple[str, str]] = {}
    for paths, kept in zip((workers.read, workers.write), narrow, strict=True):
        for path in paths:
            widest = _widest(path, own, known)
            if widest:
                wide.append(widest)
            else:
                kept.append(path)
    read, write = narrow
    return workers._replace(read=tuple(read), write=_once([*wide, *write]))


def _widest(path: str, avoided: set[str], known: dict[str, tuple[str, str]]) -> str:
    """Return the largest folder with a path in it and nothing of `avoided`, if any.

    Most paths are in few folders: `known` is what was found out about these.
    """
    folder, _, name = path.rpartition("/")
    if folder not in known:
        real = _real(folder or "/").rstrip("/")
        known[folder] = real, _widest_of_real(real, avoided)
    real, widest = known[folder]
    found = f"{real}/{name}"
    if os.path.islink(found):  # noqa: PTH114 - pathlib is slow to import
        return _widest_of_real(_real(found), avoided)
    return widest or _widest_of_real(found, avoided)


def _widest_of_real(path: str, avoided: set[str]) -> str:
    at = ""
    for name in path.split("/")[1:]:
        at += f"/{name}"
        if not _holds_private(at, avoided):
            return at
    return ""


def code_is_writable(grants: Grants, code_dir: str) -> bool:
    """Tell whether the code lies where it may be written, in /tmp for example."""
    return _is_below_any(code_dir, grants.write)


def reaches(grants: Grants, folder: str) -> bool:
    """Tell whether files in a folder are within reach of whoever has these grants."""
    return _is_below_any(folder, (*grants.read, *grants.write))


def temp_parents(environ: Mapping[str, str], grants: Grants | None = None) -> list[str]:
    """Return where the folder with all workers' temporary folders may be made.

    The first one that can be written is to be taken; the caller makes it where it does
    not exist. What the operator set (`TMPDIR`) comes first, unless it is /tmp or below:
    all of /tmp is granted to every worker, and all of them would reach the temporary
    folders of all there. Then comes the folder that systemd made for a service, then
    /var/cache and /var/lib for root, `$XDG_CACHE_HOME` or ~/.cache for others. /tmp and
    /var/tmp come last; `reaches` tells whether it came to that.

    A place with less room than the smallest disk of the platform comes after /tmp, if
    that has more, and so does one below a folder of `grants`. /run and
    `$XDG_RUNTIME_DIR` are no candidates, though private: they are memory, and a function
    that writes large files to its disk would be killed for its memory.
    """
    chosen = environ.get("TMPDIR", "")
    private = [environ.get("CACHE_DIRECTORY", "").partition(":")[0]]
    if os.geteuid() == 0:
        private += ["/var/cache", "/var/lib"]
    else:
        home = environ.get("HOME", "")
        private += [
            environ.get("XDG_CACHE_HOME", ""),
            f"{home}/.cache" if home not in ("", "/") else "",
        ]
    public = Grants((), SHARED) if grants is None else grants
    enough = min(_ROOM_BYTES, _free_bytes(SHARED[0]))
    good = [
        path
        for path in private
        if path.startswith("/")
        and not reaches(public, path)
        and _free_bytes(path) >= enough
    ]
    later = [path for path in private if path.startswith("/") and path not in good]
    if chosen:
        good.insert(len(good) if reaches(public, chosen) else 0, chosen)
    return list(_once([*good, *SHARED[:2], *later]))


def _of_python() -> Iterator[str]:
    """Yield what the interpreter, we ourselves and installed packages consist of."""
    yield from (sys.prefix, sys.base_prefix, sys.exec_prefix)
    if sys.executable:
        yield os.path.dirname(os.path.dirname(_real(sys.executable)))  # noqa: PTH120
    yield os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    # An empty entry means the working directory, which is the code's.
    yield from filter(None, sys.path)
    # `pip install --editable` may leave no entry in `sys.path`, but a finder with a
    # table of the folders it knows.
    for name, module in list(sys.modules.items()):
        if name.startswith("__editable__"):
            yield from getattr(module, "MAPPING", {}).values()


def _of_etc() -> list[str]:
    try:
        names = os.listdir("/etc")  # noqa: PTH208 - pathlib is slow to import
    except OSError:
        names = list(_ETC)
    found = [
        f"/etc/{name}"
        for name in names
        if name in _ETC or name.startswith(_ETC_BEGINNINGS)
    ]
    return [*found, *_ETC_PARTS]


def _of_environment() -> Iterator[str]:
    for name in _PATH_VARIABLES:
        yield from _absolute(os.environ.get(name, ""))
    for folder in _absolute(os.environ.get("PATH", "")):
        yield folder
        for one in {folder, _real(folder)}:
            parent, name = os.path.split(one.rstrip("/"))
            if name in ("bin", "sbin") and parent != "/":
                yield from (f"{parent}/{beside}" for beside in _BESIDE_BIN)


def _absolute(paths: str) -> list[str]:
    # "/" in such a variable is a mistake, and would give everything away.
    return [
        path for path in paths.split(":") if path.startswith("/") and path.strip("/")
    ]


def _graphics() -> list[str]:
    try:
        names = os.listdir("/dev")  # noqa: PTH208 - pathlib is slow to import
    except OSError:
        return []
    return [f"/dev/{name}" for name in names if name.startswith(_GRAPHICS)]


def meant_for_writing(allow_write: Iterable[str]) -> list[str]:
    """Return the folders that somebody gave a function to keep its files in."""
    mounts = [point for point in _mounted_for_us() if point != "/mnt"]
    return [path for path in (*mounts, *allow_write) if os.path.isdir(path)]  # noqa: PTH112


def _mounted_for_us() -> list[str]:
    if not on_fc(os.environ):
        return []
    found = ["/mnt"]
    try:
        with open("/proc/self/mountinfo") as table:  # noqa: PTH123
            points = [line.split(" ", 5)[4] for line in table]
    except OSError:
        return found
    # The kernel writes a blank in a name as an octal number.
    points = [point.replace("\\040", " ") for point in points]
    return found + [
        point
        for point in points
        if f"{point}/".startswith("/data/") or point.startswith(("/home/", "/mnt/"))
    ]


def _without(private: set[str], folders: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return what to grant of folders, and of which the names, for all but `private`."""
    read: list[str] = []
    listed: list[str] = []
    for folder in folders:
        _grant_around(_real(folder), private, read, listed)
    return read, listed


def _grant_around(
    folder: str, private: set[str], read: list[str], listed: list[str]
) -> None:
    if folder in private:
        return
    if not _holds_private(folder, private):
        read.append(folder)
        return
    if folder == "/":
        private = private | _NEVER_WITH_ROOT
    # Imports list a folder before they open anything in it.
    listed.append(folder)
    try:
        names = os.listdir(folder)  # noqa: PTH208 - pathlib is slow to import
    except OSError:
        return
    for name in names:
        path = f"{folder.rstrip('/')}/{name}"
        # A link may lead to what is private, or back up here.
        if not os.path.islink(path):  # noqa: PTH114 - pathlib is slow to import
            _grant_around(path, private, read, listed)


def _holds_private(folder: str, private: set[str]) -> bool:
    return folder == "/" or any(_is_below(path, folder) for path in private)


def _is_below_any(path: str, folders: Iterable[str]) -> bool:
    path = _real(path)
    return any(_is_below(path, _real(folder)) for folder in folders)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _free_bytes(path: str) -> int:
    # What does not exist yet will be on the disk of what does.
    while path and path != "/":
        try:
            found = os.statvfs(path)
        except OSError:
            path = os.path.dirname(path)  # noqa: PTH120
        else:
            return found.f_bavail * found.f_frsize
    return 0


def _real(path: str) -> str:
    # Asked of the kernel it takes three calls, and of Python two for each folder on the
    # way: a zygote asks for a hundred paths before it can load anything.
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            real = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - pathlib is slow to import
        finally:
            os.close(fd)
    except OSError:
        real = ""
    # Without /proc, for what is not there, or lies outside of our root.
    return real if real.startswith("/") else os.path.realpath(path)


def _once(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths))


def needed_by_all(code_dir: str) -> list[str]:
    """Return the folders that a worker must be able to enter to run anything at all."""
    return [path for path in (*_of_python(), code_dir) if os.path.exists(path)]  # noqa: PTH110
