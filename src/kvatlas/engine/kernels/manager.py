"""The KV cache manager: give a request its slots, take all its blocks back.

Owns: the order of things in `allocate_slots`. Leaves to others: counting (`demand`), tables
(`tables`), caching (`caching`), lookups (`lookup`), and who asks (`scheduler`).
Mirrors KVCacheManager and KVCacheCoordinator of vLLM 0.32.0 without KV connectors, EAGLE and
context parallelism.
"""

from __future__ import annotations

from kvatlas.engine.kernels import evicting, foresight, lazy, protecting, recording, tiering
from kvatlas.engine.kernels import pool as pool_
from kvatlas.engine.kernels.attention import num_skipped_tokens
from kvatlas.engine.kernels.caching import cache_blocks
from kvatlas.engine.kernels.demand import blocks_to_allocate
from kvatlas.engine.kernels.state import CROSS, FULL, MAMBA_ALIGN, MAMBA_NONE, NONE, SLIDING, Engine
from kvatlas.engine.kernels.tables import (
    adopt_hits,
    allocate_new,
    release_slot,
    remove_skipped,
    take_slot,
)
from kvatlas.jit import kernel


@kernel
def allocate_slots(
    engine: Engine,
    row: int,
    num_new_tokens: int,
    num_hit_tokens: int,
    with_hits: bool,
    full_sequence_must_fit: bool,
    watermark_blocks: int,
) -> bool:
    """Give request `row` slots for `num_new_tokens` beyond its computed and hit tokens.

    Args:
        row: the request; it gets a slot for its block tables if it has none.
        num_new_tokens: tokens to compute now, at least 1.
        num_hit_tokens: tokens just found by `lookup` (`engine.hits`), then in the tier; 0 for a
            running request.
        with_hits: whether any group has hits (vLLM: the computed blocks are not the empty ones).
        full_sequence_must_fit: refuse unless blocks for all tokens are free now.
        watermark_blocks: blocks that must stay free beyond the need.

    Returns:
        False when the pool cannot serve it; then no block has been taken (blocks outside the
        attention window have still been given back, as in vLLM). O(blocks touched).
    """
    requests, config = engine.requests, engine.config
    num_groups = engine.groups.shape[0]
    computed = requests[row].computed + num_hit_tokens
    total_computed = min(computed, config.max_model_len)
    log = engine.pool.log.info
    if log.on != 0:
        decodes = requests[row].slot != NONE and computed >= requests[row].prompt
        recording.slots_begin(
            engine, row, total_computed + num_new_tokens, decodes and num_new_tokens == 1
        )
    if full_sequence_must_fit:
        tokens = min(requests[row].num_tokens, config.max_model_len)
        while True:
            need = watermark_blocks
            for group in range(num_groups):
                need += blocks_to_allocate(
                    engine, group, row, tokens, tokens, total_computed, with_hits, True
                )
            if need <= engine.pool.info.free:
                break
            if not lazy.hurry(engine, engine.pressure):
                log.needed = need
                return False
    main_tokens = total_computed + num_new_tokens
    tokens = min(main_tokens + config.num_lookahead_tokens, config.max_model_len)
    slot = int(requests[row].slot)
    processed = max(0, total_computed - requests[row].in_flight)
    if slot != NONE:
        remove_skipped(engine, row, processed)
    while True:
        need = watermark_blocks
        for group in range(num_groups):
            need += blocks_to_allocate(
                engine, group, row, tokens, main_tokens, computed, with_hits, False
            )
        if need <= engine.pool.info.free:
            break
        if not lazy.hurry(engine, engine.pressure):
            log.needed = need
            return False
    if need > 0 and slot != NONE and num_new_tokens == 1 and computed >= requests[row].prompt:
        tokens = foresight.tokens_ahead(engine, engine.pressure, row, tokens, main_tokens, need)
    free_before = engine.pool.info.free
    if slot == NONE:
        slot = take_slot(engine, row)
        evicting.request_begins(engine.pool.eviction)
        tiering.pin(engine.pool.tier)
    if with_hits:
        for group in range(num_groups):
            adopt_hits(engine, group, slot, computed)
    for group in range(num_groups):
        allocate_new(engine, group, row, tokens, main_tokens)
    tiering.adopt(engine, engine.pool.tier, slot, int(engine.scratch[0].num_hits))
    protecting.removed(engine.pressure, free_before - engine.pool.info.free)
    if engine.pool.info.caching != 0:
        cache_blocks(engine, row, min(main_tokens, requests[row].num_tokens))
    requests[row].quiet_until = _quiet_until(engine, slot, processed)
    return True


@kernel
def free(engine: Engine, row: int) -> None:
    """Take the request's blocks from it, group by group, last block first; O(blocks).

    The log's `free_cause` says why.
    """
    tables, log = engine.tables, engine.pool.log.info
    log.request = row
    slot = engine.requests[row].slot
    if slot == NONE:
        return
    evicting.request_ends(engine, engine.pool.eviction, row)
    tiering.given_back(engine, engine.pool.tier, row, slot)
    for group in range(engine.groups.shape[0]):
        log.group = group
        pool_.free_blocks(
            engine.pool, engine.table[group, slot], tables[group, slot].length - 1, -1, -1
        )
    release_slot(engine, row, slot)


@kernel
def _quiet_until(engine: Engine, slot: int, processed: int) -> int:
    """Return the number of tokens up to which decoding neither allocates, caches nor frees.

    `processed` is what the last removal of skipped blocks went by.
    """
    groups, tables = engine.groups, engine.tables
    quiet = engine.config.max_model_len
    for group in range(groups.shape[0]):
        kind = groups[group].kind
        if kind == MAMBA_ALIGN or kind == MAMBA_NONE:
            return 0
        if kind == CROSS:
            continue
        block_size = groups[group].block_size
        quiet = min(
            quiet,
            tables[group, slot].length * block_size - engine.config.num_lookahead_tokens,
        )
        if engine.pool.info.caching != 0:
            quiet = min(quiet, (max(0, tables[group, slot].cached) + 1) * block_size - 1)
        if kind != FULL:
            # The window moves by a block when `computed` reaches the next block's end.
            skipped = num_skipped_tokens(groups, group, processed) // block_size
            if kind == SLIDING:
                quiet = min(quiet, (skipped + 1) * block_size + groups[group].window - 1)
            else:
                quiet = min(quiet, (processed // groups[group].window + 1) * groups[group].window)
    return int(quiet)
