"""The buddy system: pieces of 2**order ids at multiples of 2**order, split and merged.

Owns: the free pieces. Leaves to others: who asks (`_spans_kernel`). Knowlton, CACM 1965.

A piece is bit `piece_starts[order]` + first id >> order of one set: the next bit from an order on
is the smallest piece that is large enough, at the lowest address. Ids beyond the pool are never
free, so a pool of any size works: at first it is as few pieces as its size has ones. What a need
leaves of a piece goes back at once, in pieces of its own.
"""

from __future__ import annotations

import numpy as np

from kvatlas.jit import inlined, kernel
from kvatlas.placement._state_kernel import I64, NONE, Placement
from kvatlas.runs._bit_tree_kernel import at_least, highest, holds, put, take


def piece_starts(num_ids: int) -> I64:
    """Return (orders + 1,) where the bits of each order begin; the last is their number."""
    orders = np.arange(num_ids.bit_length())
    return np.concatenate(([0], np.cumsum(num_ids >> orders))).astype(np.int64)


@inlined
def _order_of(placement: Placement, bit: int) -> int:
    order = 0
    while placement.piece_starts[order + 1] <= bit:
        order += 1
    return order


@kernel
def _merge(placement: Placement, first: int, order: int) -> None:
    """Free a piece, together with its buddy, and so on up; O(log N)."""
    starts, pieces = placement.piece_starts, placement.pieces
    while order + 1 < starts.shape[0] - 1:
        buddy = starts[order] + ((first >> order) ^ 1)
        if buddy >= starts[order + 1] or not holds(pieces, buddy):
            break
        take(pieces, buddy)
        first &= ~(1 << order)
        order += 1
    put(pieces, starts[order] + (first >> order))


@kernel
def give_pieces(placement: Placement, first: int, length: int) -> None:
    """Free `length` ids from `first` on; O(log N) for each of the fewest pieces they are."""
    end = first + length
    while first < end:
        order = 0
        while first & (1 << order) == 0 and first + (2 << order) <= end:
            order += 1
        _merge(placement, first, order)
        first += 1 << order


@kernel
def find_piece(placement: Placement, count: int) -> tuple[int, int]:
    """Return (first id, order) of the smallest piece of at least `count` ids, else the largest.

    Of equal ones that at the lowest address; the set must not be empty. O(log N).
    """
    starts, pieces = placement.piece_starts, placement.pieces
    order = 0
    while 1 << order < count:
        order += 1
    bit = NONE
    if order < starts.shape[0] - 1:
        bit = at_least(pieces, starts[order])
    if bit == NONE:
        bit = at_least(pieces, starts[_order_of(placement, highest(pieces))])
    order = _order_of(placement, bit)
    return int((bit - starts[order]) << order), order


@kernel
def split(placement: Placement, first: int, length: int) -> None:
    """Take `length` free ids from `first` on, all of one piece, out of it; O(log N)."""
    starts, pieces = placement.piece_starts, placement.pieces
    order = 0
    while not holds(pieces, starts[order] + (first >> order)):
        order += 1
    take(pieces, starts[order] + (first >> order))
    start = first >> order << order
    give_pieces(placement, start, first - start)
    give_pieces(placement, first + length, start + (1 << order) - first - length)


@kernel
def piece_end(placement: Placement, first: int) -> int:
    """Return where the free piece that holds the id `first` ends; O(log N)."""
    order = 0
    while not holds(placement.pieces, placement.piece_starts[order] + (first >> order)):
        order += 1
    return int(((first >> order) + 1) << order)
