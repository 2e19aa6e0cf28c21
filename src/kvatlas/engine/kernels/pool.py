"""The pool's rules: allocate, cache, touch, free and evict blocks exactly as vLLM does.

Owns: the free queue's order and the ref counts. Leaves to others: which blocks belong to which
request (`manager`), and the index's inside (`prefix_index`).
Mirrors v1/core/block_pool.py and kv_cache_utils.FreeKVCacheBlockQueue of vLLM 0.32.0.
"""

from __future__ import annotations

from kvatlas.engine.kernels import evicting, placing, prefix_index, recording, tiering
from kvatlas.engine.kernels.state import I32, NONE, NULL_BLOCK, Pool
from kvatlas.events import schema
from kvatlas.jit import inlined, kernel


@inlined
def get_new_blocks(pool: Pool, count: int, out: I32, start: int) -> None:
    """Pop `count` blocks from the head of the free queue into `out[start:]`; O(count).

    Popping is what evicts: each block loses the content it still held. The caller has checked that
    `count` blocks are free. An eviction policy chooses otherwise among what is cached, a placement
    among what is free.
    """
    if evicting.take_chosen(pool, pool.eviction, count, out, start):
        return
    if placing.take_placed(pool, pool.placement, count, out, start):
        return
    tiering.lost_from_queue(pool, pool.tier, count)
    blocks = pool.blocks
    sentinel = blocks.shape[0] - 1
    block = int(blocks[sentinel].next_free)
    evicted = 0
    if pool.log.info.on != 0:
        upcoming = block
        for i in range(start, start + count):
            out[i] = upcoming
            upcoming = int(blocks[upcoming].next_free)
        recording.evictions(pool, out, start, count)
    for i in range(start, start + count):
        out[i] = block
        popped = blocks[block]
        popped.ref_count = 1
        if popped.key != NONE:
            prefix_index.remove(pool, block)
            evicted += 1
        block = int(popped.next_free)
    blocks[sentinel].next_free = block
    blocks[block].prev_free = sentinel
    info = pool.info
    info.free -= count
    info.allocations += count
    info.cached -= evicted
    info.evictions += evicted
    if pool.log.info.on != 0:
        recording.allocations(pool, out, start, count)


@inlined
def touch(pool: Pool, block: int) -> None:
    """Add an owner to a hit block; a block nobody owned leaves the free queue; O(1)."""
    if block == NULL_BLOCK:
        return
    touched = pool.blocks[block]
    evicting.touched(pool.eviction, block, touched.ref_count == 0)
    if touched.ref_count == 0:
        placing.touched(pool, pool.placement, block)
        pool.blocks[touched.prev_free].next_free = touched.next_free
        pool.blocks[touched.next_free].prev_free = touched.prev_free
        pool.info.free -= 1
    touched.ref_count += 1


@inlined
def free_blocks(pool: Pool, table: I32, start: int, stop: int, step: int) -> None:
    """Take one owner from each of `table[start:stop:step]`, in that order; O(length).

    Of those that nobody owns any more, the unhashed go to the head of the queue with their order
    kept (LIFO reuse, since PR #42656) and the hashed to its tail (LRU eviction).
    """
    blocks, info = pool.blocks, pool.info
    sentinel = blocks.shape[0] - 1
    head = sentinel  # the last block put at the head, after which the next one goes
    tail = int(blocks[sentinel].prev_free)
    freed = 0
    for i in range(start, stop, step):
        block = int(table[i])
        if block == NULL_BLOCK:
            continue
        old = blocks[block]
        old.ref_count -= 1
        if old.ref_count != 0:
            continue
        freed += 1
        if info.prepend_unhashed != 0 and (old.key == NONE or info.caching == 0):
            after = int(blocks[head].next_free)
            old.prev_free = head
            old.next_free = after
            blocks[head].next_free = block
            blocks[after].prev_free = block
            head = block
            if after == sentinel:
                tail = block
        else:
            old.prev_free = tail
            old.next_free = sentinel
            blocks[tail].next_free = block
            tail = block
            above = i + step if step < 0 or i + step < stop else NONE
            evicting.released(pool, pool.eviction, table, i, above)
    blocks[sentinel].prev_free = tail
    info.free += freed
    placing.freed(pool, pool.placement, table, start, stop, step)
    if pool.log.info.on != 0:
        recording.frees(pool, table, start, stop, step)


@kernel
def uncache(pool: Pool, block: int) -> bool:
    """Drop the content cached in `block`, wherever the block is; say whether there was any."""
    if pool.blocks[block].key == NONE:
        return False
    if pool.log.info.on != 0:
        recording.eviction(pool, block, schema.BY_EXPLICIT)
    evicting.dropped(pool, pool.eviction, block)
    placing.dropped(pool, pool.placement, block)
    prefix_index.remove(pool, block)
    pool.info.cached -= 1
    pool.info.evictions += 1
    return True


@kernel
def reset_prefix_cache(pool: Pool) -> bool:
    """Forget all cached content, only while no block is in use; the free order is kept; O(N)."""
    num_blocks = pool.blocks.shape[0] - 1
    if pool.log.info.on != 0 and pool.info.free == num_blocks - 1:
        recording.reset(pool)
    if pool.info.free != num_blocks - 1:
        return False
    placing.reset(pool, pool.placement)
    for block in range(num_blocks):
        pool.blocks[block].key = NONE
    for group in range(pool.slots.shape[0]):
        for slot in range(pool.slots.shape[1]):
            pool.slots[group, slot] = NONE
    pool.info.cached = 0
    evicting.reset(pool.eviction)
    return True
