"""`context`: what the platform tells a handler about its invocation.

The union of what the built-in Python 3.10 and 3.12 runtimes offer (fc-contract.md
4.2), and the remaining time. One is made for every invocation, so header values are
read once for all invocations that share them. The objects are never shared: what a
handler changes in them ends with its invocation. They are made when a handler looks at
the first of them; most never do.
"""

from __future__ import annotations

import json
import sys
import time

from isoruntime.typed import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping

#: What the built-in runtime assumes where it is not told.
_TIMEOUT_S: Final = 3
#: The default of `--memory`.
_MEMORY_MB: Final = 512
#: The longest timeout the platform has, told to handlers that have none.
_NO_DEADLINE_MS: Final = 86_400_000
#: Enough for the few sets of headers one function ever sees.
_MAX_FIELDS: Final = 64

_known_fields: dict[bytes, dict[str, str]] = {}


# What the frame of a request says in its `meta` (`wire.frames`), read piece by piece.


def request_id_of(meta: bytes) -> str:
    """Return the id of the request."""
    return meta.partition(b"\n")[0].decode()


def deadline_of(meta: bytes, received_at: float) -> float | None:
    """Return when it has to be over, by the clock of `received_at`; None for no limit."""
    left_ms = int(meta.split(b"\n", 2)[1])
    return received_at + left_ms / 1000 if left_ms >= 0 else None


def fields_of(meta: bytes) -> dict[str, str]:
    """Return what the platform says about the invocation, by header name.

    The names are those of `contract.headers`; the dictionary is shared, and not to be
    changed.
    """
    fields_json = meta.split(b"\n", 3)[2]
    fields = _known_fields.get(fields_json)
    if fields is None:
        fields = json.loads(fields_json)
        if len(_known_fields) >= _MAX_FIELDS:
            _known_fields.clear()
        _known_fields[fields_json] = fields
    return fields


class Credentials:
    """Temporary keys of the function's role; empty texts where it has none."""

    def __init__(
        self, access_key_id: str, access_key_secret: str, security_token: str
    ) -> None:
        self.access_key_id = access_key_id
        self.access_key_secret = access_key_secret
        self.security_token = security_token

    @property
    def accessKeyId(self) -> str:  # noqa: N802 - the built-in runtime's name
        """The same as `access_key_id`."""
        return self.access_key_id

    @property
    def accessKeySecret(self) -> str:  # noqa: N802 - the built-in runtime's name
        """The same as `access_key_secret`."""
        return self.access_key_secret

    @property
    def securityToken(self) -> str:  # noqa: N802 - the built-in runtime's name
        """The same as `security_token`."""
        return self.security_token

    def __repr__(self) -> str:
        # People print and log contexts; keys must not get out that way.
        return "<Credentials>"


class FunctionInfo:
    """How the function is configured; `memory` is MB, the timeouts are seconds.

    Where the platform does not say, `timeout` is 3 as in the built-in runtime,
    `memory` is 512 and `initialization_timeout` is 0.
    """

    def __init__(
        self,
        name: str,
        handler: str,
        memory: int,
        timeout: int,
        version_id: str,
        qualifier: str,
        initializer: str,
        initialization_timeout: int,
    ) -> None:
        self.name = name
        self.handler = handler
        self.memory = memory
        self.timeout = timeout
        self.version_id = version_id
        self.qualifier = qualifier
        self.initializer = initializer
        self.initialization_timeout = initialization_timeout

    def __repr__(self) -> str:
        return f"<FunctionInfo {self.name!r}>"


class ServiceInfo:
    """The service a function of FC 2.0 belongs to, and where its logs go."""

    def __init__(
        self,
        name: str,
        log_project: str,
        log_store: str,
        qualifier: str,
        version_id: str,
    ) -> None:
        self.name = name
        self.log_project = log_project
        self.log_store = log_store
        self.qualifier = qualifier
        self.version_id = version_id

    def __repr__(self) -> str:
        return f"<ServiceInfo {self.name!r}>"


class Tracing:
    """What to join the caller's trace with; each is None where there is none."""

    def __init__(
        self,
        span_context: str | None,
        span_baggages: dict[str, Any] | None,
        jaeger_endpoint: str | None,
    ) -> None:
        self.span_context = span_context
        self.span_baggages = span_baggages
        self.jaeger_endpoint = jaeger_endpoint

    def __repr__(self) -> str:
        return "<Tracing>"


class _Attributes:
    """Where a context keeps what it has: the platform's attributes in a dictionary."""

    # What is not the platform's stays out of `vars`.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_clock",
        "_is_filled",
        "_meta",
        "_received_at",
    )


class Context(_Attributes):
    """The second argument of every handler, and the only one of every hook.

    `meta` is that of the request's frame, and `received_at` when that came, in the seconds
    of `clock`. `vars(context)` is what it is in the built-in runtime.
    """

    __slots__ = ()
    request_id: str
    requestId: str  # noqa: N815 - the built-in runtime's name
    credentials: Credentials
    function: FunctionInfo
    service: ServiceInfo
    tracing: Tracing
    region: str
    account_id: str
    log_project: str
    log_store: str
    retry_count: int
    logger: logging.Logger

    def __init__(
        self,
        meta: bytes,
        received_at: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._meta = meta
        self._received_at = received_at
        self._clock = clock
        self._is_filled = False

    # Asked for what is not there: what has not been made yet, that is.

    def __getattr__(self, name: str) -> Any:
        # The slots of one that is just being copied are empty.
        if not name.startswith("_"):
            self._fill()
            attributes = _own_attributes(self)
            if name in attributes:
                return attributes[name]
            # Whoever has not imported `logging` hardly asks for a logger, see `records`.
            if name == "logger":
                return self._logger()
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}",
            name=name,
            obj=self,
        )

    def __delattr__(self, name: str) -> None:
        self._fill()
        super().__delattr__(name)

    def _fill(self) -> None:
        """Make the attributes, but for those that the handler has set."""
        if getattr(self, "_is_filled", True):
            return
        request_id = request_id_of(self._meta)
        values = _values_of(fields_of(self._meta))
        made = {
            "request_id": request_id,
            "requestId": request_id,
            "credentials": Credentials(*values.credentials),
            "function": FunctionInfo(*values.function),
            "service": ServiceInfo(*values.service),
            "tracing": Tracing(values.span_context, values.baggages(), values.jaeger),
            "region": values.region,
            "account_id": values.account_id,
            "log_project": values.log_project,
            "log_store": values.log_store,
            "retry_count": values.retry_count,
        }
        logging = sys.modules.get("logging")
        if logging is not None:
            made["logger"] = logging.root
        attributes = _own_attributes(self)
        for name, value in made.items():
            # Another thread of the handler's may be about the same.
            attributes.setdefault(name, value)
        self._is_filled = True

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        """Everything that the platform tells, the logger among it."""
        self._fill()
        attributes = _own_attributes(self)
        if "logger" not in attributes:
            self._logger()
        return attributes

    def _logger(self) -> logging.Logger:
        import logging

        self.logger = logging.root
        return self.logger

    def getLogger(self) -> logging.Logger:  # noqa: N802 - the built-in runtime's name
        """Return the logger whose records carry this invocation's request id."""
        return self.logger

    def get_remaining_time_in_millis(self) -> int:
        """Return how long the handler may still run, in milliseconds; never below 0.

        Without a deadline it is a day, the longest the platform ever allows.
        """
        deadline = deadline_of(self._meta, self._received_at)
        if deadline is None:
            return _NO_DEADLINE_MS
        return max(0, int((deadline - self._clock()) * 1000))

    def to_json(self) -> str:
        """Return everything as JSON with the built-in runtime's keys, secrets too."""
        credentials, function = self.credentials, self.function
        service, tracing = self.service, self.tracing
        return json.dumps(
            {
                "requestId": self.request_id,
                "credentials": {
                    "accessKeyId": credentials.access_key_id,
                    "accessKeySecret": credentials.access_key_secret,
                    "securityToken": credentials.security_token,
                },
                "function": {
                    "name": function.name,
                    "handler": function.handler,
                    "memory": function.memory,
                    "timeout": function.timeout,
                },
                "service": {
                    "name": service.name,
                    "logProject": service.log_project,
                    "logStore": service.log_store,
                    "qualifier": service.qualifier,
                    "versionId": service.version_id,
                },
                "region": self.region,
                "accountId": self.account_id,
                "retryCount": self.retry_count,
                "tracing": {
                    "openTracingSpanContext": tracing.span_context,
                    "openTracingSpanBaggages": tracing.span_baggages,
                    "jaegerEndpoint": tracing.jaeger_endpoint,
                },
            }
        )

    def __repr__(self) -> str:
        # Without ids and keys, since it ends up in logs.
        return f"<Context of {self.function!r}>"


#: What an instance holds itself, past the property of that name.
_own_attributes: Callable[[Context], dict[str, Any]] = _Attributes.__dict__[
    "__dict__"
].__get__


def _whole(text: str | None, otherwise: int) -> int:
    try:
        number = int(text or "")
    except ValueError:
        return otherwise
    return number if number >= 0 else otherwise


class _Values:
    """What one set of header values means, in the order the classes above take it."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        get = fields.get
        # Kept, not only its identity: a new dictionary could get the old one's `id`.
        self.fields = fields
        self.region = get("region", "")
        self.account_id = get("account-id", "")
        self.log_project = get("service-logproject", "")
        self.log_store = get("service-logstore", "")
        self.retry_count = _whole(get("retry-count"), 0)
        qualifier, version_id = get("qualifier", ""), get("version-id", "")
        self.credentials = (
            get("access-key-id", ""),
            get("access-key-secret", ""),
            get("security-token", ""),
        )
        self.function = (
            get("function-name", ""),
            get("function-handler", ""),
            _whole(get("function-memory"), _MEMORY_MB),
            _whole(get("function-timeout"), _TIMEOUT_S),
            version_id,
            qualifier,
            get("function-initializer", ""),
            _whole(get("initialization-timeout"), 0),
        )
        self.service = (
            get("service-name", ""),
            self.log_project,
            self.log_store,
            qualifier,
            version_id,
        )
        self.span_context = get("tracing-opentracing-span-context")
        self.jaeger = get("tracing-jaeger-endpoint")
        self._baggages = get("tracing-opentracing-span-baggages")

    def baggages(self) -> dict[str, Any] | None:
        """Return the baggage items, anew each time: tracers add to them."""
        if self._baggages is None:
            return None
        from binascii import a2b_base64

        try:
            items = json.loads(a2b_base64(self._baggages))
        except (ValueError, RecursionError) as error:
            import logging

            logging.getLogger(__name__).warning("unreadable baggage: %s", error)
            return {}
        return items if isinstance(items, dict) else {}


_latest = _Values({})


def _values_of(fields: Mapping[str, str]) -> _Values:
    global _latest  # noqa: PLW0603 - a worker runs one invocation at a time
    values = _latest
    if values.fields is not fields:
        # Looked at once: a thread that an earlier invocation left behind may be putting
        # its own in place.
        _latest = values = _Values(fields)
    return values
