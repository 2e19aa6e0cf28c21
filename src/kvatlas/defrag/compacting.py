"""Everything to one end: used blocks at the lowest ids, one free run behind them.

Owns: which blocks go where. Leaves to others: whether that is worth it (`deciding`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kvatlas.defrag.moves import I64, Blocks, Moves, complete

__all__ = ["plan_compaction", "plan_sorted_compaction"]


def plan_compaction(blocks: Blocks, *, keep_cached: bool = False) -> Moves:
    """Return the fewest moves after which all occupied blocks lie at the lowest ids; O(N).

    Blocks beyond the end fill the gaps before it; pinned blocks stay, wherever they are. With
    `keep_cached` cached content is packed, too; otherwise what lies in a gap changes places.
    """
    live, end = blocks.live(keep_cached), _end(blocks, keep_cached)
    movable = live & ~blocks.pinned
    late = np.flatnonzero(movable[end:]) + end
    gaps = np.flatnonzero(~live[:end] & ~blocks.pinned[:end])
    return complete(blocks, late, gaps[: late.size])


def plan_sorted_compaction(
    blocks: Blocks, tables: Sequence[I64], *, keep_cached: bool = False
) -> Moves:
    """Return moves after which the occupied blocks lie at the lowest ids, table after table.

    Each table is then one run, unless it shares blocks with one before it or a pinned block is in
    the way. Nearly every block is copied. O(N + ids).
    """
    live = blocks.live(keep_cached) & ~blocks.pinned
    named = np.concatenate([np.zeros(0, np.int64), *tables])
    _, first = np.unique(named, return_index=True)
    order = named[np.sort(first)]
    order = order[live[order]]
    others = live.copy()
    others[order] = False
    order = np.concatenate((order, np.flatnonzero(others)))
    places = np.flatnonzero(~blocks.pinned)[: order.size]
    return complete(blocks, order, places)


def _end(blocks: Blocks, keep_cached: bool) -> int:
    """Return the id before which all occupied blocks that can move have room."""
    count = int(np.count_nonzero(blocks.live(keep_cached) & ~blocks.pinned))
    if count == 0:
        return 0
    return int(np.flatnonzero(~blocks.pinned)[count - 1]) + 1
