"""The compiled loop of `pollution`: which evicted content was asked for again, and whose it was.

Owns: open losses per key. Leaves to others: the words (`pollution`), numbers for keys.

Time is counted in lookups, as in `_misses_kernel`.
"""

from __future__ import annotations

from typing import NamedTuple

from kvatlas.events import schema
from kvatlas.events.schema import NONE
from kvatlas.jit import entry, inlined, kernel
from kvatlas.measure._keys_kernel import KeyIndex, number_of
from kvatlas.measure._misses_kernel import I32
from kvatlas.records import Record, Records, record_dtype

LOSSES = record_dtype(
    holders="i4",  # blocks that have this content now
    gone="i4",  # when it was evicted last
    open="i4",  # evictions since it was asked for last
    charged="i4",  # who cached it before the last of these, plus one; 0: nobody is known
)
ASKER = record_dtype(
    latest="i8",  # number of its last lookup
    blocks="i8",  # leading blocks that it asked for
    polluted="i8",  # blocks of content that it cached, that was evicted and not asked for since
)
FILLED = record_dtype(content="i4", filler="i4")  # each plus one; 0: none
POLLUTION = record_dtype(
    lookups="i8",
    group="i8",
    block_size="i8",
    step="i8",  # hits end at multiples of this many tokens
    lost="i8",  # evictions of content that no other block had
    copies="i8",  # evictions of content that another block still had
    premature="i8",  # of the lost: asked for again
)


class Losses(NamedTuple):
    """What was evicted, and who asks."""

    keys: Records  # (K,) LOSSES
    numbers: KeyIndex
    askers: Records  # (R,) ASKER
    blocks: Records  # (N,) FILLED
    counts: Record  # POLLUTION


@entry
def follow_losses(losses: Losses, rows: Records, ids: I32) -> None:
    """Take in resolved rows; O(rows + ids)."""
    counts = losses.counts
    for at in range(rows.shape[0]):
        row = rows[at]
        event = row.event
        if event == schema.LOOKED_UP:
            counts.lookups += 1
            asker = losses.askers[row.request]
            asker.latest = counts.lookups
            asker.blocks = 0
            if row.tokens > 0:
                whole = (row.tokens - 1) // counts.step * counts.step
                asker.blocks = whole // counts.block_size
        elif event == schema.RESET:
            _forget(losses)
        elif event == schema.MOVED:
            for i in range(row.count):
                source = losses.blocks[ids[row.blocks_at + i]]
                target = losses.blocks[row.to_block + i]
                target.content = source.content
                target.filler = source.filler
                source.content = 0
        elif row.blocks_at != NONE and row.group == counts.group:
            if event == schema.CACHED:
                _cache(losses, row, ids)
            elif event == schema.TOUCHED and row.request != NONE:
                for i in range(row.blocks_at, row.blocks_at + row.count):
                    if losses.blocks[ids[i]].content != 0:
                        _ask(losses, row.request, losses.blocks[ids[i]].content - 1)
            elif event == schema.EVICTED:
                for i in range(row.blocks_at, row.blocks_at + row.count):
                    _evict(losses, losses.blocks[ids[i]])


@kernel
def _cache(losses: Losses, row: Record, ids: I32) -> None:
    """A request that missed a block asked for it, unless it lies behind what a lookup asks for."""
    asked = 0
    if row.request != NONE:
        asked = losses.askers[row.request].blocks
    name = row.key
    for i in range(row.count):
        number = number_of(losses.numbers, name)
        name += row.key_stride
        if 0 <= row.position + i < asked:
            _ask(losses, row.request, number)
        block = losses.blocks[ids[row.blocks_at + i]]
        if block.content != 0:
            losses.keys[block.content - 1].holders -= 1
        block.content = number + 1
        block.filler = row.request + 1
        losses.keys[number].holders += 1


@inlined
def _ask(losses: Losses, request: int, number: int) -> None:
    """Settle the open losses of a key that `request` asked for in its last lookup.

    Of several, only the last can be younger than the lookup: the content came back in between.
    """
    key = losses.keys[number]
    if key.open == 0:
        return
    younger = 1 if key.gone >= losses.askers[request].latest else 0
    losses.counts.premature += key.open - younger
    key.open = younger
    if younger == 0:
        _charge(losses, key, -1)


@inlined
def _evict(losses: Losses, block: Record) -> None:
    if block.content == 0:
        return
    key = losses.keys[block.content - 1]
    block.content = 0
    key.holders -= 1
    if key.holders > 0:
        losses.counts.copies += 1
        return
    if key.open > 0:
        _charge(losses, key, -1)
    key.gone = losses.counts.lookups
    key.open += 1
    key.charged = block.filler
    _charge(losses, key, 1)
    losses.counts.lost += 1


@inlined
def _charge(losses: Losses, key: Record, blocks: int) -> None:
    if key.charged != 0:
        losses.askers[key.charged - 1].polluted += blocks


@kernel
def _forget(losses: Losses) -> None:
    """A reset takes all content away; no eviction, and nobody's fault."""
    for at in range(losses.blocks.shape[0]):
        block = losses.blocks[at]
        if block.content != 0:
            losses.keys[block.content - 1].holders -= 1
            block.content = 0
