"""What went wrong in user code, in the built-in runtime's words.

Nothing about an exception can be relied on: its text, its class's name and the
source it came from are all user code. Whatever they do, there is a description.
"""

from __future__ import annotations

import json
from collections import deque

from isoruntime.contract.encoding import fault_body
from isoruntime.typed import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import TracebackType

    from isoruntime.worker.load import LoadError

#: Longer messages are cut; the answer to one failure should fit on a screen, or at
#: least in memory a few hundred times.
MAX_MESSAGE_CHARS: Final = 256 * 1024
_MAX_NAME_CHARS: Final = 1024
_MAX_SOURCE_CHARS: Final = 4 * 1024
#: Of a longer stack only the ends are shown: how it began and where it broke.
_MAX_FRAMES_AT_AN_END: Final = 50

# The runtime, and what it runs handlers and encodes their return values with. Only the
# top of a stack is compared with these; below a handler they are the handler's affair.
_JSON_FOLDER: Final = json.__file__.rpartition("/")[0]
_OUR_FOLDERS: Final = (
    __file__.rsplit("/", 2)[0] + "/",
    _JSON_FOLDER + "/",
    _JSON_FOLDER.rpartition("/")[0] + "/asyncio/",
)


def describe(error: BaseException) -> tuple[str, str, list[list[str]]]:
    """Return type, message and stack of an exception, as an answer shows them.

    The stack has four texts a frame, outermost first. Frames that the runtime put
    above the handler are left out, and so is the middle of a very deep stack. A
    message over `MAX_MESSAGE_CHARS` is cut, and says at its end how long it was.
    Of a chain of exceptions only `error` itself is described.
    """
    return type_of(error), message_of(error), _stack_of(error)


def fault_of(error: BaseException) -> tuple[str, bytes]:
    """Return the type of an exception, and the whole body of the answer."""
    error_type, message, stack = describe(error)
    return error_type, fault_body(error_type, message, stack)


def load_fault_body(error: LoadError) -> bytes:
    """Return the body of the answer while the handler cannot be loaded."""
    return fault_body(error.error_type, error.message, error.stack)


def place_of(error: BaseException, folder: str) -> str:
    """Return the file and the line of the user's that broke; empty if none did.

    It is the innermost that lies in `folder`, and is named as seen from there. A file
    that does not compile was never entered, so there the error itself names it.
    """
    inside = folder.rstrip("/") + "/"
    file, line = "", 0
    tb = _traceback_of(error)
    while tb is not None:
        name = tb.tb_frame.f_code.co_filename
        if name.startswith(inside) and not name.startswith(_OUR_FOLDERS):
            file, line = name, tb.tb_lineno
        tb = tb.tb_next
    if issubclass(type(error), SyntaxError):
        named = SyntaxError.__dict__["filename"].__get__(error)
        # A text that was compiled by the user's own code has no file.
        if isinstance(named, str) and named.startswith("/"):
            file, line = named, SyntaxError.__dict__["lineno"].__get__(error)
    return (
        _cut(f"{file.removeprefix(inside)} line {line}", _MAX_NAME_CHARS)
        if file
        else ""
    )


def type_of(error: BaseException) -> str:
    """Return the name of an exception's class."""
    # Not `__name__`, which a metaclass can make anything.
    name: str = type.__dict__["__name__"].__get__(type(error))
    return _cut(name, _MAX_NAME_CHARS) or "Exception"


def message_of(error: BaseException) -> str:
    """Return the text of an exception, of bounded length."""
    try:
        # `str` again, since a subclass of it may have come out.
        message = str.__str__(str(error))
    except BaseException:  # noqa: BLE001 - user code, and we are already failing
        return f"<unprintable {type_of(error)} object>"
    return _cut(message, MAX_MESSAGE_CHARS)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]}... [cut: {len(text)} characters]"


def _stack_of(error: BaseException) -> list[list[str]]:
    tb = _skip_ours(_traceback_of(error))
    last: deque[TracebackType] = deque(maxlen=_MAX_FRAMES_AT_AN_END)
    stack: list[list[str]] = []
    depth = 0
    while tb is not None:
        if depth < _MAX_FRAMES_AT_AN_END:
            stack.append(_frame_of(tb))
        else:
            last.append(tb)
        depth += 1
        tb = tb.tb_next
    left_out = depth - len(stack) - len(last)
    if left_out:
        stack.append([*stack[-1][:3], f"... {left_out} frames left out ..."])
    stack.extend(map(_frame_of, last))
    return stack


def _traceback_of(error: BaseException) -> TracebackType | None:
    tb: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    return tb


def _skip_ours(tb: TracebackType | None) -> TracebackType | None:
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_OUR_FOLDERS):
        tb = tb.tb_next
    return tb


def _frame_of(tb: TracebackType) -> list[str]:
    frame = tb.tb_frame
    code = frame.f_code
    # There are instructions without a line of their own.
    line = tb.tb_lineno or code.co_firstlineno
    return [
        f'File "{_cut(code.co_filename, _MAX_NAME_CHARS)}"',
        f"line {line}",
        f"in {_cut(code.co_name, _MAX_NAME_CHARS)}",
        _source_of(code.co_filename, line, frame.f_globals),
    ]


def _source_of(filename: str, line: int, names: dict[str, Any]) -> str:
    try:
        # Here, as the first worker of a start does not wait for it; later ones have it
        # from the zygote.
        import linecache

        text = linecache.getline(filename, line, names)
    except Exception:  # noqa: BLE001 - a loader, or a `token.py`, of the user's may be asked
        return ""
    return _cut(text.strip(), _MAX_SOURCE_CHARS)
