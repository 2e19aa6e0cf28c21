"""The block tables that finished requests give back: their runs, in the table's order and in any.

Owns: that loop over the events. Leaves to others: what the counts mean (`result`). A finished
request gives back its blocks from the last to the first, in consecutive rows for each group, so a
table is read off the rows themselves and none has to be kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import schema
from kvatlas.jit import entry, inlined, kernel
from kvatlas.records import Records, record_dtype

I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]

END = record_dtype(
    finished="i4",  # 1 when the request has finished and held blocks
    blocks="i4",
    runs="i4",  # maximal ascending runs in the table's order
    any_order_runs="i4",  # maximal runs of the blocks as a set
    copies="i4",  # runs, long ones cut
    any_order_copies="i4",
    hit_tokens="i8",  # at the first admission
    queried_tokens="i8",
)


@entry
def read_ends(ends: Records, held: U8, rows: Records, ids: I32, most_blocks: int) -> None:
    """Fill `ends`, (R,) END, from resolved rows; O(rows + ids of finished requests).

    Args:
        held: (N + 2,) working space, zeros before and after; block b is at b + 1.
        most_blocks: that one copy may move; 0 for any number.
    """
    at, count = 0, rows.shape[0]
    while at < count:
        row = rows[at]
        if row.event == schema.LOOKED_UP and row.cause == schema.BY_NEW:
            ends[row.request].queried_tokens = row.tokens
            ends[row.request].hit_tokens = max(0, row.computed_tokens)
        if not _gives_back(rows, at):
            at += 1
            continue
        stop = at + 1
        while stop < count and _same_table(rows, at, stop):
            stop += 1
        _read_table(ends, held, rows, ids, at, stop, most_blocks)
        at = stop


@inlined
def _gives_back(rows: Records, at: int) -> bool:
    row = rows[at]
    return bool(
        row.event == schema.FREED and row.cause == schema.BY_FINISHED and row.request != schema.NONE
    )


@inlined
def _same_table(rows: Records, first: int, at: int) -> bool:
    return bool(
        _gives_back(rows, at)
        and rows[at].request == rows[first].request
        and rows[at].group == rows[first].group
    )


@kernel
def _read_table(
    ends: Records, held: U8, rows: Records, ids: I32, first: int, stop: int, most_blocks: int
) -> None:
    """Count the table that `rows[first:stop]` give back, deepest block first."""
    blocks = runs = copies = length = 0
    after, after_at = -2, -2  # the block behind this one, and its position
    for at in range(first, stop):
        row = rows[at]
        position = int(row.position)
        for i in range(row.blocks_at, row.blocks_at + row.count):
            block = int(ids[i])
            held[block + 1] = 1
            blocks += 1
            if block + 1 == after and position + 1 == after_at:
                length += 1
            else:
                runs += 1
                copies += _cut(length, most_blocks)
                length = 1
            after, after_at = block, position
            position -= 1
    copies += _cut(length, most_blocks)
    any_runs = any_copies = 0
    for at in range(first, stop):
        row = rows[at]
        for i in range(row.blocks_at, row.blocks_at + row.count):
            block = int(ids[i])
            if held[block] != 0:
                continue
            last = block
            while held[last + 2] != 0:
                last += 1
            any_runs += 1
            any_copies += _cut(last - block + 1, most_blocks)
    for at in range(first, stop):
        row = rows[at]
        for i in range(row.blocks_at, row.blocks_at + row.count):
            held[ids[i] + 1] = 0
    end = ends[rows[first].request]
    end.finished = 1
    end.blocks += blocks
    end.runs += runs
    end.copies += copies
    end.any_order_runs += any_runs
    end.any_order_copies += any_copies


@inlined
def _cut(length: int, most_blocks: int) -> int:
    """Return how many copies a run takes."""
    if length == 0 or most_blocks == 0:
        return min(length, 1)
    return (length + most_blocks - 1) // most_blocks
