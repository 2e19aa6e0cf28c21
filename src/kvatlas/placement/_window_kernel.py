"""The window placement: of a few blocks more than are needed, the fewest runs.

Owns: the choice. Leaves to others: which blocks are in the window (the engine walks the queue).
"""

from __future__ import annotations

from kvatlas.jit import inlined, kernel
from kvatlas.placement._sorted_kernel import LENGTH_BITS, LENGTHS, drain, write_run
from kvatlas.placement._state_kernel import I32, I64, Placement
from kvatlas.runs._bit_tree_kernel import holds, take


@kernel
def choose(placement: Placement, count: int, follow: int, out: I32, start: int) -> None:
    """Put `count` of the ids in `placement.chosen` into `out[start:]`, and empty it.

    First the run from the id `follow` on, which continues the block table (NONE for no such);
    then the longest runs, and of the last the smallest that is long enough: no choice has fewer
    runs. O(window + runs log runs).
    """
    chosen, spans = placement.chosen, placement.spans
    at, left = start, count
    if follow >= 0:
        while left > 0 and holds(chosen, follow):
            take(chosen, follow)
            out[at] = follow
            at += 1
            left -= 1
            follow += 1
    size = drain(placement)
    # From here on a span is length << LENGTH_BITS | LENGTHS - first id: the greatest is the
    # longest, and of equal ones that at the lowest address.
    for i in range(size):
        span = int(spans[i])
        spans[i] = ((span & LENGTHS) << LENGTH_BITS) | (LENGTHS - (span >> LENGTH_BITS))
    for i in range(size // 2 - 1, -1, -1):
        _sink(spans, i, size)
    while left > 0:
        span = int(spans[0])
        if span >> LENGTH_BITS > left:
            span = _smallest(spans, size, left)
        length = min(span >> LENGTH_BITS, left)
        at = write_run(out, at, LENGTHS - (span & LENGTHS), length)
        left -= length
        size -= 1
        spans[0] = spans[size]
        _sink(spans, 0, size)


@inlined
def _smallest(spans: I64, size: int, least: int) -> int:
    """Return the shortest span of at least `least` ids, the lowest address of equal ones."""
    found = int(spans[0])
    for i in range(1, size):
        span = int(spans[i])
        length, best = span >> LENGTH_BITS, found >> LENGTH_BITS
        if length >= least and (length < best or (length == best and span > found)):
            found = span
    return found


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
