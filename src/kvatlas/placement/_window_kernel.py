"""The window placement: of a few blocks more than are needed, the fewest runs.

Owns: how wide the window is, and what it leaves out. Leaves to others: which blocks are in it, and
their age (the engine walks the queue).

What is taken is the oldest of what is not left out, as the queue would: blocks that were handed out
one after the other lie side by side, and come back side by side only if they are also evicted one
after the other. Taking the longest runs first, or the best fit of a run, breaks that order; on the
conversation trace either makes more runs than the queue's own victims, sorted.
"""

from __future__ import annotations

import math

from kvatlas.jit import inlined, kernel
from kvatlas.placement._sorted_kernel import LENGTH_BITS, LENGTHS, drain
from kvatlas.placement._state_kernel import I64, Placement
from kvatlas.runs._bit_tree_kernel import put_span


@inlined
def window_size(placement: Placement, count: int) -> int:
    """Return how many of the oldest free blocks to look at for a need of `count`."""
    info = placement.info
    slack = min(info.slack_blocks, math.ceil((info.most_ratio - 1.0) * count))
    return int(max(math.ceil(info.window_ratio * count), count + slack))


@kernel
def leave_out(placement: Placement, surplus: int) -> None:
    """Take the shortest runs out of `placement.chosen`, at most `surplus` ids in all.

    Of equal ones those at the lowest addresses; none of more than `short_blocks`, whose neighbours
    will be evicted with them as they were handed out together. O(ids / 64 + runs log runs).
    """
    spans, short = placement.spans, placement.info.short_blocks
    size = drain(placement)
    # From here on an entry is -(length << LENGTH_BITS | first id): the greatest is the shortest.
    for i in range(size):
        span = int(spans[i])
        spans[i] = -(((span & LENGTHS) << LENGTH_BITS) | (span >> LENGTH_BITS))
    for i in range(size // 2 - 1, -1, -1):
        _sink(spans, i, size)
    while size > 0:
        length = -int(spans[0]) >> LENGTH_BITS
        if length > surplus or length > short:
            break
        surplus -= length
        size -= 1
        spans[0] = spans[size]
        _sink(spans, 0, size)
    for i in range(size):
        span = -int(spans[i])
        put_span(placement.chosen, span & LENGTHS, span >> LENGTH_BITS)


@kernel
def _sink(heap: I64, at: int, size: int) -> None:
    """Let the entry at `at` sink to its place among the first `size`, the greatest on top."""
    entry = heap[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= entry:
            break
        heap[at] = heap[child]
        at = child
    if at < size:
        heap[at] = entry
