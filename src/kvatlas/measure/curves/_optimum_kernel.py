"""The compiled loop of `optimum.py`: keep what is used soonest, at one capacity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import entry, inlined
from kvatlas.records import Record, record_dtype

__all__ = ["KEEPING", "Future", "Keeping", "keep_rows"]

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

KEEPING = record_dtype(row="i8", held="i8", waiting="i8")
"""`row`: the next request; `held`: blocks kept; `waiting`: entries of the heap."""


class Future(NamedTuple):
    """By request, the pieces of its path by who uses them next."""

    offsets: I64  # (N + 1,)
    next_use: I32  # (S,)
    blocks: I32  # (S,)


class Keeping(NamedTuple):
    """What the cache keeps: for whom and how much."""

    kept: I32  # (N,) blocks kept for each request to come
    heap: I32  # (N + 1,) requests for whom something is kept, the latest first
    info: Record  # KEEPING


@entry
def keep_rows(future: Future, keeping: Keeping, capacity: int, hits: I32, stop: int) -> None:
    """Serve requests up to `stop`, writing the leading blocks that each finds into `hits` (N,)."""
    info = keeping.info
    kept, heap = keeping.kept, keeping.heap
    for row in range(info.row, stop):
        hits[row] = kept[row]
        info.held -= kept[row]
        kept[row] = 0
        for piece in range(future.offsets[row], future.offsets[row + 1]):
            user = int(future.next_use[piece])
            if kept[user] == 0:
                _push(heap, info, user)
            kept[user] += future.blocks[piece]
            info.held += future.blocks[piece]
        while info.held > capacity:
            user = int(heap[0])
            # The deepest blocks kept for the latest user go first.
            gone = min(int(kept[user]), info.held - capacity)
            kept[user] -= gone
            info.held -= gone
            if kept[user] == 0:
                _pop(heap, info)
    info.row = max(info.row, stop)


@inlined
def _push(heap: I32, info: Record, user: int) -> None:
    at = int(info.waiting)
    info.waiting += 1
    while at > 0 and heap[(at - 1) >> 1] < user:
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at] = user


@inlined
def _pop(heap: I32, info: Record) -> None:
    """Take the latest user out. Past ones stay below it and come up when nothing else is left."""
    info.waiting -= 1
    size = int(info.waiting)
    last = heap[size]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= last:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = last
