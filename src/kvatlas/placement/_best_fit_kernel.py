"""Best fit: the shortest run that is long enough, of equal ones that at the lowest address.

Owns: a set of bits in which runs are ordered by length and then by address. Leaves to others: which
runs there are (`_spans_kernel`).

Two runs of `length` ids start at least `length` + 1 apart, so that of those that start in
[q * (length + 1), (q + 1) * (length + 1)) there is one at most: the bit `size_starts[length]` + q
stands for it. That is N / (length + 1) bits for each length, N ln N in all: two bytes per id.
And the last id of those N // (length + 1) cells tells where in the cell the run starts: it is the
gap behind a run that starts at the cell's first id, or a member of one that starts later.
"""

from __future__ import annotations

import numpy as np

from kvatlas.jit import inlined, kernel
from kvatlas.placement._state_kernel import I64, NONE, Placement
from kvatlas.runs._bit_tree_kernel import at_least, highest, holds, lower


def size_starts(num_ids: int) -> I64:
    """Return (`num_ids` + 2,) where the bits of each run length begin; the last is their number."""
    lengths = np.arange(num_ids + 1, dtype=np.int64)
    cells = (num_ids - lengths) // (lengths + 1) + 1
    cells[0] = 0
    return np.concatenate(([0], np.cumsum(cells)))


@inlined
def size_bit(placement: Placement, first: int, length: int) -> int:
    """Return the number that stands for a run."""
    return int(placement.size_starts[length] + first // (length + 1))


@kernel
def best(placement: Placement, least: int) -> int:
    """Return the first id of the shortest run of at least `least` ids, NONE without; O(log64 N)."""
    length = at_least(placement.free.lengths, least)
    if length == NONE:
        return NONE
    start = placement.size_starts[length]
    cell = at_least(placement.sizes, start) - start
    last = cell * (length + 1) + length
    # Of the gaps, id b is number b + 1.
    if holds(placement.free.gaps, last + 1):
        return int(cell * (length + 1))
    return lower(placement.free.gaps, last + 1)


@kernel
def longest(placement: Placement) -> int:
    """Return the length of the longest run, at least 0; O(log64 N)."""
    return max(0, highest(placement.free.lengths))
