"""Work shared out over a few threads, for compiled code that releases the GIL.

Owns: how many threads, and the pool of them. Leaves to others: cutting the work (`host`).
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

__all__ = ["in_threads", "num_threads"]

MOST_THREADS = 8
"""A memory bus is full before that."""


def num_threads() -> int:
    """Return how many threads copy: the cores that this process may use, 8 at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(MOST_THREADS, cores or 1))


def in_threads(work: Callable[[int, int], None], shares: Sequence[tuple[int, int]]) -> None:
    """Call `work(first, last)` for every share, the first in this thread; wait for all.

    Raises:
        Exception: what the first share that failed raised.
    """
    if not shares:
        return
    others = [_threads(os.getpid()).submit(work, *share) for share in shares[1:]]
    try:
        work(*shares[0])
    finally:
        errors = [each.exception() for each in others]
    for error in errors:
        if error is not None:
            raise error


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    """Return the threads of this process: a forked child has none of its parent's."""
    return ThreadPoolExecutor(max(1, num_threads() - 1), thread_name_prefix="kvatlas-copy")


def shares(weights_before: Sequence[int], parts: int) -> list[tuple[int, int]]:
    """Cut items into at most `parts` stretches of about equal weight.

    Args:
        weights_before: (items + 1,) the weight before each item and the total, rising from 0;
            no item weighs nothing.
    """
    total = weights_before[-1]
    cuts = [bisect_left(weights_before, total * part // parts) for part in range(parts + 1)]
    return [(first, last) for first, last in pairwise(cuts) if first < last]
