"""The threat table: every attack, what it tries, and where it is not stopped.

`docs/threat-model.md` shows it, and `test_the_table.py` sees to it that both say the
same. The attacks themselves are functions of the same names in `tests/handlers/attacks/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.sandbox.levels import BASE, LEVELS

PROFILES = ("standard", "strict")


class Attack(NamedTuple):
    """One row."""

    name: str
    subject: str
    tries: str
    #: the privilege levels at which it does harm when nothing stops it: proof that it
    #: would; none where the runtime itself withstands it, or this kernel lacks the means
    works_as: tuple[str, ...] = ("root", "user")
    #: where it is not stopped: "PROFILE" or "PROFILE LEVEL", and why
    open: Mapping[str, str] = {}
    #: where the function's code is to lie
    base: Path = BASE
    #: of the runtime, besides the profile
    options: tuple[str, ...] = ()

    def why_open(self, profile: str, level: str) -> str | None:
        """Return why nothing stops it there; None if something does."""
        return self.open.get(profile) or self.open.get(f"{profile} {level}")


_BOTH, _ROOT, _NOWHERE = ("root", "user"), ("root",), ()


def _rows(subject: str, *rows: tuple[object, ...]) -> list[Attack]:
    return [Attack(str(row[0]), subject, *row[1:]) for row in rows]  # type: ignore[arg-type]


#: Where workers of `standard` have the runtime's own user.
_OWN_USER = ("root", "user", "user-in-docker", "user-in-kubernetes")
#: Where there is no place for temporary folders but /tmp.
_ONLY_TMP = ("user-in-docker", "user-in-kubernetes")


def _under_standard(levels: tuple[str, ...], why: str) -> dict[str, str]:
    return {f"standard {level}": why for level in levels}


_SHARED = {
    "standard": "functions write to /tmp, /var/tmp and /dev/shm by name, and find there "
    "what an earlier invocation left; so workers share them. TMPDIR is private"
}
_TMPDIR_IN_TMP = _under_standard(
    _ONLY_TMP,
    "without root, and without a home or a cache folder, there is no place for "
    "temporary folders but /tmp, which workers share",
)
_BY_PATH = _under_standard(
    _OWN_USER,
    "Landlock knows nothing of sockets in files before its version 9, and a worker of "
    "the same user may connect to them",
)
_OWNERS_RIGHT = _under_standard(
    _OWN_USER,
    "mode and times of a file are its owner's to change, which Landlock does not "
    "keep it from: have the code owned by another user",
)
_BELOW_TMP = _under_standard(
    _OWN_USER,
    "what lies below /tmp may be written like all of /tmp, from which Landlock cannot "
    "subtract: put the code elsewhere. The start line and doctor say so",
)
#: Where limits are kept by sampling, since no control group can be made.
_NO_GROUPS = tuple(name for name in LEVELS if name not in ("root", "root-with-uids"))
_UNMAPPED = {
    f"{profile} {level}": "without control groups limits are kept by sampling, which "
    "does not see memory in files that nobody has mapped"
    for profile in PROFILES
    for level in _NO_GROUPS
}
_LARGE_FILES = {
    "standard": "a file may have 10 GB, as on the platform's larger disks; what is left "
    "is removed with the worker. A quota is the host's affair"
}
_REUSED = dict.fromkeys(
    PROFILES,
    "there is no boundary between the invocations of one worker; `--fresh` has a worker "
    "for each, and there it fails",
)
_PRINTED = dict.fromkeys(
    PROFILES,
    "what a function prints is passed on as it is, as the platform does; with "
    "`--log-format json` every line says whose it is",
)
_SMALL = ("--memory", "128", "--max-processes", "40")
_NETWORK = {
    "standard": "the network is the host's; `--network none` takes it away, but for the "
    "processes of the function itself"
}


def _bombs(*rows: tuple[object, ...]) -> list[Attack]:
    made = _rows("Everybody's share", *rows)
    return [row._replace(options=_SMALL) for row in made]


#: Judged by what the arena is like afterwards.
ATTACKS = (
    *_rows(
        "Front end, zygote and other workers as processes",
        ("kill_front", "kill the front end, in every way a signal can be sent"),
        ("kill_zygote", "kill the zygote, or whoever is our parent"),
        ("kill_sibling", "kill another worker in the middle of its invocation"),
        ("kill_by_sigio", "have the kernel send the signal, by way of a pipe's owner"),
        ("kill_from_a_child", "kill them from a program that the handler runs"),
        ("kill_all", "kill everything there is (`kill -1`)"),
        ("killpg_front", "kill the process groups of the others"),
        ("hang_up_front", "send the front end the signals that it drains at"),
        ("stop_front", "stop the front end"),
        ("stop_zygote", "stop the zygote"),
        ("stop_sibling", "stop another worker"),
        ("ptrace_front", "trace the front end"),
        ("ptrace_zygote", "trace the zygote"),
        ("ptrace_sibling", "trace another worker"),
        ("write_memory_of_sibling", "write to another worker's memory"),
        (
            "write_memory_of_zygote",
            "write to the zygote's memory, and so to all later workers'",
        ),
        ("prlimit_front", "lower the limits of front end and zygote"),
        ("prlimit_sibling", "lower the limits of another worker"),
        ("sched_front", "take processors and priority from front end and zygote"),
        ("sched_sibling", "take processors and priority from another worker"),
        ("nice_sibling", "make the others nice"),
        ("nice_user", "make all processes of our user nice at once"),
        ("ioprio_sibling", "put the others' input and output last"),
        ("oom_score_front", "offer front end and zygote to the OOM killer"),
        ("pidfd_getfd_sibling", "take another worker's pipes and answer in its place"),
        ("pidfd_getfd_zygote", "take the zygote's socket and tell the front end lies"),
        ("fd_sibling_write", "write to another worker's pipes through /proc"),
        (
            "daemon_escapes",
            "leave a process behind: two forks, own session, deaf, no subreaper",
            _NOWHERE,
        ),
        (
            "sibling_by_clone",
            "leave a process behind that was never a descendant (CLONE_PARENT)",
            _NOWHERE,
        ),
        (
            "kill_oneself_and_stay",
            "leave a process behind and be dead before anybody looks",
            _NOWHERE,
        ),
    ),
    *_rows(
        "What others know",
        ("environ_front", "read the front end's environment"),
        ("environ_of_everybody", "read the environment of every process there is"),
        ("environ_by_a_child", "the same from a program that the handler runs"),
        ("cmdline_of_everybody", "look for secrets in command lines", _NOWHERE),
        ("maps_front", "learn how the front end's memory is laid out"),
        ("fd_front_list", "see what the front end has open"),
        (
            "cwd_and_root_of_everybody",
            "see where the others are, by their doors in /proc",
        ),
        ("mem_front", "read the front end's memory"),
        ("mem_zygote", "read the zygote's memory"),
        ("mem_sibling", "read another worker's memory: its event, its credentials"),
        ("mem_by_a_child", "the same from a program that the handler runs"),
        ("vmread_front", "read the front end's memory by process_vm_readv"),
        ("vmread_sibling", "read another worker's memory by process_vm_readv"),
        ("own_memory", "find something of others' in our own memory", _NOWHERE),
        (
            "read_sibling_tmp",
            "read another worker's temporary files",
            _BOTH,
            _TMPDIR_IN_TMP,
        ),
        ("tmp_leftover", "read what another worker keeps in /tmp", _BOTH, _SHARED),
        ("shm_leftover", "read what another worker keeps in /dev/shm", _BOTH, _SHARED),
        ("tmp_of_others_by_root", "the same by way of the others' roots in /proc"),
        ("sysv_shm", "attach another worker's System V memory"),
        ("keyring", "read another worker's keys in the kernel's keyring"),
        ("posix_mq", "read another worker's message queue"),
        ("connect_unix_abstract", "connect to abstract sockets of the host"),
        (
            "connect_unix_path",
            "connect to sockets by path: another worker's, the host's",
            _BOTH,
            _BY_PATH,
        ),
    ),
    *_rows(
        "Files",
        ("write_code", "change the function's code"),
        ("reopen_code", "change the code through a descriptor open for reading"),
        ("rename_code", "move the code away, put another in its place"),
        ("unlink_code", "remove the code"),
        ("hardlink_code", "change the code through a hard link"),
        ("plant_code", "add files that the next import finds"),
        ("chmod_code", "change the code's mode", _BOTH, _OWNERS_RIGHT),
        ("touch_code", "change the code's times", _BOTH, _OWNERS_RIGHT),
        (
            "write_code_below_tmp",
            "change the code where it lies below /tmp",
            _BOTH,
            _BELOW_TMP,
            Path("/tmp"),
        ),
        ("own_code", "give the code to another user", _ROOT),
        ("write_runtime", "change the runtime's own code"),
        ("read_private_files", "read a file that is the runtime's user's alone"),
        ("read_shadow", "read /etc/shadow", _ROOT),
        ("read_root", "list root's home", _ROOT),
        ("core_pattern", "set the program the kernel runs for crashes", _ROOT),
        ("write_sysfs", "open the kernel's switches in /sys", _ROOT),
        (
            "leave_the_cgroup",
            "move between control groups, away from the limits",
            _ROOT,
        ),
        ("make_a_cgroup", "make control groups", _ROOT),
        ("setuid_program", "run a set-user-ID program of root's", ("user",)),
        ("make_setuid", "leave a set-user-ID program of root's behind", _ROOT),
        ("make_a_device", "make a device file of the disk", _ROOT),
        (
            "planted_links",
            "have the clean-up follow links out of the temporary folder",
            _NOWHERE,
        ),
        (
            "swapped_folder",
            "swap a folder for a link while it is being removed",
            _NOWHERE,
        ),
        (
            "replaced_folder",
            "put links in the place of the temporary folders",
            _BOTH,
            _TMPDIR_IN_TMP,
        ),
    ),
    *_rows(
        "The kernel's surface",
        ("user_namespace", "a user namespace, the door to half the kernel"),
        ("user_namespace_by_clone", "the same by clone"),
        ("user_namespace_by_clone3", "the same by clone3"),
        (
            "other_namespaces",
            "mount, host name, IPC, network, control group namespaces",
            _ROOT,
        ),
        ("join_namespaces", "enter the namespaces of others", _ROOT),
        ("mounting", "mount something, the old and the new way", _ROOT),
        ("change_root", "chroot", _ROOT),
        ("io_uring", "system calls that no filter sees"),
        ("user_faults", "userfaultfd"),
        ("bpf", "load programs into the kernel", _ROOT),
        ("key_service", "the kernel's keyrings"),
        ("perf_events", "perf_event_open"),
        ("trace_a_child", "ptrace at all"),
        ("compare_kernel_objects", "kcmp"),
        ("open_by_handle", "open files by number, past closed folders", _ROOT),
        ("secret_memory", "memfd_secret"),
        ("virtual_sockets", "AF_VSOCK, to the host of a virtual machine"),
        ("netlink", "AF_NETLINK, but for the list of interfaces"),
        ("raw_sockets", "raw IP", _ROOT),
        ("packet_sockets", "raw Ethernet", _ROOT),
        ("crypto_sockets", "AF_ALG", _NOWHERE),
        ("old_system_calls", "x32's numbers for the same calls", _NOWHERE),
        ("type_for_others", "type into the operator's terminal (TIOCSTI)"),
        ("host_name", "rename the host", _ROOT),
    ),
    *_rows(
        "Network",
        (
            "invoke_oneself",
            "call the runtime's own port",
            _BOTH,
            _NETWORK,
        ),
        (
            "reach_tcp",
            "reach a service beside the runtime by TCP",
            _BOTH,
            _NETWORK,
        ),
        ("reach_mptcp", "the same by multipath TCP", _BOTH, _NETWORK),
        ("reach_tcp6", "the same by IPv6", _BOTH, _NETWORK),
        ("reach_udp", "the same by UDP", _BOTH, _NETWORK),
        (
            "reach_from_a_child",
            "the same from a program that the handler runs",
            _BOTH,
            _NETWORK,
        ),
    ),
    *_bombs(
        ("fork_bomb", "fork without end (40 processes allowed)", _NOWHERE),
        ("thread_bomb", "start threads without end (40 allowed)", _NOWHERE),
        ("memory_bomb", "take 300 MB (128 allowed)", _NOWHERE),
        ("memory_bomb_by_children", "the same, by many children", _NOWHERE),
        ("shared_memory_bomb", "the same, in shared memory", _NOWHERE),
        (
            "memory_file_bomb",
            "the same, in files that are memory (memfd)",
            _NOWHERE,
            _UNMAPPED,
        ),
        ("descriptor_bomb", "open 5,000 files"),
        ("huge_output", "print 20 MB", _NOWHERE),
        ("fill_the_disk", "write a file of 2 GB", _BOTH, _LARGE_FILES),
        ("raise_own_limits", "lift the limits"),
        ("be_first", "take priority over all others", _ROOT),
        ("lock_memory", "keep memory from being swapped", _ROOT),
        ("outlive_an_oom", "be the last one whom the kernel ends", _ROOT),
        ("dump_core", "have memory written to a file by crashing"),
    ),
)

#: The mechanism that would stop it: where it is not stopped, the start line names it.
SAID_AT_START = {
    "tmp_leftover": "private-tmp",
    "shm_leftover": "private-tmp",
    "read_sibling_tmp": "temporary-files",
    "replaced_folder": "temporary-files",
    "connect_unix_path": "uid",
    "chmod_code": "uid",
    "touch_code": "uid",
    "write_code_below_tmp": "read-only-code",
}

#: Judged by what other callers get; see `test_protocol.py`.
CONVERSATION = (
    *_rows(
        "The conversation between front end and worker",
        ("forge_extra_frames", "answer more than once, for whoever comes next"),
        ("forge_with_other_nonces", "answer requests that others have"),
        ("forge_a_huge_frame", "announce an answer of a terabyte"),
        ("forge_readiness", "say what only a new worker says"),
        ("close_everything", "close all descriptors, the runtime's included"),
        ("swap_descriptors", "make the output the answer, and the answer output"),
        ("exit_without_an_answer", "end with 0 and without an answer"),
        (
            "tamper_with_the_trace",
            "make the file for the last stack endless, and crash",
        ),
        ("stop_oneself", "neither die nor go on (SIGSTOP)"),
        ("ignore_everything", "ignore all signals, and stay"),
        ("forge_log_lines", "print lines as the runtime does", _BOTH, _PRINTED),
        (
            "steal_next_request",
            "read the next invocation's event in a thread",
            _BOTH,
            _REUSED,
        ),
        (
            "answer_for_the_next",
            "leave something that answers the next invocation",
            _BOTH,
            _REUSED,
        ),
        (
            "memory_of_the_last",
            "find the last invocation's credentials in memory",
            _BOTH,
            _REUSED,
        ),
    ),
)
