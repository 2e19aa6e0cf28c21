"""nano-vLLM's block rules over the engine's pool: look up, take, pop, release, publish.

Owns: the free queue's order and who a key names. Leaves to others: the queue's links and the hash
index (`engine.pool`, `engine.prefix_index`, the same as under the vLLM profile), and which blocks a
sequence wants (`manager`, `block_manager`). Mirrors nanovllm/engine/block_manager.py (see
`config`).

How it differs from vLLM's pool: there is no null block; every freed block goes to the tail; and a
key names one block only. nano-vLLM's dict maps a hash to the block that was published last, and
an entry dies with that block. A block whose entry was taken over by a duplicate, or (before
bb823b3) an entry whose block has been given other content, can never be hit again: both are
forgotten here at once, with the same answers. Taking a hit out of the middle of the free queue is
O(1) here, O(free) in nano-vLLM's deque.
"""

from __future__ import annotations

from kvatlas.engine.kernels import prefix_index, recording
from kvatlas.engine.kernels.pool import get_new_blocks
from kvatlas.engine.kernels.state import I32, I64, NONE, Pool
from kvatlas.events import schema
from kvatlas.jit import kernel


@kernel
def find_run(pool: Pool, keys: I64, count: int, hits: I32, start: int) -> int:
    """Write the blocks of the leading known `keys[:count]` into `hits[start:]`.

    Returns how many there are. O(hits): the walk ends at the first key that names no block.
    """
    for i in range(count):
        key = keys[i]
        block = prefix_index.find(pool, 0, key, prefix_index.home(pool, key))
        if block == NONE:
            return i
        hits[start + i] = block
    return count


@kernel
def num_owned(pool: Pool, hits: I32, count: int) -> int:
    """Return how many of `hits[:count]` some sequence holds already; O(count)."""
    owned = 0
    for i in range(count):
        if pool.blocks[hits[i]].ref_count > 0:
            owned += 1
    return owned


@kernel
def take(pool: Pool, hits: I32, num_hits: int, num_blocks: int, table: I32, start: int) -> None:
    """Fill `table[start:num_blocks]`: the hits first, then from the queue's head; O(num_blocks).

    The caller has checked that enough blocks are free.
    """
    blocks = pool.blocks
    for i in range(num_hits):
        hit = blocks[hits[i]]
        if hit.ref_count == 0:
            blocks[hit.prev_free].next_free = hit.next_free
            blocks[hit.next_free].prev_free = hit.prev_free
            pool.info.free -= 1
        hit.ref_count += 1
        table[start + i] = hits[i]
    if pool.log.info.on != 0:
        recording.touches(pool, table, start, start + num_hits)
    get_new_blocks(pool, num_blocks - start - num_hits, table, start + num_hits)


@kernel
def release(pool: Pool, table: I32, count: int) -> None:
    """Take one owner from each of `table[:count]`, the last block first; O(count).

    What nobody owns any more goes to the tail of the queue, so that a prefix outlives its ends.
    """
    blocks = pool.blocks
    sentinel = blocks.shape[0] - 1
    tail = int(blocks[sentinel].prev_free)
    freed = 0
    for i in range(count - 1, -1, -1):
        block = int(table[i])
        old = blocks[block]
        old.ref_count -= 1
        if old.ref_count == 0:
            old.prev_free = tail
            old.next_free = sentinel
            blocks[tail].next_free = block
            tail = block
            freed += 1
    blocks[sentinel].prev_free = tail
    pool.info.free += freed
    if pool.log.info.on != 0:
        recording.frees(pool, table, count - 1, -1, -1)


@kernel
def publish(pool: Pool, key: int, table: I32, at: int) -> None:
    """Let `key` name `table[at]` from now on, and what it named before no more; O(1) expected."""
    block = int(table[at])
    home = prefix_index.home(pool, key)
    held = prefix_index.find(pool, 0, key, home)
    if held == block:
        return
    pool.info.inserts += 1
    if held == NONE:
        pool.info.cached += 1
        prefix_index.insert(pool, 0, key, block, home)
        if pool.log.info.on != 0:
            recording.cachings(pool, 0, table, at, at + 1)
        return
    # A key names one block, so that its slot has no chain: the new block steps into it.
    if pool.log.info.on != 0:
        recording.eviction(pool, held, schema.BY_REPLACED)
    old, new = pool.blocks[held], pool.blocks[block]
    old.key = NONE
    new.key = key
    new.slot = old.slot
    new.group = 0
    new.dup_next = NONE
    new.dup_prev = NONE
    pool.slots[0, old.slot] = block
    if pool.log.info.on != 0:
        recording.cachings(pool, 0, table, at, at + 1)
