"""What a handler returned, or how it failed, as the bytes of a body.

Both are what the built-in runtime writes, byte for byte (fc-contract.md 4.4, 4.5):
alarms, tests and other functions read them. Source of every text here.
"""

from __future__ import annotations

import json
import sys

from isoruntime.typed import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Of what a server said before it gave up.
_MAX_LAST_LINES: Final = 20


def encode(value: object) -> bytes:
    """Return the body for what the handler returned.

    Raises:
        TypeError: there is no JSON for `value`, or for something in it.
        ValueError: `value` contains itself, or text that is not Unicode.
    """
    if type(value) is bytes:
        return value
    # The methods of the types themselves, whatever a subclass made of them: their
    # result is a plain `bytes`, whose length nobody can lie about.
    if isinstance(value, str):
        return str.encode(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return memoryview(value).tobytes()
    return _ENCODER.encode(value).encode("ascii")


def fault_body(error_type: str, message: str, stack: Sequence[object]) -> bytes:
    """Return the body of a failure; an empty `stack` is left out."""
    fault: dict[str, object] = {"errorMessage": message, "errorType": error_type}
    if stack:
        fault["stackTrace"] = stack
    return json.dumps(fault, indent=4, sort_keys=True).encode("ascii")


def with_last_words(body: bytes, output: bytes) -> bytes:
    """Return a failure's body with the last lines of an output as its stack.

    Nobody vouches for `body`; what is no failure is returned as it is.
    """
    lines = output.decode("utf-8", "replace").splitlines()
    last = [line for line in lines if line.strip()][-_MAX_LAST_LINES:]
    try:
        fault = json.loads(body)
        return fault_body(fault["errorType"], fault["errorMessage"], last)
    except (ValueError, KeyError, TypeError, RecursionError):
        return body


def _default(value: Any) -> object:
    if _is_a(value, "datetime", "date"):
        return value.isoformat()
    if _is_a(value, "decimal", "Decimal"):
        return float(value)
    # On a class, `to_json` would be found but could not be called.
    to_json = None if isinstance(value, type) else getattr(value, "to_json", None)
    if callable(to_json):
        return to_json()
    raise TypeError(f"{_repr(value)} is not JSON serializable")


def _is_a(value: object, module: str, name: str) -> bool:
    # Nothing is imported for this: while there is an instance, its module is there,
    # and an import here could find a file of the user's by the same name.
    cls = getattr(sys.modules.get(module), name, None)
    return isinstance(cls, type) and isinstance(value, cls)


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - user code; the reason stays that there is no JSON
        return f"<unprintable {type(value).__name__} object>"


_ENCODER: Final = json.JSONEncoder(default=_default, indent=4, sort_keys=True)
