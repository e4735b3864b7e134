"""Exceptions as answers: the shape and texts of fc-contract.md 4.5."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from isoruntime.contract import encoding
from isoruntime.worker.faults import (
    MAX_MESSAGE_CHARS,
    describe,
    fault_of,
    load_fault_body,
)
from isoruntime.worker.load import LoadError


def caught_from(function: Callable[..., Any], *args: Any) -> BaseException:
    """Return what a function raises, as if the runtime had called it itself."""
    try:
        function(*args)
    except BaseException as raised:  # noqa: BLE001 - whatever is raised is described
        error = raised
    traceback = error.__traceback__
    assert traceback is not None
    return error.with_traceback(traceback.tb_next)


def raising(error: BaseException) -> NoReturn:
    raise error


def code_of(source: str, filename: str = "/code/index.py") -> dict[str, Any]:
    """Run source that stands in no file and return its names."""
    names: dict[str, Any] = {}
    exec(compile(source, filename, "exec"), names)  # noqa: S102 - our own source
    return names


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("bad \xe9"), "ValueError", "bad \xe9"),
        (KeyError("k"), "KeyError", "'k'"),
        (ValueError(), "ValueError", ""),
        (ValueError("a", 1), "ValueError", "('a', 1)"),
        (GeneratorExit("x"), "GeneratorExit", "x"),
        (OSError(2, "No such file"), "FileNotFoundError", "[Errno 2] No such file"),
    ],
)
def test_an_exception_is_told_by_type_and_text(
    error: BaseException, kind: str, message: str
) -> None:
    assert describe(error) == (kind, message, [])


def test_a_raised_exception_becomes_these_bytes() -> None:
    error = caught_from(raising, ValueError("bad \xe9"))
    line = raising.__code__.co_firstlineno + 1
    kind, body = fault_of(error)
    assert kind == "ValueError"
    assert body.decode("ascii") == (
        "{\n"
        '    "errorMessage": "bad \\u00e9",\n'
        '    "errorType": "ValueError",\n'
        '    "stackTrace": [\n'
        "        [\n"
        f'            "File \\"{__file__}\\"",\n'
        f'            "line {line}",\n'
        '            "in raising",\n'
        '            "raise error"\n'
        "        ]\n"
        "    ]\n"
        "}"
    )


def test_frames_stand_outermost_first() -> None:
    def outer() -> None:
        raising(ValueError("deep"))

    stack = describe(caught_from(outer))[2]
    assert [frame[2] for frame in stack] == ["in outer", "in raising"]
    assert stack[0][3] == 'raising(ValueError("deep"))'


def args0() -> None:
    """Take no event."""


def args1(event: bytes) -> None:
    """Take no context."""


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (args0, "args0() takes 0 positional arguments but 2 were given"),
        (args1, "args1() takes 1 positional argument but 2 were given"),
        (3, "'int' object is not callable"),
    ],
)
def test_a_call_that_cannot_be_made_has_no_stack(handler: Any, message: str) -> None:
    def call() -> None:
        handler(b"", None)

    error = caught_from(call)
    # The calling frame is the runtime's, as in a worker.
    assert error.__traceback__ is not None
    _, body = fault_of(error.with_traceback(error.__traceback__.tb_next))
    assert json.loads(body) == {"errorMessage": message, "errorType": "TypeError"}


def test_the_runtime_s_frames_above_the_handler_are_left_out() -> None:
    runtime = code_of(
        "def call(f): return inner(f)\ndef inner(f): return f()\n",
        encoding.__file__.replace("encoding.py", "made_up.py"),
    )

    def handler() -> None:
        runtime["call"](lambda: raising(ValueError()))

    from_runtime = caught_from(runtime["call"], handler)
    stack = describe(from_runtime)[2]
    # Those that the handler itself has called into are its own affair.
    assert [frame[2] for frame in stack] == [
        "in handler",
        "in call",
        "in inner",
        "in <lambda>",
        "in raising",
    ]


def test_a_value_that_cannot_be_encoded_has_no_stack() -> None:
    circular: list[Any] = []
    circular.append(circular)
    for value in ({1}, circular, {1: 1, "a": 2}, "\ud800"):
        assert describe(caught_from(encoding.encode, value))[2] == []


def test_what_a_value_s_own_code_raises_has_its_stack() -> None:
    class Broken:
        def to_json(self) -> None:
            raise KeyError("mine")

    stack = describe(caught_from(encoding.encode, {"a": Broken()}))[2]
    assert [frame[2] for frame in stack] == ["in to_json"]


def test_the_event_loop_above_an_async_handler_is_left_out() -> None:
    async def handler() -> None:
        raising(ValueError())

    stack = describe(caught_from(asyncio.run, handler()))[2]
    assert [frame[2] for frame in stack] == ["in handler", "in raising"]


def test_only_the_last_of_chained_exceptions_is_told() -> None:
    def chained() -> None:
        try:
            raising(KeyError("first"))
        except KeyError as error:
            raise LookupError("a, b") from error

    kind, message, stack = describe(caught_from(chained))
    assert (kind, message) == ("LookupError", "a, b")
    assert [frame[2:] for frame in stack] == [
        ["in chained", 'raise LookupError("a, b") from error']
    ]


def test_a_chain_that_leads_to_itself_is_told() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert describe(caught_from(raising, first))[1] == "first"


class Unprintable(ValueError):
    def __str__(self) -> str:
        raise RuntimeError("no")


class Leaving(ValueError):
    def __str__(self) -> str:
        raise SystemExit(3)


class NotText(ValueError):
    def __str__(self) -> str:
        return None  # type: ignore[return-value] # noqa: PLE0307 - the point of it


@pytest.mark.parametrize("kind", [Unprintable, Leaving, NotText])
def test_an_exception_that_cannot_be_text_is_told_by_its_type(
    kind: type[ValueError],
) -> None:
    name = kind.__name__
    assert describe(kind())[:2] == (name, f"<unprintable {name} object>")


def test_a_text_of_a_subclass_is_told_as_plain_text() -> None:
    class Text(str):
        __slots__ = ()

        def __len__(self) -> int:
            return 10**9

    class Odd(ValueError):
        def __str__(self) -> str:
            return Text("plain")

    message = describe(Odd())[1]
    assert type(message) is str
    assert message == "plain"


def test_lone_surrogates_can_be_written() -> None:
    _, body = fault_of(ValueError("\ud800"))
    assert json.loads(body) == {"errorMessage": "\ud800", "errorType": "ValueError"}


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no")


class MetaError(Exception, metaclass=Meta):
    """A class that does not say its name."""


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (type("", (Exception,), {}), "Exception"),
        (type("a\nb", (Exception,), {}), "a\nb"),
        (type("\u2744", (Exception,), {}), "\u2744"),
        (MetaError, "MetaError"),
    ],
    ids=["empty", "two lines", "not ASCII", "hidden"],
)
def test_an_odd_class_has_a_name(kind: type[Exception], name: str) -> None:
    assert describe(kind("x"))[:2] == (name, "x")
    assert json.loads(fault_of(kind("x"))[1])["errorType"] == name


def test_a_very_long_name_is_cut() -> None:
    name = describe(type("N" * 100_000, (Exception,), {})())[0]
    assert name.startswith("NNN")
    assert len(name) < 2000


def test_a_very_long_message_is_cut_and_says_so() -> None:
    message = describe(ValueError("m" * 10_000_000))[1]
    assert message == "m" * MAX_MESSAGE_CHARS + "... [cut: 10000000 characters]"
    longest = "m" * MAX_MESSAGE_CHARS
    assert describe(ValueError(longest))[1] == longest


def test_source_that_is_missing_is_an_empty_text() -> None:
    names = code_of("\n\ndef handler(): raise ValueError\n", "/code/gone.py")
    assert describe(caught_from(names["handler"]))[2] == [
        ['File "/code/gone.py"', "line 3", "in handler", ""]
    ]


def test_source_that_cannot_be_read_is_an_empty_text() -> None:
    class Loader:
        def get_source(self, name: str) -> str:
            raise RuntimeError("no")

    names = code_of("def handler(): raise ValueError\n", "/code/guarded.py")
    names |= {"__loader__": Loader(), "__name__": "guarded"}
    assert describe(caught_from(names["handler"]))[2] == [
        ['File "/code/guarded.py"', "line 1", "in handler", ""]
    ]


def test_a_very_long_line_of_source_is_cut(tmp_path: Any) -> None:
    path = tmp_path / "minified.py"
    path.write_text(f"def handler(): raise ValueError; x = '{'x' * 1_000_000}'\n")
    names = code_of(path.read_text(), str(path))
    ((_, _, _, source),) = describe(caught_from(names["handler"]))[2]
    assert source.startswith("def handler(): raise ValueError; x = 'xxx")
    assert len(source) < 5000


def deep(levels: int) -> None:
    if levels == 0:
        raise ValueError("at the bottom")
    deep(levels - 1)


def test_a_deep_stack_shows_its_ends_and_how_much_is_missing() -> None:
    stack = describe(caught_from(deep, 399))[2]
    assert len(stack) == 101
    assert all(len(frame) == 4 for frame in stack)
    assert stack[50] == [*stack[49][:3], "... 300 frames left out ..."]
    assert stack[-1][3] == 'raise ValueError("at the bottom")'


@pytest.mark.parametrize(("levels", "shown"), [(98, 99), (99, 100), (100, 101)])
def test_a_stack_is_shown_whole_up_to_a_hundred_frames(levels: int, shown: int) -> None:
    stack = describe(caught_from(deep, levels))[2]
    assert len(stack) == shown
    missing = [frame[3] for frame in stack if "left out" in frame[3]]
    assert missing == (["... 1 frames left out ..."] if levels == 100 else [])


def test_endless_recursion_is_told() -> None:
    def endless() -> None:
        endless()

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(5000)
    try:
        kind, message, stack = describe(caught_from(endless))
    finally:
        sys.setrecursionlimit(limit)
    assert kind == "RecursionError"
    assert "maximum recursion depth exceeded" in message
    assert len(stack) == 101


def test_a_load_error_becomes_these_bytes() -> None:
    error = LoadError("InvalidHandleName", "Invalid handler 'index'", ["a, b"])
    assert load_fault_body(error) == (
        b"{\n"
        b'    "errorMessage": "Invalid handler \'index\'",\n'
        b'    "errorType": "InvalidHandleName",\n'
        b'    "stackTrace": [\n'
        b'        "a, b"\n'
        b"    ]\n"
        b"}"
    )
