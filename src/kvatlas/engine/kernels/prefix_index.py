"""The prefix index: from a key to the blocks that hold its content.

Owns: an open-addressing hash table of block ids per KV cache group (`Pool.slots`; the keys are in
the blocks), and the chain of duplicates behind each slot, kept in insertion order because vLLM
serves the block inserted first. Leaves to others: when a block is cached or evicted (`pool`).

Keys of consecutive blocks of one prompt are mostly consecutive numbers, so the table keeps
2**page_bits of them side by side: one request's lookup walks memory forwards instead of jumping.
Probing is linear in the *transposed* order (all slots of column 0, then column 1, ...): the keys of
one page never queue behind each other, and a full table of any key pattern still terminates.
Equal to vLLM's `BlockHashToBlockMap` (v1/core/block_pool.py, 0.32.0).
"""

from __future__ import annotations

from kvatlas.engine.kernels.state import NONE, Pool
from kvatlas.jit import inlined, kernel

_MASK32 = 0xFFFFFFFF


@inlined
def home(pool: Pool, key: int) -> int:
    """Return the slot where `key` belongs; two multiplicative rounds, products below 2**63."""
    page_bits = pool.info.page_bits
    page = key >> page_bits
    mixed = (page ^ (page >> 32)) & _MASK32
    mixed = (mixed * 0x5BD1E995) & _MASK32
    mixed ^= mixed >> 15
    mixed = (mixed * 0x27D4EB2F) & _MASK32
    mixed ^= mixed >> 13
    num_slots = pool.slots.shape[1]
    column_mask = (1 << page_bits) - 1
    # The column is rotated by other bits of the page's hash: short prompts, which only ever use
    # the first keys of their pages, would otherwise crowd the first columns.
    column = (key + (mixed >> 24)) & column_mask
    pages = num_slots >> page_bits
    return int(((mixed & (pages - 1)) << page_bits) | column)


@inlined
def _after(pool: Pool, slot: int) -> int:
    """Return the slot probed after `slot`: the next page's, then the next column's."""
    num_slots = pool.slots.shape[1]
    slot += 1 << pool.info.page_bits
    if slot >= num_slots:
        slot = slot - num_slots + 1
        if slot >= 1 << pool.info.page_bits:
            slot = 0
    return slot


@inlined
def _rank(pool: Pool, slot: int) -> int:
    """Return the position of `slot` in probing order."""
    pages = pool.slots.shape[1] >> pool.info.page_bits
    return int((slot & ((1 << pool.info.page_bits) - 1)) * pages + (slot >> pool.info.page_bits))


@inlined
def follow(pool: Pool, at: int, before: int, key: int) -> int:
    """Return the home of `key`, given that `before` belongs at slot `at`: mostly the next slot."""
    column_mask = (1 << pool.info.page_bits) - 1
    if key == before + 1 and key & column_mask != 0:
        return int((at & ~column_mask) | ((at + 1) & column_mask))
    return home(pool, key)


@inlined
def find(pool: Pool, group: int, key: int, slot: int) -> int:
    """Return the block first cached under (`key`, `group`), or NONE; O(1) expected.

    `slot` is the key's home.
    """
    while True:
        block = pool.slots[group, slot]
        if block == NONE or pool.blocks[block].key == key:
            return int(block)
        slot = _after(pool, slot)


@inlined
def insert(pool: Pool, group: int, key: int, block: int, slot: int) -> None:
    """Cache `block` under (`key`, `group`), behind earlier duplicates; O(1) expected.

    `slot` is the key's home.
    """
    new = pool.blocks[block]
    new.key = key
    new.group = group
    new.dup_next = NONE
    while True:
        holder = pool.slots[group, slot]
        if holder == NONE:
            pool.slots[group, slot] = block
            new.slot = slot
            new.dup_prev = NONE
            return
        first = pool.blocks[holder]
        if first.key == key:
            last = int(holder) if first.dup_next == NONE else int(first.dup_last)
            pool.blocks[last].dup_next = block
            new.dup_prev = last
            first.dup_last = block
            return
        slot = _after(pool, slot)


@inlined
def remove(pool: Pool, block: int) -> None:
    """Forget `block`'s content; the other duplicates stay in order; O(1) expected."""
    old = pool.blocks[block]
    if old.dup_prev == NONE and old.dup_next == NONE:
        _clear_slot(pool, int(old.group), int(old.slot))
    else:
        _remove_duplicate(pool, block)
    old.key = NONE


@kernel
def _remove_duplicate(pool: Pool, block: int) -> None:
    """Take `block` out of its chain of duplicates."""
    old = pool.blocks[block]
    group = int(old.group)
    after = int(old.dup_next)
    if old.dup_prev == NONE:
        heir = pool.blocks[after]
        pool.slots[group, old.slot] = after
        heir.slot = old.slot
        heir.dup_prev = NONE
        heir.dup_last = old.dup_last
        return
    pool.blocks[old.dup_prev].dup_next = after
    if after != NONE:
        pool.blocks[after].dup_prev = old.dup_prev
    else:
        first = find(pool, group, old.key, home(pool, old.key))
        pool.blocks[first].dup_last = old.dup_prev


@inlined
def _clear_slot(pool: Pool, group: int, hole: int) -> None:
    """Empty a slot and close the gap, so that no probe ever meets a tombstone."""
    slot = _after(pool, hole)
    while pool.slots[group, slot] != NONE:
        block = pool.slots[group, slot]
        moving = pool.blocks[block]
        # It may fill the hole unless its home lies behind the hole, in (hole, slot].
        rank = _rank(pool, slot)
        ring = pool.slots.shape[1] - 1
        from_home = (rank - _rank(pool, home(pool, moving.key))) & ring
        if from_home >= (rank - _rank(pool, hole)) & ring:
            pool.slots[group, hole] = block
            moving.slot = hole
            hole = slot
        slot = _after(pool, slot)
    pool.slots[group, hole] = NONE
