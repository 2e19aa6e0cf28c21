"""What the engine tells a tier below the device, and what it gets back from it.

Owns: the seam: when blocks are written down (evicted, given back, preempted), how many leading
blocks of a prompt the tier adds to the device's hit, their way back into new blocks, and how much
longer a step takes for it. Leaves to others: the tier's inside (`kvatlas.tiers`).

Without a tier (`Pool.tier` is None) none of this exists in compiled code, as in `evicting`. With
one there is a single full-attention group. A content stays in the tier when it is brought back, so
that it need not be written again; what the tier has is not written twice.
"""

from __future__ import annotations

from kvatlas.engine.kernels import recording
from kvatlas.engine.kernels.identity import fill_keys
from kvatlas.engine.kernels.state import I32, NONE, NULL_BLOCK, Engine, Pool
from kvatlas.events import schema
from kvatlas.jit import inlined, kernel
from kvatlas.tiers import _store_kernel as store_
from kvatlas.tiers._state_kernel import (
    ALWAYS,
    BY_COST,
    IN,
    NEVER,
    ON_EVICTION,
    ON_FREE,
    OUT,
    Tier,
)

_PIECE = 64
"""Keys that are made at a time."""


@inlined
def extended(engine: Engine, tier: Tier | None, row: int, max_length: int, hit: int) -> int:
    """Return `hit`, the tokens found on the device, with those that the tier has after them.

    The slots are kept for `adopt`. Changes nothing else; O(blocks found).
    """
    if tier is None:
        return hit
    return _extended(engine, tier, row, max_length, hit)


@kernel
def _extended(engine: Engine, tier: Tier, row: int, max_length: int, hit: int) -> int:
    info = tier.info
    info.found = 0
    if info.swap == NEVER and engine.requests[row].preemptions > 0:
        return hit
    block_size = int(engine.groups[0].block_size)
    if info.swap == BY_COST and info.ms_per_block > block_size * info.ms_per_token:
        return hit
    first, limit = hit // block_size, max_length // block_size
    count = 0
    while first + count < limit:
        piece = min(_PIECE, limit - first - count)
        fill_keys(engine, row, block_size, first + count, piece)
        for i in range(piece):
            slot = store_.find(tier.store, engine.keys[i])
            if slot == NONE:
                info.found = count
                return hit + count * block_size
            tier.found[count] = slot
            count += 1
    info.found = count
    return hit + count * block_size


@inlined
def forget_found(tier: Tier | None) -> None:
    """The request that was looked up is not admitted now."""
    if tier is None:
        return
    tier.info.found = 0


@inlined
def pin(tier: Tier | None) -> None:
    """Keep what was found from being evicted by what the admission itself evicts."""
    if tier is None:
        return
    store_.tell_request(tier.store, tier.store.eviction)
    pin_found(tier)


@inlined
def adopt(engine: Engine, tier: Tier | None, slot: int, first: int) -> None:
    """Bring what was found into the new blocks at table positions `first` and on; O(found)."""
    if tier is None:
        return
    if tier.info.found > 0:
        _adopt(engine, tier, slot, first)


@kernel
def _adopt(engine: Engine, tier: Tier, slot: int, first: int) -> None:
    table, count = engine.table[0, slot], int(tier.info.found)
    if engine.pool.log.info.on != 0:
        recording.swapped_in(engine.pool, table, first, first + count)
    _bring(tier, table, first)
    tier.info.step_in += count


@kernel
def pin_found(tier: Tier) -> None:
    """Keep what was found from being evicted by what its own blocks evict; O(found)."""
    for i in range(tier.info.found):
        store_.tell_used(tier.store, tier.store.eviction, int(tier.found[i]))
        store_.pin(tier.store, int(tier.found[i]))


@kernel
def came_early(tier: Tier, blocks: I32) -> None:
    """What was found has been brought into `blocks` before anybody is admitted; O(found)."""
    count = int(tier.info.found)
    _bring(tier, blocks, 0)
    tier.info.step_early += count


@kernel
def _bring(tier: Tier, blocks: I32, first: int) -> None:
    """List the moves of what was found into `blocks[first:]`, and let it go."""
    info = tier.info
    count = int(info.found)
    for i in range(count):
        _move(tier, IN, int(blocks[first + i]), int(tier.found[i]))
    # The deepest first, as blocks are given back: of one path the beginning is the youngest.
    for i in range(count - 1, -1, -1):
        store_.unpin(tier.store, int(tier.found[i]))
    info.restored += count
    info.found = 0


@inlined
def cached(pool: Pool, tier: Tier | None, table: I32, at: int) -> None:
    """The block `table[at]` has just been cached: note what it hangs from for a policy."""
    if tier is None:
        return
    if tier.above.shape[0] > 1:
        block = int(table[at])
        tier.depth[block] = at
        tier.above[block] = pool.blocks[table[at - 1]].key if at > 0 else NONE


@inlined
def lost_from_queue(pool: Pool, tier: Tier | None, count: int) -> None:
    """The first `count` blocks of the free queue are about to lose their content; O(count)."""
    if tier is None:
        return
    if tier.info.write_back != ON_EVICTION:
        return
    block = int(pool.blocks[pool.blocks.shape[0] - 1].next_free)
    for _ in range(count):
        _save(pool, tier, block)
        block = int(pool.blocks[block].next_free)


@inlined
def lost(pool: Pool, tier: Tier | None, table: I32, start: int, stop: int) -> None:
    """The blocks `table[start:stop]` are about to lose their content; O(length)."""
    if tier is None:
        return
    if tier.info.write_back != ON_EVICTION:
        return
    for i in range(start, stop):
        _save(pool, tier, int(table[i]))


@inlined
def given_back(engine: Engine, tier: Tier | None, row: int, slot: int) -> None:
    """Request `row` is about to give its blocks back: write them if this is the moment; O(blocks).

    The deepest first: where the tier is too small for all, the beginning stays.
    """
    if tier is None:
        return
    _given_back(engine, tier, row, slot)


@kernel
def _given_back(engine: Engine, tier: Tier, row: int, slot: int) -> None:
    info, table = tier.info, engine.table[0, slot]
    # What this very step was to compute is cached already, but a victim's will not be computed.
    computed = int(engine.requests[row].computed // engine.groups[0].block_size)
    length = min(int(engine.tables[0, slot].length), computed)
    preempted = engine.pool.log.info.free_cause == schema.BY_PREEMPTED
    if info.write_back == ON_EVICTION or not (preempted or info.write_back == ON_FREE):
        return
    before = int(info.written)
    if preempted:
        if not _swap_pays(engine, tier, table, length):
            info.recomputed += 1
            return
        info.swapped += 1
    for i in range(length - 1, -1, -1):
        if table[i] != NULL_BLOCK:
            _save(engine.pool, tier, int(table[i]))
    if preempted:
        info.saved_at_preemption += info.written - before


@kernel
def _swap_pays(engine: Engine, tier: Tier, table: I32, length: int) -> bool:
    """Say whether a preempted request's blocks go out and come back sooner than computed again."""
    info = tier.info
    if info.swap != BY_COST:
        return bool(info.swap == ALWAYS)
    full = absent = 0
    for i in range(length):
        key = int(engine.pool.blocks[table[i]].key)
        if table[i] != NULL_BLOCK and key != NONE:
            full += 1
            if store_.find(tier.store, key) == NONE:
                absent += 1
    tokens = full * engine.groups[0].block_size
    return bool((full + absent) * info.ms_per_block < tokens * info.ms_per_token)


@kernel
def _save(pool: Pool, tier: Tier, block: int) -> None:
    """Write what `block` holds to the tier, unless it is there; it is the youngest then."""
    key = int(pool.blocks[block].key)
    if key == NONE:
        return
    info, store = tier.info, tier.store
    slot = store_.find(store, key)
    if slot != NONE:
        info.kept += 1
        store_.refresh(store, slot)
        return
    if tier.above.shape[0] > 1:
        slot = store_.insert(store, key, int(tier.above[block]), int(tier.depth[block]))
    else:
        slot = store_.insert(store, key, NONE, 0)
    if slot == NONE:
        return
    store_.unpin(store, slot)
    info.written += 1
    info.step_out += 1
    if pool.log.info.on != 0:
        recording.swapped_out(pool, block)
    _move(tier, OUT, block, slot)


@inlined
def _move(tier: Tier, direction: int, block: int, slot: int) -> None:
    """List a move for whoever carries it out."""
    room = tier.moves.shape[0]
    if room == 0:
        return
    if tier.info.moves == room:
        tier.info.lost_moves += 1
        return
    at = tier.info.moves
    tier.moves[at, 0] = direction
    tier.moves[at, 1] = block
    tier.moves[at, 2] = slot
    tier.info.moves += 1


@inlined
def lengthened(tier: Tier | None, duration_ms: float) -> float:
    """Return how long a step takes with what moved in it; both directions at once, none hidden.

    What came before its request was admitted moves while the step computes.
    """
    if tier is None:
        return duration_ms
    info = tier.info
    moving_ms = max(info.step_in, info.step_out) * info.ms_per_block
    moving_ms += max(0.0, info.step_early * info.ms_per_block - duration_ms)
    info.step_early = 0
    info.step_in = 0
    info.step_out = 0
    info.moving_ms += moving_ms
    return float(duration_ms + moving_ms)
