"""One function over many chunks of rows, on all cores where there is enough to do, with a few chunks in memory."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

WORTH_BYTES = 32 * 2**20  # a smaller file is read sooner than a process is started
MAX_WORKERS = 8
AHEAD = 2  # chunks that wait for each process


def num_workers(num_bytes: int) -> int:
    """How many processes are worth it for a file of this size; 1 is this one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_WORKERS) if num_bytes >= WORTH_BYTES else 1


def each(function: Callable[[Item], Result], items: Iterable[Item], workers: int = 1) -> Iterator[Result]:
    """The results in the order of the items.

    Args:
        function: A function of a module, or a partial of one: it is sent to other processes.
        items: Taken as they are needed, so that they may depend on results that were given before.
        workers: Processes; 1 works in this one.
    """
    if workers == 1:
        yield from map(function, items)
        return
    # Not forked: threads of numpy and of tokenizers do not survive it.
    context = multiprocessing.get_context("spawn")
    waiting: deque[Future[Result]] = deque()
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
