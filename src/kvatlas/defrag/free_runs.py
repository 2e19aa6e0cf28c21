"""Making room: a run of free blocks with consecutive ids.

Owns: which window of ids to empty, and where its blocks go, with the fewest copies. Leaves to
others: who needs consecutive blocks.
"""

from __future__ import annotations

import numpy as np

from kvatlas.defrag.moves import I64, Blocks, Flags, Moves, complete
from kvatlas.errors import InputError

__all__ = ["in_windows", "plan_free_run"]


def in_windows(members: Flags, length: int) -> I64:
    """Return (N - length + 1,) how many members each window of `length` ids holds; O(N)."""
    sums = np.concatenate(([0], np.cumsum(members, dtype=np.int64)))
    return sums[length:] - sums[:-length]


def plan_free_run(blocks: Blocks, length: int, *, keep_cached: bool = False) -> Moves | None:
    """Return the moves after which `length` consecutive blocks are free; None when impossible.

    The copies are the fewest of all windows: every used block in the window, and every cached block
    that one of them has to change places with because no empty one is left outside. Of equal
    windows the first. O(N).

    Args:
        blocks: the pool; a window holds no pinned block.
        length: blocks.
        keep_cached: cached content counts as occupied, too: the run is of empty blocks.

    Raises:
        InputError: a run of no block.
    """
    if length < 1:
        raise InputError("must be at least 1", field="length", value=length)
    live = blocks.live(keep_cached)
    room = ~live & ~blocks.pinned
    if length > live.size or int(np.count_nonzero(room)) < length:
        return None
    empty = blocks.empty & ~blocks.pinned
    inside = in_windows(live, length)
    outside = int(np.count_nonzero(empty)) - in_windows(empty, length)
    copies = inside + np.maximum(0, inside - outside)
    copies[in_windows(blocks.pinned, length) > 0] = np.iinfo(np.int64).max
    start = int(copies.argmin())
    if copies[start] == np.iinfo(np.int64).max:
        return None
    movers = start + np.flatnonzero(live[start : start + length])
    room[start : start + length] = False
    rooms = np.flatnonzero(room)
    rooms = rooms[np.argsort(~blocks.empty[rooms], kind="stable")][: movers.size]
    return complete(blocks, movers, np.sort(rooms))
