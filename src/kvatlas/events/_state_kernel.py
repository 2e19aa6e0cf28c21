"""What each event does to the blocks: owners and cached content, with every claim checked.

Owns: the transition per event. Leaves to others: block tables (`_resolve_kernel`), the free queue's
order, which no event needs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import schema
from kvatlas.events.schema import NONE
from kvatlas.jit import entry, kernel
from kvatlas.records import Record, Records, record_dtype

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

COUNTS = record_dtype(used="i8", cached="i8", evictable="i8", bad_row="i8")


class Blocks(NamedTuple):
    """Owners and content of every block."""

    ref_count: I32  # (N,)
    key: I64  # (N,) NONE without content
    counts: Record  # COUNTS


@entry
def apply_rows(blocks: Blocks, rows: Records, ids: I32, start: int, stop: int) -> int:
    """Let rows `[start, stop)` of a resolved chunk change the blocks.

    Returns NONE, or the first block whose state contradicts row `counts.bad_row`. O(rows + ids).
    """
    for at in range(start, stop):
        row = rows[at]
        if row.event == schema.RESET:
            _reset(blocks)
        elif row.blocks_at != NONE:
            bad = _change(blocks, row, ids)
            if bad != NONE:
                blocks.counts.bad_row = at
                return bad
    return NONE


@kernel
def _change(blocks: Blocks, row: Record, ids: I32) -> int:
    event, counts = row.event, blocks.counts
    ref_count, key = blocks.ref_count, blocks.key
    first = int(row.blocks_at)
    for i in range(row.count):
        block = int(ids[first + i])
        owners = ref_count[block]
        content = row.key + i * int(row.key_stride)
        if event == schema.ALLOCATED:
            if owners != 0 or key[block] != NONE:
                return block
            ref_count[block] = 1
            counts.used += 1
        elif event == schema.TOUCHED:
            if owners + 1 != row.ref_count:
                return block
            ref_count[block] = owners + 1
            if owners == 0:
                counts.used += 1
                counts.evictable -= 1 if key[block] != NONE else 0
        elif event == schema.FREED:
            if owners < 1 or owners - 1 != row.ref_count:
                return block
            ref_count[block] = owners - 1
            if owners == 1:
                counts.used -= 1
                counts.evictable += 1 if key[block] != NONE else 0
        elif event == schema.CACHED:
            if key[block] != NONE:
                return block
            key[block] = content
            counts.cached += 1
            counts.evictable += 1 if owners == 0 else 0
        elif event == schema.EVICTED:
            if key[block] != content:
                return block
            key[block] = NONE
            counts.cached -= 1
            counts.evictable -= 1 if owners == 0 else 0
        elif event == schema.MOVED:
            target = row.to_block + i
            if ref_count[target] != 0 or key[target] != NONE:
                return block
            ref_count[target] = owners
            key[target] = key[block]
            ref_count[block] = 0
            key[block] = NONE
    return NONE


@kernel
def _reset(blocks: Blocks) -> None:
    for block in range(blocks.key.shape[0]):
        blocks.key[block] = NONE
    blocks.counts.cached = 0
    blocks.counts.evictable = 0
