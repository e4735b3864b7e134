"""The error tree, and that its picture is true."""

from __future__ import annotations

import pytest

from isoruntime import errors
from isoruntime.errors import (
    DeadlineExceeded,
    EventTooLarge,
    ExitStatus,
    InvalidSettings,
    IsoruntimeError,
    ResponseTooLarge,
    Verdict,
    WorkerDied,
)


def tree_of(cls: type[IsoruntimeError]) -> list[type[IsoruntimeError]]:
    """Return a class and all that come from it in the error module itself."""
    children = [sub for sub in cls.__subclasses__() if sub.__module__ == cls.__module__]
    return [cls, *(below for sub in children for below in tree_of(sub))]


def drawing_of(cls: type[IsoruntimeError], indent: str = "") -> list[str]:
    """Draw what hangs below a class, a line for each."""
    children = [sub for sub in cls.__subclasses__() if sub.__module__ == cls.__module__]
    lines = []
    for child in children:
        is_last = child is children[-1]
        lines.append(f"{indent}{'└' if is_last else '├'}── {child.__name__}")
        lines += drawing_of(child, indent + ("    " if is_last else "│   "))
    return lines


def test_the_docstring_draws_the_tree_that_exists() -> None:
    assert errors.__doc__ is not None
    paragraphs = errors.__doc__.split("\n\n")
    assert paragraphs[1].split("\n") == [
        IsoruntimeError.__name__,
        *drawing_of(IsoruntimeError),
    ]


def test_every_error_of_the_module_hangs_in_the_tree() -> None:
    classes = {
        thing
        for thing in vars(errors).values()
        if isinstance(thing, type) and issubclass(thing, BaseException)
    }
    assert classes == set(tree_of(IsoruntimeError))


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [vars(cls).get("code") for cls in tree_of(IsoruntimeError)]
    assert None not in codes
    assert len(codes) == len(set(codes))


def test_a_code_is_a_kebab_case_word() -> None:
    for cls in tree_of(IsoruntimeError):
        assert cls.code.replace("-", "").isalpha()
        assert cls.code == cls.code.lower()


@pytest.mark.parametrize(
    ("returncode", "text"),
    [
        (0, "exited with code 0"),
        (3, "exited with code 3"),
        (-11, "killed by SIGSEGV"),
        (-9, "killed by SIGKILL"),
        (-63, "killed by signal 63"),
    ],
)
def test_an_exit_status_says_how_a_process_ended(returncode: int, text: str) -> None:
    assert str(ExitStatus.from_returncode(returncode)) == text


def test_an_unknown_ending_says_so() -> None:
    assert str(ExitStatus()) == "ended in an unknown way"
    assert ExitStatus().signal_name is None


def test_the_platform_s_sentences_are_its_own() -> None:
    died = Verdict("exit", duration_ms=45, max_memory_mb=49)
    assert str(WorkerDied(died)) == (
        "Process exited unexpectedly before completing request "
        "(duration: 45ms, maxMemoryUsage: 49.00MB)"
    )
    late = Verdict("timeout", timeout_s=30.0, max_memory_mb=47.284)
    assert str(DeadlineExceeded(late)) == (
        "Function timed out after 30 seconds (maxMemoryUsage: 47.28MB)"
    )


def test_a_size_error_names_the_size_and_the_limit() -> None:
    assert "The event of 11 bytes is larger than the limit of 10 bytes" in str(
        EventTooLarge(10, 11)
    )
    assert str(EventTooLarge(10)).startswith("The event is larger than")
    assert "The response of 7 bytes is larger than the limit of 5 bytes" in str(
        ResponseTooLarge(7, 5)
    )


def test_all_refused_settings_are_listed() -> None:
    error = InvalidSettings(["--port: too high", "--memory: no number"])
    assert error.problems == ("--port: too high", "--memory: no number")
    assert str(error).splitlines() == list(error.problems)
