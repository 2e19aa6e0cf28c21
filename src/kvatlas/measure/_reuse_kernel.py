"""The compiled loop of `reuse`: who used a block before, and what the cache holds in vain.

Owns: hits by their last user, served prefixes, and integrals over the clock of duplicates, stranded
blocks and unhashed tails. Leaves to others: what can be reached (`_reach_kernel`), names and shares
(`reuse`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import schema
from kvatlas.events.schema import NONE
from kvatlas.jit import entry, inlined, kernel
from kvatlas.measure._keys_kernel import KeyIndex, number_of
from kvatlas.measure._reach_kernel import ROOT, add_holder, drop_holder
from kvatlas.records import Record, Records, record_dtype

I32 = NDArray[np.int32]

HOLDER = record_dtype(
    content="i4",  # number of its key, plus one; 0: none
    user="i4",  # the last request that used it, plus one; 0: unknown
    used="i4",  # 1 while somebody owns it
)
READER = record_dtype(
    session="i4",  # plus one; 0: unknown
    resumed="i4",  # 1 when its last lookup was not its first
    tip="i4",  # number of the last key in its table, plus one
    tip_at="i4",  # the position after it
)
LOOKUPS = record_dtype(
    requests="i8",
    some="i8",  # requests that hit something
    full="i8",  # requests that hit every block they asked for
    asked_tokens="i8",
    hit_tokens="i8",
    asked_blocks="i8",
    hit_blocks="i8",
)
REUSE = record_dtype(
    group="i8",
    block_size="i8",
    step="i8",  # hits end at multiples of this many tokens
    begun="i8",  # 1 once the clock is known
    now_ms="f8",
    span_ms="f8",
    duplicates="i8",  # now, as the next two
    stranded="i8",
    tails="i8",
    most_duplicates="i8",
    most_stranded="i8",
    most_tails="i8",
    duplicates_ms="f8",  # integrals over the clock
    stranded_ms="f8",
    tails_ms="f8",
    within="i8",  # hits of first admissions on blocks last used in the same session
    across="i8",  # ... in another one
    unknown="i8",  # ... by a request of no known session
    readmitted="i8",  # hits of later admissions
)


class Reuse(NamedTuple):
    """What is known of keys, requests and blocks."""

    keys: Records  # (K,) PREFIX
    numbers: KeyIndex
    readers: Records  # (R,) READER
    blocks: Records  # (N,) HOLDER
    lookups: Records  # (2,) LOOKUPS: first admissions, later ones
    counts: Record  # REUSE


@entry
def follow_reuse(reuse: Reuse, rows: Records, ids: I32) -> None:
    """Take in resolved rows; O(rows + ids + keys that change their state)."""
    counts = reuse.counts
    for at in range(rows.shape[0]):
        row = rows[at]
        event = row.event
        if row.time_ms > counts.now_ms or counts.begun == 0:
            _tick(counts, row.time_ms)
        if event == schema.LOOKED_UP:
            _look_up(reuse, row)
        elif event == schema.ARRIVED:
            reuse.readers[row.request].session = row.session + 1
        elif event == schema.RESET:
            for block in range(reuse.blocks.shape[0]):
                _lose(reuse, reuse.blocks[block])
        elif event == schema.MOVED:
            for i in range(row.count):
                _move(reuse.blocks[ids[row.blocks_at + i]], reuse.blocks[row.to_block + i])
        elif row.blocks_at != NONE and row.group == counts.group:
            if event == schema.ALLOCATED:
                _allocate(reuse, row, ids)
            elif event == schema.CACHED:
                _cache(reuse, row, ids)
            elif event == schema.FREED:
                if row.ref_count == 0:
                    for i in range(row.blocks_at, row.blocks_at + row.count):
                        block = reuse.blocks[ids[i]]
                        if block.content == 0:
                            counts.tails -= block.used
                        block.used = 0
            elif event == schema.EVICTED:
                for i in range(row.blocks_at, row.blocks_at + row.count):
                    _lose(reuse, reuse.blocks[ids[i]])
            elif event == schema.TOUCHED:
                _touch(reuse, row, ids)


@kernel
def _tick(counts: Record, time_ms: float) -> None:
    """Integrate what was, up to `time_ms`."""
    if counts.begun != 0:
        elapsed = time_ms - counts.now_ms
        counts.span_ms += elapsed
        counts.duplicates_ms += counts.duplicates * elapsed
        counts.stranded_ms += counts.stranded * elapsed
        counts.tails_ms += counts.tails * elapsed
        if elapsed > 0:
            # A peak is a state that lasted: within a step an admission passes through others.
            if counts.duplicates > counts.most_duplicates:
                counts.most_duplicates = counts.duplicates
            if counts.stranded > counts.most_stranded:
                counts.most_stranded = counts.stranded
            if counts.tails > counts.most_tails:
                counts.most_tails = counts.tails
    counts.now_ms = time_ms
    counts.begun = 1


@kernel
def _look_up(reuse: Reuse, row: Record) -> None:
    reader, counts = reuse.readers[row.request], reuse.counts
    reader.resumed = 0 if row.cause == schema.BY_NEW else 1
    reader.tip = 0
    reader.tip_at = 0
    if row.computed_tokens == NONE or row.tokens < 1:
        return
    sums = reuse.lookups[reader.resumed]
    asked = (row.tokens - 1) // counts.step * counts.step // counts.block_size
    hit = row.computed_tokens // counts.block_size
    sums.requests += 1
    sums.asked_tokens += row.tokens
    sums.hit_tokens += row.computed_tokens
    sums.asked_blocks += asked
    sums.hit_blocks += hit
    if row.computed_tokens > 0:
        sums.some += 1
    if 0 < asked == hit:
        sums.full += 1


@kernel
def _allocate(reuse: Reuse, row: Record, ids: I32) -> None:
    for i in range(row.blocks_at, row.blocks_at + row.count):
        block = reuse.blocks[ids[i]]
        if block.used == 0 and block.content == 0:
            reuse.counts.tails += 1
        block.used = 1
        block.user = row.request + 1


@kernel
def _cache(reuse: Reuse, row: Record, ids: I32) -> None:
    """Hang new keys below the key before them in the request's table."""
    counts = reuse.counts
    before = ROOT
    if row.request != NONE and row.position > 0:
        reader = reuse.readers[row.request]
        if reader.tip_at == row.position and reader.tip != 0:
            before = reader.tip
    name = row.key
    for i in range(row.count):
        number = number_of(reuse.numbers, name)
        name += row.key_stride
        key = reuse.keys[number]
        if key.parent == 0:
            key.parent = before
            key.depth = row.position + i
        before = number + 1
        block = reuse.blocks[ids[row.blocks_at + i]]
        if block.content != 0:
            drop_holder(reuse.keys, counts, block.content - 1)
        else:
            counts.tails -= block.used
        block.content = number + 1
        add_holder(reuse.keys, counts, number)
    if row.request != NONE and row.count > 0:
        reuse.readers[row.request].tip = before
        reuse.readers[row.request].tip_at = row.position + row.count


@kernel
def _touch(reuse: Reuse, row: Record, ids: I32) -> None:
    if row.request == NONE:
        return
    reader, counts = reuse.readers[row.request], reuse.counts
    user = -1
    served = 0
    for i in range(row.blocks_at, row.blocks_at + row.count):
        block = reuse.blocks[ids[i]]
        if reader.resumed != 0:
            counts.readmitted += 1
        else:
            if block.user != user:
                # Blocks side by side mostly have the same last user.
                user = block.user
                served = reuse.readers[user - 1].session if user != 0 else 0
            if served == 0 or reader.session == 0:
                counts.unknown += 1
            elif served == reader.session:
                counts.within += 1
            else:
                counts.across += 1
            if block.content != 0:
                reuse.keys[block.content - 1].served += 1
        if block.used == 0 and block.content == 0:
            counts.tails += 1
        block.used = 1
        block.user = row.request + 1
        reader.tip = block.content
    reader.tip_at = row.position + row.count


@inlined
def _lose(reuse: Reuse, block: Record) -> None:
    if block.content != 0:
        drop_holder(reuse.keys, reuse.counts, block.content - 1)
        block.content = 0
        reuse.counts.tails += block.used


@inlined
def _move(source: Record, target: Record) -> None:
    target.content = source.content
    target.user = source.user
    target.used = source.used
    source.content = 0
    source.used = 0
