"""The block tables of one moment: runs in the order of each table, in the best order, and edges.

Owns: that loop. Leaves to others: the pool's own runs (`layout`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import entry
from kvatlas.records import Records, record_dtype

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

TABLE_RUNS = record_dtype(blocks="i4", runs="i4", fewest_runs="i4", free_edges="i4")


@entry
def measure_tables(
    tables: Records, offsets: I64, blocks: I32, free: U8, holder: I32, null_below: int
) -> None:
    """Fill `tables`, (T,) TABLE_RUNS, zeroed, from `blocks[offsets[t]:offsets[t + 1]]`.

    Args:
        free: (N + 2,) 1 where block b, at b + 1, is free; 0 at both ends.
        holder: (N + 1,) working space, zeroed.
        null_below: smaller ids are no blocks: those that have left, and the null block.

    O(T + ids).
    """
    one = np.uint64(1)  # unsigned: Numba need not ask whether an index is negative
    for table in range(offsets.shape[0] - 1):
        row = tables[table]
        start, stop = offsets[table], offsets[table + 1]
        held = runs = fewest = edges = 0
        before = -2
        for i in range(start, stop):
            block = int(blocks[i])
            if block < null_below:
                before = -2
                continue
            held += 1
            runs += 1 if block != before + 1 else 0
            before = block
            holder[np.uint64(block)] = table + 1
        for i in range(start, stop):
            if blocks[i] < null_below:
                continue
            at = np.uint64(blocks[i])
            fewest += 1 if holder[at + one] != table + 1 else 0
            edges += int(free[at]) + int(free[at + one + one])
        row.blocks = held
        row.runs = runs
        row.fewest_runs = fewest
        row.free_edges = edges
