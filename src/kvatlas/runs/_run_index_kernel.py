"""The maximal runs of a changing set of block ids, and how many there are of each length.

Owns: adding and removing a block. Leaves to others: what the set is. The ends of a run are the
gaps beside it, which one `BitTree` finds; the longest run is the highest number in another, of the
lengths that occur.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import entry, kernel
from kvatlas.runs._bit_tree_kernel import (
    BitTree,
    higher,
    highest,
    lower,
    put,
    put_span,
    take,
    take_span,
)
from kvatlas.runs._words_kernel import ONE, ZERO, Lengths, add_run

I32 = NDArray[np.int32]


class Runs(NamedTuple):
    """The runs of a set of blocks 0 .. N - 1."""

    gaps: BitTree  # of N + 2 numbers: 0, N + 1, and b + 1 for each block b that is not in the set
    lengths: BitTree  # of N + 1 numbers: those that are the length of a run
    with_length: I32  # (N + 1,) runs of each length
    seen: Lengths


@kernel
def _count_run(runs: Runs, length: int, times: int) -> None:
    if length == 0:
        return
    before = runs.with_length[length]
    runs.with_length[length] = before + times
    add_run(runs.seen, length, times)
    if before == 0:
        put(runs.lengths, length)
    elif before + times == 0:
        take(runs.lengths, length)


@kernel
def set_member(runs: Runs, block: int, member: int) -> None:
    """Put `block` into the set (`member` 1) or take it out (0); O(log64 N).

    Does nothing where it is so already.
    """
    at = block + 1
    gap = (runs.gaps.words[at >> 6] >> np.uint64(at & 63)) & ONE != ZERO
    if gap == (member == 0):
        return
    left = at - 1 - lower(runs.gaps, at)
    right = higher(runs.gaps, at) - at - 1
    if member != 0:
        take(runs.gaps, at)
        _count_run(runs, left, -1)
        _count_run(runs, right, -1)
        _count_run(runs, left + 1 + right, 1)
    else:
        put(runs.gaps, at)
        _count_run(runs, left + 1 + right, -1)
        _count_run(runs, left, 1)
        _count_run(runs, right, 1)


@kernel
def sides(runs: Runs, first: int, length: int) -> tuple[int, int]:
    """Return how many members lie side by side before and behind a span; O(log64 N).

    The span must be all members or no members.
    """
    at = first + 1
    left = at - 1 - lower(runs.gaps, at)
    right = higher(runs.gaps, at + length - 1) - (at + length)
    return left, right


@kernel
def join_span(runs: Runs, first: int, length: int, left: int, right: int) -> None:
    """Put a span of no members into the set, its `sides` given; O(length / 64 + log64 N)."""
    take_span(runs.gaps, first + 1, length)
    _count_run(runs, left, -1)
    _count_run(runs, right, -1)
    _count_run(runs, left + length + right, 1)


@kernel
def leave_span(runs: Runs, first: int, length: int, left: int, right: int) -> None:
    """Take a span of members out of the set, its `sides` given; O(length / 64 + log64 N)."""
    put_span(runs.gaps, first + 1, length)
    _count_run(runs, left + length + right, -1)
    _count_run(runs, left, 1)
    _count_run(runs, right, 1)


@kernel
def note_largest(runs: Runs) -> None:
    """Bring `seen.runs.largest` up to date; O(log64 N)."""
    runs.seen.runs.largest = max(0, highest(runs.lengths))


@entry
def change_members(runs: Runs, blocks: I32, member: int) -> None:
    """Put all of `blocks` into the set, or take them out; O(log64 N) each."""
    for i in range(blocks.shape[0]):
        set_member(runs, int(blocks[i]), member)
    note_largest(runs)


@entry
def run_around(runs: Runs, block: int) -> tuple[int, int]:
    """Return (first block, length) of the run that holds `block`; length 0 when none does."""
    at = block + 1
    if (runs.gaps.words[at >> 6] >> np.uint64(at & 63)) & ONE != ZERO:
        return block, 0
    start = lower(runs.gaps, at) + 1
    return start - 1, higher(runs.gaps, at) - start


@entry
def change_span(runs: Runs, first: int, length: int, member: int) -> None:
    """Put a span that is all outside of the set into it, or take one that is all in it out."""
    left, right = sides(runs, first, length)
    if member != 0:
        join_span(runs, first, length, left, right)
    else:
        leave_span(runs, first, length, left, right)
    note_largest(runs)
