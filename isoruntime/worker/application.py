"""Which interface an HTTP application speaks, and who runs it."""

from __future__ import annotations

from isoruntime.typed import TYPE_CHECKING, Any, Final
from isoruntime.worker.load import LoadError

if TYPE_CHECKING:
    from isoruntime.worker.functions import Runner

_CO_COROUTINE: Final = 0x80
_WSGI_ARGUMENTS: Final = ("environ", "start_response")
_ASGI_ARGUMENTS: Final = ("scope", "receive", "send")


def application_runner(application: Any) -> Runner:
    """Return what runs this application.

    Raises:
        LoadError: it is nothing that can be called.
    """
    if not callable(application):
        message = (
            f"'{type(application).__name__}' object is no WSGI or ASGI application: "
            "name a callable with --http"
        )
        raise LoadError("HandlerNotFound", message, [])
    if _speaks_asgi(application):
        from isoruntime.worker.asgi import asgi_runner

        return asgi_runner(application)
    from isoruntime.worker.wsgi import wsgi_runner

    return wsgi_runner(application)


def looks_like_one(handler: Any) -> bool:
    """Return whether a handler is an HTTP application rather than one for events.

    It is told by its arguments, `(environ, start_response)` or those of ASGI: a call
    would be too late to find out.
    """
    return _speaks_asgi(handler) or _arguments(handler)[-2:] == _WSGI_ARGUMENTS


def _speaks_asgi(application: Any) -> bool:
    names = _arguments(application)
    if names[-3:] == _ASGI_ARGUMENTS:
        return True
    code = getattr(_function_of(application), "__code__", None)
    is_coroutine = bool(getattr(code, "co_flags", 0) & _CO_COROUTINE)
    return is_coroutine and len(names) >= len(_ASGI_ARGUMENTS)


def _arguments(application: Any) -> tuple[str, ...]:
    code = getattr(_function_of(application), "__code__", None)
    if code is None:
        return ()
    names: tuple[str, ...] = code.co_varnames[: code.co_argcount]
    return names


def _function_of(application: Any) -> Any:
    """Return the function in Python that a call of it ends up in, if there is one."""
    function = application
    if not hasattr(function, "__code__") and not hasattr(function, "__wrapped__"):
        # An object that can be called, a bound method, or a class.
        inner = getattr(function, "__func__", None)
        function = inner or getattr(type(function), "__call__", None)  # noqa: B004 - it is that function that is wanted
    for _ in range(16):
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is None:
            break
        function = wrapped
    return function
