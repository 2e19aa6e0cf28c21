"""The placements by address: a set of ids to choose from, kept as runs or as pieces.

Owns: spans that join and leave the set, and taking ids from it. Leaves to others: which ids are in
it (the engine's seam, `allocators`), each one's search (`_first_fit_kernel`, `_best_fit_kernel`,
`_buddy_kernel`).
"""

from __future__ import annotations

from kvatlas.jit import kernel
from kvatlas.placement._best_fit_kernel import best, longest, size_bit
from kvatlas.placement._buddy_kernel import find_piece, give_pieces, piece_end, split
from kvatlas.placement._codes_kernel import BEST_FIT, BUDDY, FIRST_FIT
from kvatlas.placement._first_fit_kernel import greatest, leftmost, set_value
from kvatlas.placement._sorted_kernel import sort_ids, write_run
from kvatlas.placement._state_kernel import I32, NONE, Placement
from kvatlas.runs._bit_tree_kernel import put, take
from kvatlas.runs._run_index_kernel import join_span, leave_span, sides


@kernel
def _index(placement: Placement, first: int, length: int, present: bool) -> None:
    """Let the policy's index know of a run that there is, or is no longer."""
    if length == 0:
        return
    if placement.info.code == FIRST_FIT:
        set_value(placement.lengths, first, length if present else 0)
    elif present:
        put(placement.sizes, size_bit(placement, first, length))
    else:
        take(placement.sizes, size_bit(placement, first, length))


@kernel
def give_span(placement: Placement, first: int, length: int) -> None:
    """Let `length` ids from `first` on, none of them in the set, join it; O(log N + length / 64).

    Of the buddy system O(log N) for each piece.
    """
    placement.info.members += length
    if placement.info.code == BUDDY:
        give_pieces(placement, first, length)
        return
    left, right = sides(placement.free, first, length)
    _index(placement, first - left, left, False)
    _index(placement, first + length, right, False)
    join_span(placement.free, first, length, left, right)
    _index(placement, first - left, left + length + right, True)


@kernel
def take_span(placement: Placement, first: int, length: int) -> None:
    """Let `length` ids from `first` on, all of them in the set, leave it; O(log N + length / 64).

    Of the buddy system O(log N) for each piece.
    """
    placement.info.members -= length
    if placement.info.code == BUDDY:
        end = first + length
        while first < end:
            stop = min(end, piece_end(placement, first))
            split(placement, first, stop - first)
            first = stop
        return
    left, right = sides(placement.free, first, length)
    _index(placement, first - left, left + length + right, False)
    leave_span(placement.free, first, length, left, right)
    _index(placement, first - left, left, True)
    _index(placement, first + length, right, True)


@kernel
def find_run(placement: Placement, count: int) -> int:
    """Return the first of `count` free ids side by side as the policy likes, NONE without.

    The buddy system only looks at single pieces. O(log N).
    """
    if placement.info.code == FIRST_FIT:
        return leftmost(placement.lengths, count)
    if placement.info.code == BEST_FIT:
        return best(placement, count)
    if placement.info.members == 0:
        return NONE
    first, order = find_piece(placement, count)
    return first if 1 << order >= count else NONE


@kernel
def _largest(placement: Placement) -> tuple[int, int]:
    """Return (first id, length) of the largest run, or piece; the set must not be empty."""
    if placement.info.code == FIRST_FIT:
        length = greatest(placement.lengths)
        return leftmost(placement.lengths, length), length
    if placement.info.code == BEST_FIT:
        length = longest(placement)
        return best(placement, length), length
    first, order = find_piece(placement, 1 << 30)
    return first, 1 << order


@kernel
def take_ids(placement: Placement, count: int, out: I32, start: int) -> None:
    """Take `count` ids of the set into `out[start:]`; the set has as many. O(pieces log N + count).

    As one run where the policy finds one; else the largest goes whole, and so on with what is left:
    few pieces, which are sorted at the end.
    """
    at, left, taken = start, count, 0
    while left > 0:
        first, length = find_run(placement, left), left
        if first == NONE:
            first, length = _largest(placement)
        take_span(placement, first, length)
        at = write_run(out, at, first, length)
        left -= length
        taken += 1
    if taken > 1:
        sort_ids(placement, out, start, count)
