"""Whether isoruntime would start with what it is told, and whether that makes sense there."""

from __future__ import annotations

import math
from collections.abc import Iterator

from isoruntime.project.finding import ERROR, WARNING, Finding, Kind
from isoruntime.project.function import Function
from isoruntime.settings import Settings
from isoruntime.typed import Final

SETTING: Final = Kind(
    "setting-refused",
    ERROR,
    "A flag in customRuntimeConfig.args or in bootstrap, or an ISORUNTIME_* variable, is "
    "one that isoruntime refuses: it would not start.",
    "docs/settings.md lists the flags, their variables and what they take",
    "Function instance exited unexpectedly(code 2, message:no such file or directory) "
    "with start command '/code/bootstrap '.",
)
WORKERS: Final = Kind(
    "workers-too-few",
    WARNING,
    "instanceConcurrency is more than --max-workers: the platform sends more invocations "
    "at the same time than there are workers, and the others wait in the queue.",
    "raise --max-workers to instanceConcurrency, or lower that",
)
TIMEOUT: Final = Kind(
    "timeout-never-reached",
    WARNING,
    "isoruntime's own limit of time is longer than the platform's: a function that hangs "
    "takes the instance with it.",
    "leave the flag out, or give less than s.yaml does",
    "Function timed out after",
)
MEMORY: Final = Kind(
    "memory-never-reached",
    WARNING,
    "A worker may take more memory than the function has: the platform would end the "
    "whole instance before isoruntime ends the worker.",
    "leave --memory out: it follows from memorySize",
    "Process exited unexpectedly before completing request; exit code 137",
)
HOOK: Final = Kind(
    "hook-never-called",
    WARNING,
    "isoruntime is given a hook that the platform does not call, because s.yaml does not "
    "switch it on.",
    "add instanceLifecycleConfig.preStop with a handler and a timeout",
)


def check(function: Function) -> Iterator[Finding]:
    """Yield what isoruntime would refuse, and what is of no use."""
    told = function.told
    if told is None:
        return
    for place, problem in told.problems:
        cause, _, fix = problem.partition(": ")
        yield SETTING.at(place, cause, fix)
    if function.manifest:
        yield from _workers(function, told.settings)
        yield from _times(function, told.settings)
        yield from _hooks(function, told.settings)


def _workers(function: Function, settings: Settings) -> Iterator[Finding]:
    wanted = function.props.number("instanceConcurrency")
    # The default grows with the processors.
    default = max(32, 4 * math.ceil(function.props.number("cpu") or 1))
    most = settings.max_workers if settings.is_chosen("max_workers") else default
    if wanted and wanted > most:
        cause = (
            f"instanceConcurrency is {wanted:g}, and there are at most {most} workers"
        )
        fix = f"give --max-workers {wanted:g} in customRuntimeConfig.args"
        yield WORKERS.at(function.place("instanceConcurrency"), cause, fix)


def _times(function: Function, settings: Settings) -> Iterator[Finding]:
    for name, key in (
        ("timeout_s", "timeout"),
        ("init_timeout_s", "instanceLifecycleConfig.initializer.timeout"),
    ):
        limit = function.props.number(key)
        value = settings.value_of(name)
        if limit and settings.is_chosen(name) and value > limit:
            cause = f"{settings.source(name)} is {value:g} s, and {key} is {limit:g} s"
            yield TIMEOUT.at(function.place(key), cause)
    memory = function.props.number("memorySize")
    if memory and settings.is_chosen("memory_mb") and settings.memory_mb > memory:
        cause = (
            f"{settings.source('memory_mb')} is {settings.memory_mb} MB, and memorySize "
            f"is {memory:g}"
        )
        yield MEMORY.at(function.place("memorySize"), cause)


def _hooks(function: Function, settings: Settings) -> Iterator[Finding]:
    if settings.pre_stop and not function.props.get("instanceLifecycleConfig.preStop"):
        cause = (
            f"{settings.source('pre_stop')} is given, and preStop is not switched on"
        )
        yield HOOK.at(function.place("instanceLifecycleConfig"), cause)
