"""Blocks by state and group, and why cached ones lost their content.

Owns: what each event on blocks does to the counts. Leaves to others: requests, time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import schema
from kvatlas.jit import kernel
from kvatlas.records import Record
from kvatlas.watch._tally_state_kernel import Tally

__all__ = ["follow_blocks", "forget_content"]

I32 = NDArray[np.int32]

_OWNED, _CONTENT = 1, 2


@kernel
def follow_blocks(tally: Tally, row: Record, ids: I32) -> None:
    sums, now, event, count = tally.sums, tally.now, row.event, int(row.count)
    group = int(row.group) if 0 < row.group < tally.groups.shape[0] else 0
    if row.cause == schema.BY_CHECKPOINT:
        now.evicted = 0  # said, not done: it changes what is, and counts as nothing
    elif event == schema.ALLOCATED:
        tally.groups[group].allocated += count
        if row.cause == schema.BY_DECODE:
            sums.evicted_decode += now.evicted
        else:
            sums.evicted_prefill += now.evicted
        now.evicted = 0
    elif event == schema.TOUCHED:
        tally.groups[group].touched += count
    elif event == schema.CACHED:
        tally.groups[group].cached += count
    elif event == schema.EVICTED:
        tally.groups[group].evicted += count
        if row.cause == schema.BY_ALLOCATION:
            now.evicted += count
        elif row.cause == schema.BY_REPLACED:
            sums.evicted_replaced += count
        else:
            sums.evicted_explicit += count
    for i in range(row.blocks_at, row.blocks_at + count):
        block = int(ids[i])
        flags = int(tally.flags[block])
        if event == schema.ALLOCATED or event == schema.TOUCHED:
            _mark(tally, block, group, flags | _OWNED)
        elif event == schema.FREED:
            if row.ref_count == 0:
                _mark(tally, block, int(tally.group_of[block]), flags & ~_OWNED)
        elif event == schema.CACHED:
            _mark(tally, block, group, flags | _CONTENT)
        elif event == schema.EVICTED:
            _mark(tally, block, int(tally.group_of[block]), flags & ~_CONTENT)
        elif event == schema.MOVED:
            target = int(row.to_block) + i - int(row.blocks_at)
            _mark(tally, target, int(tally.group_of[block]), flags)
            _mark(tally, block, int(tally.group_of[block]), 0)


@kernel
def forget_content(tally: Tally, counts: bool) -> None:
    """Forget the content of every block; it `counts` unless only a reader did it."""
    tally.sums.resets += int(counts)
    for block in range(tally.flags.shape[0]):
        flags = int(tally.flags[block])
        if flags & _CONTENT:
            tally.sums.forgotten += int(counts)
            _mark(tally, block, int(tally.group_of[block]), flags & ~_CONTENT)


@kernel
def _mark(tally: Tally, block: int, group: int, flags: int) -> None:
    """Let a block have these flags in this group, and all counts follow."""
    now = tally.now
    for sign in range(-1, 2, 2):  # out of the counts, and in again
        if sign > 0:
            tally.flags[block] = flags
            tally.group_of[block] = group
        marked = int(tally.flags[block])
        counts = tally.groups[int(tally.group_of[block])]
        if marked & _OWNED:
            now.used += sign
            now.held += sign * counts.slots
            counts.used += sign
        elif marked & _CONTENT:
            now.evictable += sign
            counts.evictable += sign
