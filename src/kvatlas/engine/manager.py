"""The KV cache manager's rules: who gets which blocks, what is cached, what is freed, and when.

Owns: `allocate_slots`, `free` and `cache_blocks` over all groups. Leaves to others: the pool's order
(`pool`), lookups (`lookup`), and who asks (`scheduler`).
Mirrors KVCacheManager, KVCacheCoordinator and the single-type managers of vLLM 0.32.0 without KV
connectors, EAGLE and context parallelism.
"""

from __future__ import annotations

from kvatlas.engine import pool as pool_
from kvatlas.engine import prefix_index
from kvatlas.engine.identity import fill_keys, key_at
from kvatlas.engine.lookup import cdiv, num_skipped_tokens
from kvatlas.engine.state import (
    CROSS,
    FULL,
    MAMBA_ALIGN,
    MAMBA_NONE,
    NONE,
    NULL_BLOCK,
    SLIDING,
    Engine,
)
from kvatlas.jit import inlined, kernel


@kernel
def _blocks_to_allocate(
    engine: Engine,
    group: int,
    row: int,
    num_tokens: int,
    main_tokens: int,
    computed: int,
    with_hits: bool,
    admission: bool,
) -> int:
    """Return the free blocks that `group` takes to hold `num_tokens` (`get_num_blocks_to_allocate`).

    Hits that nobody owns count too: touching them takes them out of the free queue.
    """
    pool, groups, tables, requests = engine.pool, engine.groups, engine.tables, engine.requests
    kind = groups[group].kind
    block_size = groups[group].block_size
    slot = requests[row].slot
    held = 0
    tracked = False
    if slot != NONE:
        held = int(tables[group, slot].length)
        tracked = tables[group, slot].cached != NONE
    if kind == CROSS:
        return int(max(cdiv(requests[row].encoder, block_size) - held, 0))
    num_hits = int(engine.scratch[group].num_hits) if with_hits else 0

    if (kind == MAMBA_ALIGN or kind == MAMBA_NONE) and num_hits > 0:
        # A state that another request creates in this very step cannot be read yet: ask for more
        # than the pool has, and so wait for the next step.
        key = pool.blocks[engine.hits[group, num_hits - 1]].key
        for i in range(engine.scratch[group].num_step_keys):
            if engine.step_keys[group, i] == key:
                return engine.config.num_blocks + 1

    if kind == MAMBA_ALIGN:
        # One running state: lookahead tokens have none, and skipped positions stay null.
        new_blocks = cdiv(main_tokens, block_size) - num_hits - held
        if new_blocks > 0:
            new_blocks = min(new_blocks, 1)
        return new_blocks + _unowned(engine, group, 0, num_hits)

    required = cdiv(num_tokens, block_size)
    cap = groups[group].admission_cap
    if admission and cap != NONE:
        required = min(required, cap)
    if tracked:
        return max(required - held, 0)
    skipped = num_skipped_tokens(groups, group, computed) // block_size
    new_blocks = max(required - max(skipped, num_hits + held), 0)
    return int(new_blocks + _unowned(engine, group, max(0, skipped - held), num_hits))


@inlined
def _unowned(engine: Engine, group: int, start: int, stop: int) -> int:
    """Count the hits in `[start, stop)` that sit in the free queue."""
    count = 0
    for i in range(start, stop):
        block = int(engine.hits[group, i])
        if block != NULL_BLOCK and engine.pool.blocks[block].ref_count == 0:
            count += 1
    return count


@kernel
def _remove_skipped(engine: Engine, row: int, processed: int) -> None:
    """Free what attention no longer reads and null it in the tables (`remove_skipped_blocks`)."""
    groups, tables = engine.groups, engine.tables
    slot = engine.requests[row].slot
    for group in range(groups.shape[0]):
        kind = groups[group].kind
        block_size = groups[group].block_size
        length = int(tables[group, slot].length)
        skipped = num_skipped_tokens(groups, group, processed)
        if skipped > 0:
            last = min(skipped // block_size, length)
            if kind == MAMBA_ALIGN:
                first = int(tables[group, slot].mamba_retired)
                if first < last:
                    # Null gaps lie between the states: free_blocks passes over them.
                    _free_span(engine, group, slot, first, last)
                    tables[group, slot].mamba_retired = last
            else:
                first = last
                while first > 0 and engine.table[group, slot, first - 1] != NULL_BLOCK:
                    first -= 1
                _free_span(engine, group, slot, first, last)
        if kind == MAMBA_ALIGN:
            # The state of two steps ago has been copied forward by now.
            state = int(tables[group, slot].mamba_last)
            if (
                state != NONE
                and state < cdiv(processed, block_size) - 1
                and engine.table[group, slot, state] != NULL_BLOCK
            ):
                _free_span(engine, group, slot, state, state + 1)


@kernel
def _free_span(engine: Engine, group: int, slot: int, first: int, last: int) -> None:
    """Free table positions `[first, last)`, the last first, and null them."""
    table = engine.table[group, slot]
    pool_.free_blocks(engine.pool, table, last - 1, first - 1, -1)
    for i in range(first, last):
        table[i] = NULL_BLOCK


@kernel
def _adopt_hits(engine: Engine, group: int, slot: int, computed: int) -> None:
    """Touch the hits and make them the start of the block table (`add_local_computed_blocks`)."""
    tables = engine.tables
    if engine.groups[group].kind == CROSS:
        return
    skipped = num_skipped_tokens(engine.groups, group, computed) // engine.groups[group].block_size
    skipped = max(skipped, 0)
    num_hits = int(engine.scratch[group].num_hits)
    for i in range(skipped):
        engine.table[group, slot, i] = NULL_BLOCK
    for i in range(skipped, num_hits):
        block = int(engine.hits[group, i])
        pool_.touch(engine.pool, block)
        engine.table[group, slot, i] = block
    length = max(skipped, num_hits)
    tables[group, slot].length = length
    tables[group, slot].cached = length


@kernel
def _allocate_new(engine: Engine, group: int, row: int, num_tokens: int, main_tokens: int) -> None:
    """Give `group` slots for `num_tokens` (`allocate_new_blocks`)."""
    groups, tables = engine.groups, engine.tables
    slot = engine.requests[row].slot
    kind = groups[group].kind
    block_size = groups[group].block_size
    length = int(tables[group, slot].length)
    if kind == MAMBA_ALIGN:
        required = cdiv(main_tokens, block_size)
        if required > length:
            if tables[group, slot].mamba_allocated != 0 or length > 0:
                tables[group, slot].mamba_last = length - 1
            for i in range(length, required - 1):
                engine.table[group, slot, i] = NULL_BLOCK
            length = max(length, required - 1)
            pool_.get_new_blocks(engine.pool, 1, engine.table[group, slot], length)
            tables[group, slot].length = length + 1
        tables[group, slot].mamba_allocated = 1
        return
    if kind == CROSS:
        num_tokens = engine.requests[row].encoder
    required = cdiv(num_tokens, block_size)
    if required > length:
        pool_.get_new_blocks(engine.pool, required - length, engine.table[group, slot], length)
        tables[group, slot].length = required


@kernel
def _kept(engine: Engine, group: int, row: int, block: int) -> bool:
    """Say whether a sparse group keeps table position `block` in the cache (`reachable_block_mask`).

    `retention` None keeps what a hit at any aligned length needs, 0 only what a replay of this
    prompt (or of its shared prefix) needs, r > 0 also one tail (or state) per r tokens.
    """
    groups = engine.groups
    kind = groups[group].kind
    block_size = groups[group].block_size
    align = engine.config.scheduler_block
    retention = engine.config.retention
    sliding = kind == SLIDING
    need = cdiv(groups[group].window - 1, block_size) if sliding else 1
    if retention == NONE and not sliding:
        return True
    segment = align if retention == NONE else retention
    if segment != 0:
        per_segment = segment // block_size
        if need >= per_segment or block % per_segment >= per_segment - need:
            return True
    if retention == NONE:
        return False
    for which in range(2):
        boundary = engine.requests[row].prompt - 1 if which == 0 else engine.requests[row].boundary
        if which == 1 and boundary == 0:
            break
        end = boundary // align * align // block_size
        if max(0, end - need) <= block < end:
            return True
    return False


@kernel
def cache_blocks(engine: Engine, row: int, num_tokens: int) -> None:
    """Cache the blocks that `num_tokens` tokens fill; O(blocks newly full) per group."""
    pool, groups, tables = engine.pool, engine.groups, engine.tables
    slot = engine.requests[row].slot
    if engine.config.hybrid != 0:
        num_tokens -= num_tokens % engine.config.scheduler_block
    for group in range(groups.shape[0]):
        kind = groups[group].kind
        block_size = groups[group].block_size
        cached = max(0, tables[group, slot].cached)
        full = num_tokens // block_size
        if cached < full:
            fill_keys(engine, row, block_size, cached, full - cached)
            dense = kind == FULL or (kind != SLIDING and kind != MAMBA_ALIGN and kind != MAMBA_NONE)
            at = 0
            before = NONE - 1
            inserted = 0
            for i in range(cached, full):
                block = int(engine.table[group, slot, i])
                if block == NULL_BLOCK or not (dense or _kept(engine, group, row, i)):
                    continue
                key = engine.keys[i - cached]
                at = prefix_index.follow(pool, at, before, key)
                before = key
                prefix_index.insert(pool, group, key, block, at)
                inserted += 1
                if kind == MAMBA_ALIGN or kind == MAMBA_NONE:
                    _note_step_key(engine, group, key)
            pool.info.cached += inserted
            pool.info.inserts += inserted
            tables[group, slot].cached = full
        if kind == MAMBA_ALIGN:
            _cache_prompt_tail(engine, group, row, num_tokens)


@inlined
def _note_step_key(engine: Engine, group: int, key: int) -> None:
    scratch = engine.scratch
    count = engine.scratch[group].num_step_keys
    for i in range(count):
        if engine.step_keys[group, i] == key:
            return
    engine.step_keys[group, count] = key
    engine.scratch[group].num_step_keys = count + 1


@kernel
def _cache_prompt_tail(engine: Engine, group: int, row: int, num_tokens: int) -> None:
    """Register the state at the prompt's last hash boundary (`_cache_partial_tail_block`).

    Runs at every call while `num_tokens` stands at that boundary, and each time marks the state as
    made in this step, as vLLM does.
    """
    pool, groups, tables = engine.pool, engine.groups, engine.tables
    hash_block = engine.config.hash_block
    boundary = (engine.requests[row].prompt - 1) // hash_block * hash_block
    if num_tokens <= 0 or num_tokens != boundary:
        return
    slot = engine.requests[row].slot
    at = cdiv(num_tokens, groups[group].block_size) - 1
    if at >= tables[group, slot].length:
        return
    block = int(engine.table[group, slot, at])
    if block == NULL_BLOCK:
        return
    key = key_at(engine, row, num_tokens)
    if pool.blocks[block].key == NONE:
        prefix_index.insert(pool, group, key, block, prefix_index.home(pool, key))
        pool.info.cached += 1
        pool.info.inserts += 1
    _note_step_key(engine, group, key)


@kernel
def new_step_starts(engine: Engine) -> None:
    """Forget which states were made in the last step."""
    for group in range(engine.groups.shape[0]):
        engine.scratch[group].num_step_keys = 0


@kernel
def free(engine: Engine, row: int) -> None:
    """Take the request's blocks from it, group by group, last block first; O(blocks)."""
    tables = engine.tables
    slot = engine.requests[row].slot
    if slot == NONE:
        return
    for group in range(engine.groups.shape[0]):
        pool_.free_blocks(
            engine.pool, engine.table[group, slot], tables[group, slot].length - 1, -1, -1
        )
    _release_slot(engine, row, slot)


@kernel
def _take_slot(engine: Engine, row: int) -> int:
    engine.queue.free_slots -= 1
    slot = int(engine.free_slots[engine.queue.free_slots])
    engine.requests[row].slot = slot
    engine.requests[row].quiet_until = 0
    for group in range(engine.groups.shape[0]):
        table = engine.tables[group, slot]
        table.length = 0
        table.cached = NONE
        table.mamba_last = NONE
        table.mamba_retired = 0
        table.mamba_allocated = 0
    return slot


@kernel
def _release_slot(engine: Engine, row: int, slot: int) -> None:
    engine.requests[row].slot = NONE
    engine.free_slots[engine.queue.free_slots] = slot
    engine.queue.free_slots += 1


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
        num_hit_tokens: tokens just found by `lookup` (`engine.hits`), 0 for a running request.
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
    if full_sequence_must_fit:
        tokens = min(requests[row].num_tokens, config.max_model_len)
        need = watermark_blocks
        for group in range(num_groups):
            need += _blocks_to_allocate(
                engine, group, row, tokens, tokens, total_computed, with_hits, True
            )
        if need > engine.pool.info.free:
            return False
    main_tokens = total_computed + num_new_tokens
    tokens = min(main_tokens + config.num_lookahead_tokens, config.max_model_len)
    slot = int(requests[row].slot)
    processed = max(0, total_computed - requests[row].in_flight)
    if slot != NONE:
        _remove_skipped(engine, row, processed)
    need = watermark_blocks
    for group in range(num_groups):
        need += _blocks_to_allocate(
            engine, group, row, tokens, main_tokens, computed, with_hits, False
        )
    if need > engine.pool.info.free:
        return False
    if slot == NONE:
        slot = _take_slot(engine, row)
    if with_hits:
        for group in range(num_groups):
            _adopt_hits(engine, group, slot, computed)
    for group in range(num_groups):
        _allocate_new(engine, group, row, tokens, main_tokens)
    if engine.pool.info.caching != 0:
        cache_blocks(engine, row, min(main_tokens, requests[row].num_tokens))
    requests[row].quiet_until = _quiet_until(engine, slot, processed)
    return True


__all__ = [
    "allocate_slots",
    "cache_blocks",
    "free",
    "new_step_starts",
]
