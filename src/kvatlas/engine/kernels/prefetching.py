"""Prefetch for who waits: what the tier below would add to a waiting request's hits comes early.

Owns: bringing those blocks onto the device before the request is admitted. Leaves to others: whose
(`protecting`), what the tier has (`tiering`), how long it takes beside a step (`tiering`).

The blocks become cached content that nobody owns, and are hit at the admission like any other. They
take the room of what would be evicted next: never of what is protected, which is evicted last,
unless a placement that looks further down the queue (`window`) reaches that far.
"""

from __future__ import annotations

from kvatlas.engine.kernels import pool as pool_
from kvatlas.engine.kernels import prefix_index, recording, tiering
from kvatlas.engine.kernels.identity import fill_keys
from kvatlas.engine.kernels.lookup import find_longest_cache_hit
from kvatlas.engine.kernels.pressure_state import Pressure
from kvatlas.engine.kernels.state import NONE, Engine
from kvatlas.events import schema
from kvatlas.jit import inlined, kernel
from kvatlas.tiers._state_kernel import Tier

_PIECE = 64
"""Keys that are made at a time."""


@inlined
def fetch(engine: Engine, pressure: Pressure, tier: Tier | None, row: int, kept: int) -> int:
    """Bring what the tier has for `row` while it fits beside `kept` blocks; return how many."""
    if tier is None:
        return 0
    return _fetch(engine, pressure, tier, row, kept)


@kernel
def _fetch(engine: Engine, pressure: Pressure, tier: Tier, row: int, kept: int) -> int:
    limit = int(engine.requests[row].num_tokens) - 1
    hit, _ = find_longest_cache_hit(engine, row, limit)
    tiering.extended(engine, tier, row, limit, hit)
    count = int(tier.info.found)
    if count == 0:
        return 0
    if count > engine.pool.info.free - kept:
        tiering.forget_found(tier)
        return 0
    pool, log, blocks = engine.pool, engine.pool.log.info, pressure.fetched
    # For the events nobody's table holds these blocks: each row lists them.
    log.request, log.group, log.computed = NONE, 0, NONE
    log.cause, log.free_cause = schema.BY_PREFILL, schema.BY_RELEASED
    block_size = int(engine.groups[0].block_size)
    first = hit // block_size
    before = NONE
    if first > 0:
        before = int(pool.blocks[engine.hits[0, first - 1]].key)
    tiering.pin_found(tier)
    pool_.get_new_blocks(pool, count, blocks, 0)
    for start in range(0, count, _PIECE):
        piece = min(_PIECE, count - start)
        fill_keys(engine, row, block_size, first + start, piece)
        for i in range(piece):
            block, key = int(blocks[start + i]), engine.keys[i]
            prefix_index.insert(pool, 0, key, block, prefix_index.home(pool, key))
            if tier.above.shape[0] > 1:
                tier.depth[block] = first + start + i
                tier.above[block] = before
            before = key
    pool.info.cached += count
    pool.info.inserts += count
    if log.on != 0:
        recording.swapped_in(pool, blocks, 0, count)
        recording.cachings(pool, 0, blocks, 0, count)
    tiering.came_early(tier, blocks)
    pool_.free_blocks(pool, blocks, count - 1, -1, -1)
    pressure.info.removed += count
    pressure.info.prefetched += count
    return count
