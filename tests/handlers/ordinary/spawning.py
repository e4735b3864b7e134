"""Processes that begin with a new interpreter, as multiprocessing can start them."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver

from .processes import end_resource_tracker, square
from .registry import action


@action("multiprocessing by spawn")
def mp_spawn() -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    child = context.Process(target=_put, args=(queue, 12))
    child.start()
    assert queue.get() == 144
    child.join()
    assert child.exitcode == 0
    queue.close()
    end_resource_tracker()


def _put(queue: object, number: int) -> None:
    queue.put(square(number))  # type: ignore[attr-defined]


@action("ProcessPoolExecutor by spawn")
def executor_by_spawn() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert list(pool.map(square, range(5))) == [0, 1, 4, 9, 16]
    end_resource_tracker()


@action("multiprocessing by forkserver")
def mp_forkserver() -> None:
    context = multiprocessing.get_context("forkserver")
    with context.Pool(1) as pool:
        assert pool.map(square, range(3)) == [0, 1, 4]
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    end_resource_tracker()
