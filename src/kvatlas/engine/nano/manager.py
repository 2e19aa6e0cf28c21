"""nano-vLLM's BlockManager over the engine's rows: can_allocate, allocate, append, and so on.

Owns: which blocks a request wants and which keys its blocks publish. Leaves to others: the pool's
order (`blocks`) and who asks (`scheduler`). Mirrors nanovllm/engine/block_manager.py (see
`config`).

Why keys replace the xxhash chain: nano-vLLM names a full block by xxh64(hash of the block before,
its tokens) and on a hit compares the block's own tokens. That is equality of whole prefixes, by
induction, unless two different prefixes share a 64-bit hash. `engine.identity` gives a number that
is equal exactly when the whole prefix is equal, so both find the same block. (In one case 9e8507e
answers wrongly and we do not: a dead entry whose block was given the same tokens behind another
prefix passes its token check. bb823b3 removes dead entries.)
"""

from __future__ import annotations

from kvatlas.engine.kernels.identity import fill_keys, key_at
from kvatlas.engine.kernels.state import FINISHED, NONE, PREEMPTED, Engine
from kvatlas.engine.nano import blocks
from kvatlas.events import schema
from kvatlas.events._log_kernel import put_request
from kvatlas.jit import kernel

_PIECE = 64
"""Keys that are made at a time: most lookups end early, at the first block nobody holds."""


@kernel
def can_allocate(engine: Engine, row: int, chunked_prefill: int) -> int:
    """Return how many leading blocks of `row` would hit, or NONE when the pool lacks blocks.

    The hits are left in `engine.hits`; O(hits). With chunked prefill, the last block is never
    looked up, so that a token is left to compute, and hits that somebody holds need no free block.
    Before, a full last block hit too, and every block counted.
    """
    pool, block_size = engine.pool, engine.config.hash_block
    num_tokens = engine.requests[row].num_tokens
    wanted = (num_tokens + block_size - 1) // block_size
    free = pool.info.free
    known = wanted - 1
    if chunked_prefill == 0:
        known = num_tokens // block_size
        if free < wanted:
            return NONE
    hits = engine.hits[0]
    found = 0
    while found < known:
        count = min(_PIECE, known - found)
        fill_keys(engine, row, block_size, found, count)
        run = blocks.find_run(pool, engine.keys, count, hits, found)
        found += run
        if run < count:
            break
    if free < wanted and free < wanted - blocks.num_owned(pool, hits, found):
        return NONE
    return found


@kernel
def allocate(engine: Engine, row: int, num_hits: int) -> None:
    """Give `row` a block table: the hits that `can_allocate` left, then new blocks; O(blocks)."""
    request, queue, block_size = engine.requests[row], engine.queue, engine.config.hash_block
    wanted = (request.num_tokens + block_size - 1) // block_size
    queue.free_slots -= 1
    slot = engine.free_slots[queue.free_slots]
    request.slot = slot
    log = engine.pool.log.info
    log.request = row
    log.group = 0
    log.cause = schema.BY_PREFILL
    request.computed = num_hits * block_size
    blocks.take(engine.pool, engine.hits[0], num_hits, wanted, engine.table[0, slot], 0)
    engine.tables[0, slot].length = wanted


@kernel
def append(engine: Engine, row: int) -> bool:
    """Give `row` one more block when its last token is the first of a block; O(1).

    False when that takes a free block and there is none (`can_append`, `may_append` in one).
    """
    request = engine.requests[row]
    if request.num_tokens % engine.config.hash_block != 1:
        return True
    if engine.pool.info.free == 0:
        return False
    length = engine.tables[0, request.slot].length
    table = engine.table[0, request.slot]
    log = engine.pool.log.info
    log.request = row
    log.group = 0
    log.cause = schema.BY_DECODE
    log.computed = request.num_tokens
    blocks.take(engine.pool, engine.hits[0], 0, length + 1, table, length)
    engine.tables[0, request.slot].length = length + 1
    return True


@kernel
def hash_blocks(engine: Engine, row: int, tokens: int) -> None:
    """Publish the blocks that `tokens` more tokens of `row` complete; O(blocks completed)."""
    request, block_size = engine.requests[row], engine.config.hash_block
    first = request.computed // block_size
    stop = (request.computed + tokens) // block_size
    engine.pool.log.info.request = row
    for i in range(first, stop):
        key = key_at(engine, row, (i + 1) * block_size)
        blocks.publish(engine.pool, key, engine.table[0, request.slot], i)


@kernel
def deallocate(engine: Engine, row: int, preempted: bool) -> None:
    """Take all blocks and the slot from `row`, which waits again or is done; O(blocks)."""
    request, queue = engine.requests[row], engine.queue
    slot = request.slot
    log = engine.pool.log
    log.info.request = row
    log.info.group = 0
    log.info.free_cause = schema.BY_PREEMPTED if preempted else schema.BY_FINISHED
    blocks.release(engine.pool, engine.table[0, slot], engine.tables[0, slot].length)
    engine.tables[0, slot].length = 0
    engine.free_slots[queue.free_slots] = slot
    queue.free_slots += 1
    request.slot = NONE
    if log.info.on != 0:
        if preempted:
            put_request(log, schema.PREEMPTED, NONE, row, NONE, int(request.computed))
        else:
            put_request(
                log,
                schema.FINISHED,
                schema.BY_LENGTH,
                row,
                int(request.num_tokens),
                int(request.computed),
            )
    if preempted:
        request.lost = request.computed
        request.computed = 0
        request.preemptions += 1
        request.status = PREEMPTED
    else:
        request.status = FINISHED
