"""What a zygote and its workers are told once, before they import anything."""

from __future__ import annotations

from isoruntime.typed import NamedTuple


class LoadOrder(NamedTuple):
    """Everything a zygote and its workers have to know, and nothing secret."""

    #: empty where the function takes no events
    handler: str
    code_dir: str
    #: variables that were not known yet when the process was started
    environment: dict[str, str] = {}  # noqa: RUF012 - never changed
    initializer: str | None = None
    pre_stop: str | None = None
    pre_freeze: str | None = None
    #: an application for HTTP requests, beside the handler or in its place
    http: str | None = None
    #: in place of a handler: a program to run for each event
    command: list[str] = []  # noqa: RUF012 - never changed
    #: in place of a handler: an HTTP server to start in each worker
    upstream: list[str] = []  # noqa: RUF012 - never changed
    preload: bool = True
    log_level: str = "INFO"
    max_response_bytes: int = 32 << 20
    split_output: bool = False
    #: resident memory of one worker's tree; 0 = no limit
    memory_limit_mb: int = 0
    #: processes of one worker's tree; 0 = no limit
    max_processes: int = 0
    #: where the workers' temporary folders are made; empty = nowhere
    temp_base: str = ""
    #: off, standard or strict
    sandbox: str = "off"
    #: whether handlers reach the network of the host
    has_network: bool = True
    #: further paths that handlers may read, or write
    allow_read: list[str] = []  # noqa: RUF012 - never changed
    allow_write: list[str] = []  # noqa: RUF012 - never changed
    #: where a worker is to die, for tests of our own (`worker.chaos`)
    chaos: str = ""
    #: set the STS triple of each invocation in the worker's environment
    credentials_in_environment: bool = False
    #: False: Python keeps no bytecode of the code. It knows its own by the second and
    #: by the size of the source, and somebody who edits is faster than that.
    keeps_bytecode: bool = True
    #: where the worker waits for a debugger before it imports; 0 = it does not
    debug_port: int = 0
    #: a worker is replaced after its first invocation, whatever that leaves
    serves_once: bool = False
