"""Block tables in one piece: the blocks of a request get consecutive ids, in the table's order.

Owns: where a table goes, with the fewest copies. Leaves to others: what its descriptors cost
(`deciding`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kvatlas.defrag.free_runs import in_windows
from kvatlas.defrag.moves import I64, Blocks, Moves, complete

__all__ = ["plan_table", "plan_tables"]


def plan_table(blocks: Blocks, table: I64) -> Moves | None:
    """Return the moves after which `table` is one run; None when pinned blocks are in the way.

    The copies are the fewest of all windows: blocks of the table that are not in their places, and
    other contents that are in theirs, used or cached; those go where the table's blocks have left.
    Of equal windows the first. O(N + blocks of the table).

    Args:
        blocks: the pool.
        table: (B,) ids in the table's order, no null block, none twice.
    """
    size, length = blocks.used.size, table.size
    if length == 0:
        return complete(blocks, table, table)
    member = np.zeros(size, bool)
    member[table] = True
    starts = table - np.arange(length)  # where the window would begin if the block stayed
    possible = (starts >= 0) & (starts <= size - length)
    in_place = np.bincount(starts[possible], minlength=size - length + 1)
    stays = starts[possible & blocks.pinned[table]]
    pinned_in_place = np.bincount(stays, minlength=size - length + 1)
    strangers = in_windows(~blocks.empty & ~member, length)
    copies = length - in_place + strangers
    pinned = int(np.count_nonzero(blocks.pinned[table]))
    fits = (pinned_in_place == pinned) & (in_windows(blocks.pinned, length) == pinned)
    if not fits.any():
        return None
    copies[~fits] = np.iinfo(np.int64).max
    start = int(copies.argmin())
    return complete(blocks, table, start + np.arange(length))


def plan_tables(blocks: Blocks, tables: Sequence[I64]) -> Moves:
    """Return the moves after which each of `tables` is one run, as far as that can be.

    One after another, each with the fewest copies given those before it. Blocks that an earlier
    table shares stay with that one; the rest of the table becomes a run of its own. A table that
    cannot be moved is left as it is. O(tables * N).
    """
    size = blocks.used.size
    new_id, pinned = np.arange(size), blocks.pinned.copy()
    placed = np.zeros(size, bool)
    now = blocks
    for table in tables:
        ids = new_id[table]
        ids = ids[~placed[ids]]
        moves = plan_table(Blocks(now.used, now.cached, pinned), ids)
        if moves is None:
            continue
        step = moves.new_ids()
        now, new_id, ids = now.relabelled(step), step[new_id], step[ids]
        placed[ids] = True
        pinned[ids] = True
    moved = np.flatnonzero((new_id != np.arange(size)) & ~blocks.empty)
    return Moves(size, moved, new_id[moved])
