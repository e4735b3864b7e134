"""`Settings`: what the runtime was told to do, with every setting declared."""

from __future__ import annotations

import os

from isoruntime.environment import OWN_PREFIX
from isoruntime.settings import parse
from isoruntime.settings.setting import Setting, setting
from isoruntime.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_MB = 1024 * 1024
_MOST_WORKERS = 1000


def _function_memory_less_reserve(value: str) -> int:
    # The front end and the zygote live in the function's memory as well: they
    # keep a quarter of it, at most 64 MB, and a worker has 64 MB at the least.
    function_mb = parse.whole(1, 1024 * 1024)(value)
    return max(64, function_mb - min(64, function_mb // 4))


def _default_timeout_s(known: Mapping[str, Any]) -> float:
    # The platform has a timeout of its own and sends it in a header; ours must
    # not be the shorter one there. 86400 is the platform's longest.
    return 86400.0 if known["on_fc"] else 60.0


def _default_max_workers(known: Mapping[str, Any]) -> int:
    by_cpus = min(_MOST_WORKERS, max(32, 4 * len(os.sched_getaffinity(0))))
    least: int = known["min_workers"]
    return max(by_cpus, least)


def _default_network(known: Mapping[str, Any]) -> str:
    return "none" if known["sandbox"] == "strict" else "host"


class Settings:
    """What the runtime was told to do. Built once, then never changed.

    `read_settings` builds it from flags and variables; with keywords it can be
    built from values, and whatever is not given has its default.
    """

    __slots__ = ("_sources", "_values", "on_fc")

    handler: str = setting(
        "HANDLER",
        group="function",
        fc=("FC_FUNCTION_HANDLER",),
        # The platform may put any words here for a custom runtime.
        fc_parse=parse.dotted_name,
        parse=parse.text,
        default="index.handler",
        metavar="MODULE.FUNCTION",
        doc="function to run, such as index.handler or a/b/main.handler",
    )
    command: tuple[str, ...] | None = setting(
        "--command",
        group="function",
        parse=parse.argv,
        default=None,
        kind="argv",
        metavar="-- ARGV...",
        doc="executable to run per invocation instead, never through a shell; the event "
        "is its stdin, stdout the answer, stderr the log; {request_id} in an argument is "
        "replaced; the variable holds a JSON list or shell-quoted words",
    )
    upstream: tuple[str, ...] | None = setting(
        "--upstream",
        group="function",
        parse=parse.argv,
        default=None,
        kind="argv",
        metavar="-- ARGV...",
        doc="HTTP server to start in each worker and to speak to over HTTP instead; PORT, "
        "FC_CUSTOM_LISTEN_PORT and {port} in an argument say where it is to listen",
    )
    http: str | None = setting(
        "--http",
        group="function",
        parse=parse.text,
        default=None,
        metavar="NAME",
        doc="WSGI or ASGI application for HTTP functions, as module.name; off FC it gets "
        "every path that is not the runtime's own",
    )
    initializer: str | None = setting(
        "--initializer",
        group="function",
        fc=("FC_INITIALIZER_HANDLER",),
        fc_parse=parse.dotted_name,
        parse=parse.text,
        default=None,
        metavar="NAME",
        doc="function to run once in every worker before its first invocation",
    )
    pre_stop: str | None = setting(
        "--pre-stop",
        group="function",
        parse=parse.text,
        default=None,
        metavar="NAME",
        doc="function for the platform's call before it destroys the instance",
    )
    pre_freeze: str | None = setting(
        "--pre-freeze",
        group="function",
        parse=parse.text,
        default=None,
        metavar="NAME",
        doc="function for the platform's call before it freezes the instance",
    )
    code_dir: str = setting(
        "--code-dir",
        group="function",
        fc=("FC_FUNC_CODE_PATH",),
        parse=parse.directory,
        default=lambda known: parse.directory("."),
        default_text=".",
        metavar="DIR",
        doc="working directory of the handler and first entry of its sys.path",
    )
    preload: str = setting(
        "--preload",
        group="function",
        parse=parse.OneOf("auto", "always", "never"),
        default="auto",
        doc="import the handler in the zygote (shared memory, instant workers) or in "
        "each worker; auto falls back when the import leaves threads behind",
    )
    host: str = setting(
        "--host",
        group="server",
        parse=parse.host,
        default="0.0.0.0",  # noqa: S104 - the platform connects from outside
        metavar="ADDRESS",
        doc="address the front end listens on",
    )
    port: int = setting(
        "--port",
        group="server",
        fc=("FC_CUSTOM_LISTEN_PORT", "FC_SERVER_PORT"),
        fc_parse=parse.whole(1, 65535),
        parse=parse.whole(0, 65535, "0 = any that is free"),
        default=9000,
        metavar="N",
        doc="port the front end listens on; 0 = any that is free, printed",
    )
    drain_s: float = setting(
        "--drain",
        group="server",
        parse=parse.seconds,
        default=30.0,
        metavar="S",
        doc="seconds that running invocations have to finish after SIGTERM or SIGINT",
    )
    gateway: bool = setting(
        "--gateway",
        group="server",
        parse=parse.switch,
        default=False,
        kind="switch",
        doc="also answer the invocation API of Function Compute, for SDKs; with an s.yaml "
        "in the code directory for every function in it",
    )
    key: tuple[str, str] | None = setting(
        "--key",
        group="server",
        parse=parse.key,
        default=None,
        metavar="ID:SECRET",
        is_secret=True,
        doc="check the gateway's request signatures with this key; demanded where --host "
        "lets others in",
    )
    admin: tuple[str, int] | None = setting(
        "--admin",
        group="server",
        parse=parse.address,
        default=None,
        default_text="off",
        metavar="HOST:PORT",
        doc="serve status and results of asynchronous invocations here; others than this "
        "host need the token in ISORUNTIME_ADMIN_TOKEN",
    )
    min_workers: int = setting(
        "--min-workers",
        group="workers",
        parse=parse.whole(1, _MOST_WORKERS),
        default=1,
        metavar="N",
        doc="workers that are kept when idle",
    )
    max_workers: int = setting(
        "--max-workers",
        group="workers",
        parse=parse.whole(1, _MOST_WORKERS),
        default=_default_max_workers,
        default_text="max(32, 4 x CPUs)",
        metavar="N",
        doc="workers there may be at most, and so invocations at the same time",
    )
    max_invocations: int = setting(
        "--max-invocations",
        group="workers",
        parse=parse.whole(0, 1_000_000_000, "0 = no limit"),
        default=0,
        metavar="N",
        doc="invocations per worker, 0 = no limit; 1 = a fresh process for every "
        "invocation, for which --fresh is short",
    )
    max_age_s: float = setting(
        "--max-age",
        group="workers",
        parse=parse.seconds,
        default=0.0,
        metavar="S",
        doc="seconds after which an idle worker is replaced, 0 = no limit",
    )
    reload: bool = setting(
        "--reload",
        group="workers",
        parse=parse.switch,
        default=False,
        kind="switch",
        doc="serve changed code without a restart; code that does not load is told of, and "
        "the code before it serves on",
    )
    timeout_s: float = setting(
        "--timeout",
        group="limits",
        header="x-fc-function-timeout",
        parse=parse.positive_seconds,
        default=_default_timeout_s,
        default_text="60, on FC 86400",
        metavar="S",
        doc="seconds one invocation may take; a smaller one in the request's header "
        "holds",
    )
    init_timeout_s: float = setting(
        "--init-timeout",
        group="limits",
        header="x-fc-initialization-timeout",
        parse=parse.positive_seconds,
        default=300.0,
        metavar="S",
        doc="seconds that import and initializer may take",
    )
    memory_mb: int = setting(
        "--memory",
        group="limits",
        fc=("FC_FUNCTION_MEMORY_SIZE",),
        fc_parse=_function_memory_less_reserve,
        parse=parse.whole(0, 1024 * 1024, "0 = no limit"),
        default=512,
        metavar="MB",
        doc="resident memory of one worker with all its descendants, 0 = no limit; "
        "on FC the function's memory less a quarter, at most 64 MB, for the front end",
    )
    queue: int = setting(
        "--queue",
        group="limits",
        parse=parse.whole(0, 100_000),
        default=100,
        metavar="N",
        doc="invocations that may wait for a worker",
    )
    queue_timeout_s: float = setting(
        "--queue-timeout",
        group="limits",
        parse=parse.seconds,
        default=5.0,
        metavar="S",
        doc="seconds an invocation may wait for a worker",
    )
    max_event_mb: int = setting(
        "--max-event",
        group="limits",
        parse=parse.whole(1, 1024),
        default=32,
        metavar="MB",
        doc="largest event that is taken",
    )
    max_response_mb: int = setting(
        "--max-response",
        group="limits",
        parse=parse.whole(1, 1024),
        default=32,
        metavar="MB",
        doc="largest response a handler may return",
    )
    max_processes: int = setting(
        "--max-processes",
        group="limits",
        parse=parse.whole(1, 32768),
        default=64,
        metavar="N",
        doc="processes and threads of one worker with all its descendants",
    )
    sandbox: str = setting(
        "--sandbox",
        group="isolation",
        parse=parse.OneOf("off", "standard", "strict"),
        default="standard",
        doc="what workers give up; strict does not start where the host lacks a "
        "mechanism it needs",
    )
    network: str = setting(
        "--network",
        group="isolation",
        parse=parse.OneOf("host", "none"),
        default=_default_network,
        default_text="host, none under strict",
        doc="whether handlers reach the network",
    )
    env: tuple[str, ...] = setting(
        "--env",
        group="isolation",
        parse=parse.variable_name,
        default=(),
        kind="list",
        metavar="NAME",
        doc="variable that workers get besides the usual ones; may be repeated, the "
        "variable holds a comma list",
    )
    allow_read: tuple[str, ...] = setting(
        "--allow-read",
        group="isolation",
        parse=parse.absolute_path,
        default=(),
        kind="list",
        metavar="PATH",
        doc="path that handlers may read besides the system, the code and what is "
        "installed; may be repeated, the variable holds a comma list",
    )
    allow_write: tuple[str, ...] = setting(
        "--allow-write",
        group="isolation",
        parse=parse.absolute_path,
        default=(),
        kind="list",
        metavar="PATH",
        doc="path that handlers may write besides temporary folders and /mnt; may be "
        "repeated, the variable holds a comma list",
    )
    leftovers: str = setting(
        "--leftovers",
        group="isolation",
        parse=parse.OneOf("kill", "report", "allow"),
        default="kill",
        doc="what happens to descendants that outlive the handler's return",
    )
    errors: str = setting(
        "--errors",
        group="output",
        parse=parse.OneOf("fc", "http"),
        default="fc",
        doc="status codes of failures: those of the platform, or those HTTP has for it",
    )
    error_details: str = setting(
        "--error-details",
        group="output",
        parse=parse.OneOf("none", "summary", "full"),
        default="summary",
        doc="what the details object of a failure holds",
    )
    log_format: str = setting(
        "--log-format",
        group="output",
        parse=parse.OneOf("fc", "json"),
        default="fc",
        doc="lines as the platform writes them, or one JSON object a line",
    )
    log_level: str = setting(
        "--log-level",
        group="output",
        fc=("FC_SERVER_LOG_LEVEL",),
        parse=parse.log_level,
        default="INFO",
        metavar="LEVEL",
        doc="of the runtime and of the handler's root logger: DEBUG, INFO, WARNING, "
        "ERROR or CRITICAL",
    )

    def __init__(
        self,
        *,
        on_fc: bool = False,
        sources: Mapping[str, str] | None = None,
        **values: object,
    ) -> None:
        """Hold `values`, by attribute, and the defaults of all the others.

        Raises:
            TypeError: a value is for no setting.
            ValueError: a default cannot be had: the current directory is gone.
        """
        known: dict[str, Any] = {"on_fc": on_fc}
        for declared in DECLARED:
            name = declared.name
            given = name in values
            known[name] = values.pop(name) if given else declared.default_for(known)
        if values:
            raise TypeError(f"no such setting: {', '.join(values)}")
        #: whether the platform started us, which decides a few defaults
        self.on_fc = on_fc
        self._values = known
        self._sources = dict(sources or {})

    def value_of(self, name: str) -> Any:
        """Return the value of the setting with the attribute `name`."""
        return self._values[name]

    def source(self, name: str) -> str:
        """Return the flag or variable a value came from, or `default`."""
        if name not in self._values:
            raise KeyError(name)
        return self._sources.get(name, "default")

    def is_chosen(self, name: str) -> bool:
        """Tell whether the operator gave a value, rather than the platform or nobody."""
        source = self.source(name)
        return source.startswith((OWN_PREFIX, "--")) or source == "HANDLER"

    @property
    def takes_events(self) -> bool:
        """Whether there is anything to run for an event.

        An HTTP function needs no handler beside it. The platform always names one, which
        for a custom runtime means nothing (fc-contract.md 1.2).
        """
        return not self.http or self.is_chosen("handler")

    def secrets_in_arguments(self) -> list[str]:
        """Return the secrets that stand on the command line for all to see."""
        return [
            ":".join(self.value_of(each.name))
            for each in DECLARED
            if each.is_secret and self.source(each.name) == each.flag
        ]

    @property
    def memory_bytes(self) -> int:
        """Memory of one worker with all its descendants, 0 = no limit."""
        return self.memory_mb * _MB

    @property
    def max_event_bytes(self) -> int:
        """Largest event that is taken."""
        return self.max_event_mb * _MB

    @property
    def max_response_bytes(self) -> int:
        """Largest response a handler may return."""
        return self.max_response_mb * _MB

    def __repr__(self) -> str:
        """Show what differs from the defaults, and no secret."""
        words = (
            f"{each.name}={'***' if each.is_secret else repr(self.value_of(each.name))}"
            for each in DECLARED
            if each.name in self._sources
        )
        return f"Settings({', '.join(words)})"


#: Every setting, in the order of declaration.
DECLARED: tuple[Setting, ...] = tuple(
    each for each in vars(Settings).values() if isinstance(each, Setting)
)
