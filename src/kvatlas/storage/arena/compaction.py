"""Making free bytes into one free range by moving what lies between them.

Owns: which stretch is slid, and moving its data. Leaves to others: new addresses
(`_slide_kernel`), and whether it pays (`kvatlas.defrag`).

This is where fragmentation of a store of any sizes can be undone: unlike in a pool of equal blocks,
a request fails here when its bytes are free but apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.storage.arena._ranges_kernel import in_order, longest_free
from kvatlas.storage.arena._slide_kernel import slide
from kvatlas.storage.arena._state_kernel import FREE, Arena
from kvatlas.storage.arena.backing import Backing

__all__ = ["Compaction", "compact"]

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did.

    Attributes:
        moves: copies made, neighbours that went the same way as one; `bytes_moved`: their sum.
        largest_before_bytes, largest_after_bytes: the largest free range.
        ranges_before, ranges_after: free ranges.
        reached: whether the free range that was asked for is there; True when none was.
    """

    moves: int
    bytes_moved: int
    largest_before_bytes: int
    largest_after_bytes: int
    ranges_before: int
    ranges_after: int
    reached: bool


def compact(arena: Arena, backing: Backing, until_bytes: int | None, pinned: I64) -> Compaction:
    """Slide everything down (`until_bytes` None), or the cheapest stretch that frees so much.

    Cheapest among stretches that begin and end with a free range and hold nothing pinned; for a
    wish, nothing aligned above the granule either, whose padding could spoil it. O(n log n).
    """
    before, ranges = longest_free(arena), int(arena.info[0].free_ranges)
    moves = np.zeros((0, 3), np.int64)
    if until_bytes is None or before < until_bytes:
        for first, last in _stretches(arena, until_bytes, pinned):
            done = np.zeros((int(arena.info[0].live), 3), np.int64)
            count = slide(arena, first, last, done)
            moves = np.concatenate((moves, done[:count]))
    moves = _joined(moves)
    for source, target, nbytes in moves.tolist():
        backing.move(source, target, nbytes)
    after = longest_free(arena)
    return Compaction(
        moves=int(moves.shape[0]),
        bytes_moved=int(moves[:, 2].sum()),
        largest_before_bytes=before,
        largest_after_bytes=after,
        ranges_before=ranges,
        ranges_after=int(arena.info[0].free_ranges),
        reached=until_bytes is None or after >= until_bytes,
    )


def _stretches(arena: Arena, until_bytes: int | None, pinned: I64) -> list[tuple[int, int]]:
    """Return the first and last node of each stretch to slide."""
    order = np.empty(in_order(arena, np.empty(0, np.int64)), np.int64)
    in_order(arena, order)
    nodes = arena.nodes[order]
    fixed = np.isin(order, pinned)
    if until_bytes is not None:
        fixed |= (nodes["state"] != FREE) & (nodes["align"] > arena.info[0].granule)
    edges = np.flatnonzero(np.diff(np.concatenate(([True], fixed, [True])).astype(np.int8)))
    parts = edges.reshape(-1, 2)  # [start, stop) of what lies between fixed nodes
    if until_bytes is None:
        return [(int(order[start]), int(order[stop - 1])) for start, stop in parts]
    lengths, free = nodes["length"], nodes["state"] == FREE
    best: tuple[int, int, int] | None = None
    for start, stop in parts:
        places = start + np.flatnonzero(free[start:stop])
        gained = np.concatenate(([0], np.cumsum(lengths[places])))
        # For each last free range, the shortest row of free ranges up to it that is enough.
        begin = np.searchsorted(gained, gained[1:] - until_bytes, side="right") - 1
        enough = np.flatnonzero(begin >= 0)
        if not enough.size:
            continue
        firsts, lasts = places[begin[enough]], places[enough]
        whole = np.concatenate(([0], np.cumsum(lengths[start:stop])))
        span = whole[lasts - start + 1] - whole[firsts - start]
        cost = span - (gained[enough + 1] - gained[begin[enough]])
        least = int(cost.argmin())
        if best is None or cost[least] < best[0]:
            best = int(cost[least]), int(order[firsts[least]]), int(order[lasts[least]])
    return [] if best is None else [best[1:]]


def _joined(moves: I64) -> I64:
    """Return the moves with neighbours that go the same way as one."""
    if moves.shape[0] == 0:
        return moves
    source, target, nbytes = moves.T
    follows = (source[1:] == source[:-1] + nbytes[:-1]) & (target[1:] == target[:-1] + nbytes[:-1])
    first = np.flatnonzero(np.concatenate(([True], ~follows)))
    return np.column_stack((source[first], target[first], np.add.reduceat(nbytes, first)))
